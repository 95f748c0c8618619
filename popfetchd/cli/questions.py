"""
What `popfetchd init` has to know: said by options, or asked on a terminal.

Rules of this file:

- An answer is judged as the configuration will judge it; a person is asked again, an
  option, or one that is missing without a terminal, is wrong usage that names the flag.
- A proposal is shown, and taken by Enter. Without a terminal only what is popfetchd's own
  default is taken: where a password goes to is said by somebody.
- A password is read without echo, or not at all; no option takes one.
"""

from __future__ import annotations

import getpass
import os
import re
import sys
import warnings

from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn, TypeVar

from popfetchd.cli.conversation import Conversation
from popfetchd.cli.exits import Exit
from popfetchd.config import providers, readers
from popfetchd.config.first import First, refuse_taken
from popfetchd.config.providers import Provider
from popfetchd.values import ArchiveFormat, Secret, TlsMode


NEEDED = ("--user", "--host or --provider", "--password-file", "--archive")
"""What nobody can guess."""

HOST_AND_PORT = re.compile(r"(\[[^\[\]]+\]|[^:]*):([0-9]+)")

T = TypeVar("T")
Place = tuple[Provider | None, str | None, int | None]
"""A provider, a host, a port: whichever was said."""


def refuse(problem: str, hint: str) -> NoReturn:
    """
    Tell wrong usage; exit 64.
    """
    print(f"popfetchd: {problem}\n  hint: {hint}", file=sys.stderr)
    raise SystemExit(Exit.USAGE)


class Questions:
    """
    The answers: of *arguments*, else of the person that *talk* is with, if there is one.
    """

    def __init__(self, arguments: Namespace, talk: Conversation | None) -> None:
        self._said = vars(arguments)
        self._talk = talk

    def first(self, folder: Path) -> tuple[First, Secret | None]:
        """
        Return what a configuration in *folder* is to say, and the password if it was
        typed. EOFError when the person has no more to say.
        """
        self._refuse_gaps()
        user = self._answer("user", readers.line, "Mail address, or user name")
        name = self._option("name", readers.name) or called(user)
        provider, host, port = self._server(user)
        tls = self._tls(provider)
        file, password = self._password(folder, name, user)
        kept, path = self._archive()
        first = First(name, user, provider, host, port, tls, file, kept, path)
        return first, password

    def _refuse_gaps(self) -> None:
        gaps = [
            flags for flags in NEEDED if not any(map(self._has, flags.split(" or ")))
        ]
        if gaps and self._talk is None:
            refuse(
                f"init: not said, and no terminal to ask on: {', '.join(gaps)}",
                "`popfetchd init --help` tells each; a password goes into a file, mode 0600",
            )

    def _has(self, flag: str) -> bool:
        return self._said[flag[2:].replace("-", "_")] is not None

    # -- the five -------------------------------------------------------------------------

    def _server(self, user: str) -> Place:
        provider = self._option("provider", known)
        place = self._option("host", host_and_port)
        if provider or place:
            return provider, *(place or (None, None))
        proposed = providers.of_address(user)
        return self._ask(
            provider_or_host,
            "Server, or a provider such as gmail",
            proposed.name if proposed else None,
        )

    def _tls(self, provider: Provider | None) -> TlsMode | None:
        if provider is not None:
            return self._option("tls", mode)
        question = "TLS: implicit (port 995), stls or none (port 110)"
        return self._answer("tls", mode, question, TlsMode.IMPLICIT)

    def _password(
        self, folder: Path, name: str, user: str
    ) -> tuple[str, Secret | None]:
        given = self._option("password_file", whole_path)
        if given is not None:
            return given, None
        file = f"{name}.pass"
        refuse_taken(folder / file)
        return file, self._typed(f"Password of {user} (not shown): ")

    def _typed(self, question: str) -> Secret:
        assert self._talk  # noqa: S101 -- without a terminal a file was needed
        while True:
            if password := unseen(question):
                return Secret(password)
            self._talk.say("  is empty")

    def _archive(self) -> tuple[ArchiveFormat, str]:
        kept = self._answer(
            "format", form, "Archive as maildir or mbox", ArchiveFormat.MAILDIR
        )
        ending = ".mbox" if kept is ArchiveFormat.MBOX else ""
        proposed = whole_path(f"~/Mail/{{account}}{ending}")
        return kept, self._answer("archive", archive, "Archive path", proposed)

    # -- saying and asking ----------------------------------------------------------------

    def _answer(
        self,
        name: str,
        read: Callable[[str], T],
        question: str,
        proposed: str | None = None,
    ) -> T:
        said = self._option(name, read)
        if said is not None:
            return said
        if self._talk is None:
            assert proposed  # noqa: S101 -- there are no gaps
            return read(proposed)
        return self._ask(read, question, proposed)

    def _option(self, name: str, read: Callable[[str], T]) -> T | None:
        said = self._said[name]
        if said is None:
            return None
        try:
            return read(str(said))
        except ValueError as error:
            flag = f"--{name.replace('_', '-')}"
            refuse(
                f"init: {flag}: {error}", "`popfetchd init --help` tells each option"
            )

    def _ask(self, read: Callable[[str], T], question: str, proposed: str | None) -> T:
        assert self._talk  # noqa: S101 -- there are no gaps
        shown = f"{question} [{proposed}]:" if proposed else f"{question}:"
        while True:
            try:
                return read(self._talk.line(shown) or proposed or "")
            except ValueError as error:
                self._talk.say(f"  {error}")


