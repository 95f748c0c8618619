"""
The files of a configuration: read, judged whole, told apart.

Rules of this file:

- All mistakes are found and told at once, in the order of the files and their lines.
- A mistake in the main file refuses the configuration. A mistake in a file that it
  takes in holds back that file's accounts, all of them and no others.
- A file that is taken in holds a list of accounts, bare or under `accounts:`; it takes
  in no further files and has no defaults. The main file is never taken in again.
- Paths in a file start from its folder. Of two accounts of one name the first stands.
- An account that is written as it was at the last load, under the same defaults, is not
  judged again, but for what stands outside of it: its neighbours' archives, and files.
- Who may write a configuration is root, in effect: `password_command` runs what is
  written there. Whose file it is is not asked: a container's is seldom its user's.
"""

from __future__ import annotations

import gc
import re
import stat

from collections.abc import Iterator
from collections.abc import Mapping as Environment
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import starmap
from pathlib import Path

from pydantic import ValidationError

from popfetchd.config import files, find, providers, readers, rules
from popfetchd.config.document import (
    Document,
    Mapping,
    Sequence,
    Text,
    called,
    read,
)
from popfetchd.config.mistakes import faults, told
from popfetchd.config.model import Account, Configuration, Defaults
from popfetchd.config.rules import Fault
from popfetchd.errors import ConfigurationError, Mistake


RELATIVE = (
    "ledger",
    "ca_file",
    "client_cert",
    "client_key",
    "password_file",
    "access_token_file",
    "cert_file",
    "key_file",
)
"""Keys whose paths may start from the folder of their file."""

NO_MAPPING = "must be a mapping: lines of `key: value`"
NO_LIST = "must be a list of accounts; each begins with `- name: …`"


@dataclass(frozen=True, slots=True)
class Judged:
    """
    The accounts that were found right, by a digest of what was written of each.

    A digest, since a secret may be written there. *defaults* are those beneath them.
    """

    defaults: Mapping
    accounts: dict[bytes, Account] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Loaded:
    """
    A configuration that can work, and what an operator should know of it.
    """

    configuration: Configuration
    held_back: tuple[Mistake, ...] = ()
    """Why accounts of further files are missing from it."""
    doubts: tuple[Mistake, ...] = ()
    """What works and is seldom meant."""
    judged: Judged = field(default_factory=lambda: Judged(Mapping()), repr=False)
    """For the next load."""


def load(
    path: Path, environ: Environment[str, str], former: Loaded | None = None
) -> Loaded:
    """
    Load the configuration in *path* and the files that it takes in.

    *environ* says where the ledger stands, should the file not. Accounts that are as in
    *former* are the same objects. Raises ConfigurationError, with the mistakes of all
    files, if one is in *path* itself.
    """
    with _uncollected():
        return _load(path, environ, former)


