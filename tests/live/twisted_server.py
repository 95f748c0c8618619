"""
Twisted's POP3 server on a maildir: a second server that we did not write.

    python -m tests.live.twisted_server MAILDIR

Rules of this file: it runs in a process of its own (its reactor cannot be run twice), in
clear on a port of its own that its first line of output names, until it is killed. USER and
PASS, APOP and CRAM-MD5 are as Twisted has them; so are its quirks: PIPELINE for PIPELINING,
no STLS.
"""

from __future__ import annotations

import sys

from pathlib import Path

from twisted.cred.checkers import InMemoryUsernamePasswordDatabaseDontUse
from twisted.cred.credentials import CramMD5Credentials
from twisted.cred.portal import IRealm, Portal
from twisted.internet import protocol, reactor
from twisted.mail import pop3
from zope.interface import implementer


USER, PASSWORD = "mary", "right horse"


class Mailbox(pop3.Mailbox):
    """
    A maildir. (Twisted's own opens messages as text, which hangs, and cannot delete.)
    """

    def __init__(self, path: Path) -> None:
        self._paths = sorted([*path.glob("new/*"), *path.glob("cur/*")])
        self._marked: set[int] = set()

    def listMessages(self, i=None):  # noqa: N802 -- Twisted's names, here and below
        if i is None:
            return [self.listMessages(n) for n in range(len(self._paths))]
        return 0 if i in self._marked else self._paths[i].stat().st_size

    def getMessage(self, i):  # noqa: N802
        return self._paths[i].open("rb")

    def getUidl(self, i):  # noqa: N802
        return self._paths[i].name.encode()

    def deleteMessage(self, i):  # noqa: N802
        self._paths[i].stat()
        self._marked.add(i)

    def undeleteMessages(self):  # noqa: N802
        self._marked.clear()

    def sync(self):
        for i in self._marked:
            self._paths[i].unlink()


@implementer(IRealm)
class Realm:
    """
    Gives the one maildir to whoever has logged in.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def requestAvatar(self, user, mind, *interfaces):  # noqa: N802 -- Twisted's name
        return pop3.IMailbox, Mailbox(self._path), lambda: None


class Factory(protocol.ServerFactory):
    """
    Makes a POP3 conversation for each connection.
    """

    protocol = pop3.POP3

    def __init__(self, portal: Portal) -> None:
        self._portal = portal

    def buildProtocol(self, addr):  # noqa: N802 -- Twisted's name
        conversation = super().buildProtocol(addr)
        conversation.portal = self._portal
        return conversation

    challengers = {b"CRAM-MD5": CramMD5Credentials}  # noqa: RUF012 -- Twisted's way


def main() -> None:
    """
    Serve until killed.
    """
    checker = InMemoryUsernamePasswordDatabaseDontUse()
    checker.addUser(USER.encode(), PASSWORD.encode())
    factory = Factory(Portal(Realm(Path(sys.argv[1])), [checker]))
    listening = reactor.listenTCP(0, factory, interface="127.0.0.1")
    sys.stdout.write(f"{listening.getHost().port}\n")
    sys.stdout.flush()
    reactor.run()


if __name__ == "__main__":
    main()