def unseen(question: str) -> str:
    """
    Return what is typed without being shown; exit 64 where a terminal cannot do so.
    """
    with warnings.catch_warnings():
        # Otherwise getpass would only warn, and show it.
        warnings.simplefilter("error", getpass.GetPassWarning)
        try:
            return getpass.getpass(question)
        except getpass.GetPassWarning:
            hint = "write it into a file, mode 0600, and name that with --password-file"
            refuse("init: this terminal would show the password", hint)
        except UnicodeDecodeError:
            refuse(
                "init: the password is not UTF-8", "name a file with --password-file"
            )


# -- what an answer means -------------------------------------------------------------


def called(user: str) -> str:
    """
    Return what an account of *user* is called: what stands before the @, as it may be.
    """
    local = re.sub(
        "[^a-z0-9._-]+", "-", user.rpartition("@")[0].lower() or user.lower()
    )
    return local.lstrip("._-")[:64] or "mail"


def known(text: str) -> Provider:
    """
    Read the name of a provider that takes passwords.
    """
    provider = providers.providers()[providers.read(text)]
    if provider.tokens_only:
        raise ValueError(
            f"{provider.title} takes no password any more; an access token needs a file "
            "written by hand: docs/configuration.md, access_token_command"
        )
    return provider


def provider_or_host(text: str) -> Place:
    """
    Read what may be either; the name of a provider is that.
    """
    name = text.lower()
    if providers.named(name):
        return known(name), None, None
    return None, *host_and_port(text)


def host_and_port(text: str) -> tuple[str, int | None]:
    """
    Read a host name or an address, and perhaps a port; an IPv6 one in brackets then.
    """
    found = HOST_AND_PORT.fullmatch(text)
    if found is None:
        return readers.host(text), None
    port = readers.between(1, readers.HIGHEST_PORT)(found[2])
    return readers.host(found[1].removeprefix("[").removesuffix("]")), port


def mode(text: str) -> TlsMode:
    """
    Read when TLS starts.
    """
    return TlsMode(str(readers.word(TlsMode)(text)))


def form(text: str) -> ArchiveFormat:
    """
    Read how messages are kept.
    """
    return ArchiveFormat(str(readers.word(ArchiveFormat)(text)))


def archive(text: str) -> str:
    """
    Read an archive's path.
    """
    return str(readers.dated_template(whole_path(text)))


def whole_path(text: str) -> str:
    """
    Read a path as a shell would: `~` is one's home, else it starts from this folder.
    """
    # Not pathlib's: one would follow links, the other fail where there is no home.
    return os.path.abspath(os.path.expanduser(readers.line(text)))  # noqa: PTH100, PTH111
