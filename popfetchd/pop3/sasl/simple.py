"""
The mechanisms without a state to speak of: PLAIN, LOGIN, CRAM-MD5, EXTERNAL.

Rules of this file: as in `exchange`. Credentials are octets of UTF-8, without CR, LF and
NUL: the caller has made sure.
"""

from __future__ import annotations

import hmac

from popfetchd.pop3.sasl.exchange import SaslMechanism


class Plain(SaslMechanism):
    """
    PLAIN (RFC 4616): all that there is to say is said first, with no authorization
    identity (§2): the server takes it from the user name.
    """

    name = "PLAIN"
    whole = True

    def __init__(self, user: bytes, password: bytes) -> None:
        self._message = b"\0".join((b"", user, password))

    def initial(self) -> bytes:
        """
        Return the whole message.
        """
        return self._message


class Login(SaslMechanism):
    """
    LOGIN (draft-murchison-sasl-login): asked twice, answered twice.

    What the challenges say differs from server to server, and is not looked at.
    """

    name = "LOGIN"

    def __init__(self, user: bytes, password: bytes) -> None:
        self._left = [password, user]

    def initial(self) -> None:
        """
        Return None: the server asks for the user name.
        """

    def respond(self, challenge: bytes) -> bytes:
        """
        Return the user name, then the password. Raises ProtocolViolation.
        """
        if not self._left:
            raise self.nonsense("a third challenge, where {} has two", challenge)
        return self._left.pop()


class CramMd5(SaslMechanism):
    """
    CRAM-MD5 (RFC 2195): the password is the key of a keyed digest of the challenge.

    The server has to keep the password itself, and whoever sees an exchange can try
    passwords on it: better than to send the password in clear, worse than PLAIN in TLS.
    """

    name = "CRAM-MD5"

    def __init__(self, user: bytes, password: bytes) -> None:
        self._user = user
        self._password = password
        self._asked = False

    def initial(self) -> None:
        """
        Return None: the server begins.
        """

    def respond(self, challenge: bytes) -> bytes:
        """
        Return user name and digest, 32 lower-case hexadecimal digits (§2).

        Raises ProtocolViolation for a second challenge, and for an empty one, whose
        digest would be the same in every exchange.
        """
        if self._asked:
            raise self.nonsense("a second challenge, where {} has one", challenge)
        if not challenge:
            raise self.nonsense("an empty challenge in {}")
        self._asked = True
        digest = hmac.new(self._password, challenge, "md5").hexdigest()
        return self._user + b" " + digest.encode()


class External(SaslMechanism):
    """
    EXTERNAL (RFC 4422 appendix A): the client certificate of the TLS channel is the proof,
    and the user name says whose maildrop is wanted.
    """

    name = "EXTERNAL"
    whole = True

    def __init__(self, user: bytes) -> None:
        self._user = user

    def initial(self) -> bytes:
        """
        Return the authorization identity.
        """
        return self._user