@contextmanager
def _uncollected() -> Iterator[None]:
    """
    Look for no cycles among what is made meanwhile: there are none, and with thousands of
    accounts a fifth of the time would go into it.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _load(path: Path, environ: Environment[str, str], former: Loaded | None) -> Loaded:
    main = read(path)
    root = _root(main)
    book = _Book(former=None if former is None else former.judged)
    whole = _whole(main, root, environ, book.take_defaults(main, root))
    accounts = book.accounts(main, root.get("accounts", Sequence()))
    taken, refused = files.taken_in(main, root)
    main.mistakes += told(main, root, starmap(Fault, refused))
    further = [read(file) for file in taken]
    for document in further:
        accounts += book.further(document)
    held_back = tuple(m for document in further for m in _ordered(document.mistakes))
    if whole is None or main.mistakes:
        raise ConfigurationError([*_ordered(main.mistakes), *held_back])
    doubts = (m for d in (main, *further) if not d.mistakes for m in _ordered(d.doubts))
    configuration = whole.model_copy(update={"accounts": tuple(accounts)})
    judged = Judged(book.defaults, book.judged)
    return Loaded(configuration, held_back, tuple(doubts), judged)


def _ordered(mistakes: list[Mistake]) -> list[Mistake]:
    return sorted(set(mistakes), key=lambda m: (m.line, m.column, m.text))


# -- the main file --------------------------------------------------------------------


def _root(main: Document) -> Mapping:
    if isinstance(main.root, Mapping):
        return main.root
    if main.root is not None:
        main.wrong(main.root.line, main.root.column, NO_MAPPING)
    raise ConfigurationError(main.mistakes)


def _whole(
    main: Document,
    root: Mapping,
    environ: Environment[str, str],
    defaults: Defaults | None,
) -> Configuration | None:
    """
    Return the configuration without its accounts; None if it is mistaken.
    """
    _anchor(root, main.folder)
    http = root.get("http")
    tls = http.get("tls") if isinstance(http, Mapping) else None
    if isinstance(tls, Mapping):
        _anchor(tls, main.folder)
    ledger = find.ledger(environ)
    keys = rules.beneath(root, Mapping(ledger=str(ledger)) if ledger else Mapping())
    keys["defaults"] = defaults or Defaults()
    keys["accounts"] = ()
    main.mistakes += told(main, root, _without_accounts(root))
    try:
        whole = Configuration.model_validate(keys)
    except ValidationError as error:
        main.mistakes += told(main, root, faults(error, Configuration, keys))
        return None
    main.mistakes += told(main, root, rules.unserved(whole.http))
    return whole


def _without_accounts(root: Mapping) -> Iterator[Fault]:
    if root.keys() & {"include", "accounts_dir"}:
        return
    if "accounts" not in root:
        yield Fault((), f"accounts: is missing; it {NO_LIST}")
    elif root["accounts"] == []:
        yield Fault(("accounts",), "holds no account")


def _anchor(mapping: Mapping, folder: Path) -> None:
    """
    Let relative paths in *mapping* start from *folder*.
    """
    for key in RELATIVE:
        path = mapping.get(key)
        if isinstance(path, Text) and path and not path.null and path[0] not in "/~":
            mapping[key] = path.replaced(f"{folder}/{path}")


# -- accounts -------------------------------------------------------------------------


@dataclass(slots=True)
class _Book:
    """
    The accounts of all files, under the defaults of the main one.
    """

    defaults: Mapping = field(default_factory=Mapping)
    names: dict[str, Mistake] = field(default_factory=dict)
    """For each name where it stands; the text of such a mistake is empty."""
    places: rules.Places = field(default_factory=rules.Places)
    former: Judged | None = None
    judged: dict[bytes, Account] = field(default_factory=dict)

    def take_defaults(self, main: Document, root: Mapping) -> Defaults | None:
        """
        Take the defaults in *root* and return them; None if they are mistaken.
        """
        own = root.get("defaults", Mapping())
        if not isinstance(own, Mapping):
            main.mistakes += told(main, root, [Fault(("defaults",), NO_MAPPING)])
            return None
        _anchor(own, main.folder)
        known = {k: v for k, v in own.items() if k in Defaults.model_fields}
        self.defaults = Mapping(known)
        main.mistakes += told(main, own, _written_at_all(main, own), "defaults")
        preset = providers.beneath(own)
        try:
            defaults = Defaults.model_validate(preset)
        except ValidationError as error:
            main.mistakes += told(
                main, own, faults(error, Defaults, preset), "defaults"
            )
            return None
        impossible = (*rules.impossible(own, defaults), *rules.unfit(own, defaults))
        main.mistakes += told(main, own, impossible, "defaults")
        main.doubts += told(main, own, rules.doubts(own, defaults), "defaults")
        return defaults

    def further(self, document: Document) -> list[Account]:
        """
        Return the accounts of a file that is taken in; none if it is mistaken.
        """
        node: object = document.root
        if isinstance(node, Mapping):
            document.mistakes += told(document, node, _not_accounts(node))
            node = node.get("accounts")
        accounts = [] if node is None else self.accounts(document, node)
        return [] if document.mistakes else accounts

    def accounts(self, document: Document, node: object) -> list[Account]:
        """
        Return those accounts of the list *node* that are right.
        """
        if not isinstance(node, Sequence):
            fault = Fault((), f"accounts: {NO_LIST}")
            document.mistakes += told(document, node, [fault])
            return []
        found = (self._account(document, item, n) for n, item in enumerate(node, 1))
        return [account for account in found if account]

    def _account(self, document: Document, own: object, ordinal: int) -> Account | None:
        if not isinstance(own, Mapping):
            fault = Fault((), NO_MAPPING)
            document.mistakes += told(document, own, [fault], f"account {ordinal}")
            return None
        label = self._label(document, own, ordinal)
        _anchor(own, document.folder)
        digest = _digest(document, own)
        account, faulty = self._as_before(own, digest), False
        if account is None:
            account, faulty = self._judge(document, own, label)
        if account is None:
            return None
        if not faulty:
            last = [*self.places.take(account)]
            document.mistakes += told(document, own, last, label)
        if not document.mistakes:
            self.judged[digest] = account
        document.doubts += told(document, own, rules.doubts(own, account), label)
        return account

    def _as_before(self, own: Mapping, digest: bytes) -> Account | None:
        """
        Return the account if it was found right before, and would be now.
        """
        if self.former is None or self.former.defaults != self.defaults:
            return None
        account = self.former.accounts.get(digest)
        # A group's number may have changed; a bare null reads as the word in quotes.
        if account is None or account.archive.group or _holds_null(own):
            return None
        return account

    def _judge(
        self, document: Document, own: Mapping, label: str
    ) -> tuple[Account | None, bool]:
        """
        Return what *own* says of an account, None if nothing; and whether it cannot be.
        """
        merged = providers.beneath(rules.beneath(own, self.defaults))
        first = (*_written_at_all(document, own), *rules.missing(own, merged))
        document.mistakes += told(document, own, first, label)
        try:
            account = Account.model_validate(merged)
        except ValidationError as error:
            found = (f for f in faults(error, Account, merged) if _concerns(own, f))
            document.mistakes += told(document, own, found, label)
            return None, True
        last = [
            *rules.impossible(own, account),
            *rules.unfit(own, account),
            *rules.unfillable(account),
        ]
        document.mistakes += told(document, own, last, label)
        return account, bool(last)

    def _label(self, document: Document, own: Mapping, ordinal: int) -> str:
        """
        Return what sentences call the account, whose name must be the first such.
        """
        name = own.get("name")
        if not isinstance(name, Text) or not re.fullmatch(readers.NAME, name):
            return f"account {ordinal}"
        here = Mistake(document.file, name.line, name.column, "")
        label, first = f"account '{name}'", self.names.setdefault(name, here)
        if first is not here:
            there = f"{first.file}:{first.line}:{first.column}"
            fault = Fault(("name",), f"is the name of another account, at {there}")
            document.mistakes += told(document, own, [fault], label)
        return label


def _digest(document: Document, own: Mapping) -> bytes:
    # What is right in a file that is private may be wrong in another.
    written = f"{document.mode:o} {own!r}"
    return blake2b(written.encode("utf-8", "surrogateescape"), digest_size=16).digest()


def _holds_null(node: object) -> bool:
    if isinstance(node, Mapping):
        return any(map(_holds_null, node.values()))
    if isinstance(node, Sequence):
        return any(map(_holds_null, node))
    return isinstance(node, Text) and node.null


def _written_at_all(document: Document, own: Mapping) -> Iterator[Fault]:
    """
    Yield what may not stand in *own*, whatever the values.
    """
    yield from rules.exclusive(own)
    if document.mode & stat.S_IRWXO:
        for key, instead in rules.inline(own):
            yield Fault(
                (key,),
                f"everyone may read this file (mode {document.mode:04o}); take that away "
                f"with `chmod 0640`{instead}",
            )


def _not_accounts(node: Mapping) -> Iterator[Fault]:
    for key in node:
        if key != "accounts" and isinstance(key, Text):
            text = f"{called(key)}: a file that is taken in holds accounts only"
            yield Fault((), text, (key.line, key.column))
    if "accounts" not in node:
        yield Fault((), "accounts: is missing")


def _concerns(own: Mapping, fault: Fault) -> bool:
    """
    Whether *fault* is the account's: one in the defaults is told there, and once.

    A provider that is mistaken has no host; that it is mistaken is told.
    """
    path = fault.path
    if path == ("host",) and "provider" in own:
        return "host" in own
    return not path or path[0] in own or fault.text == "is missing"
