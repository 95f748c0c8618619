"""
The names of our files in a maildir.

    {seconds}.L{ledger}N{number}R{random}.{host}          while spooled: the *base*
    {seconds}.L{ledger}N{number}R{random}.{host},S={octets}    in the archive

Rules of this file:

- A name is unique (https://cr.yp.to/proto/maildir.html): the ledger's id, a number that
  the ledger gives once, and 128 random bits, so that nobody can guess or occupy it.
- It tells whose it is: recovery knows our files by the ledger's id, never by their age.
- The base holds neither "," nor ":", so that whatever a mail reader adds to a name
  (its flags, its own number) begins after it. `,S=` spares Dovecot a stat.
"""

from __future__ import annotations

import os
import re

from popfetchd.values import LedgerId, Octets


HOST_LENGTH = 64
"""Characters of a host name in a file name; a name may have 255 octets in all."""

STRANGE = re.compile(r"[^A-Za-z0-9._-]")
"""What a host may not bring into a file name; "/" and ":" by DJB, the rest by caution."""

ADDED = re.compile(r"[,:]")
"""What a size, a reader's number or a reader's flags begin with."""

GIVEN = re.compile(r"(\d+)\.L([0-9a-f]{12})N(\d{1,18})R[0-9a-f]{32}\.")
"""A name that some ledger gave: when, which ledger, and its number."""

SIZE = re.compile(r",S=(\d+)")
"""What `final_name` adds."""


def new_base(seconds: float, ledger: LedgerId, number: int, host: str) -> str:
    """
    Return the base of a new file's name.
    """
    unique = f"L{ledger}N{number}R{os.urandom(16).hex()}"
    return f"{int(seconds)}.{unique}.{harmless(host)}"


def harmless(host: str) -> str:
    """
    Return *host* as a part of a file name, each strange octet in octal.
    """
    escaped = STRANGE.sub(_octal, host) or "localhost"
    return escaped[:HOST_LENGTH]


def _octal(found: re.Match[str]) -> str:
    octets = found.group().encode("utf-8", "surrogateescape")
    return "".join(f"\\{octet:03o}" for octet in octets)


def final_name(base: str, stored: Octets) -> str:
    """
    Return the name in the archive of the file spooled as *base*.
    """
    return f"{base},S={stored}"


def base_of(name: str) -> str:
    """
    Return *name* without its size, and without what a mail reader added.
    """
    return ADDED.split(name, maxsplit=1)[0]


def without_flags(name: str) -> str:
    """
    Return *name* without the flags that a mail reader added.
    """
    return name.partition(":")[0]


def stored_in(name: str) -> int:
    """
    Return how many octets the file of final name *name* had when it was published.
    """
    size = SIZE.search(name)
    return int(size[1]) if size else 0


def given(name: str) -> tuple[float, LedgerId, int] | None:
    """
    Return when *name* was given (seconds since 1970), by which ledger, and its number.

    None for a name that popfetchd did not give.
    """
    found = GIVEN.match(name)
    return found and (float(found[1]), LedgerId(found[2]), int(found[3]))


def ours(ledger: LedgerId) -> re.Pattern[str]:
    """
    Return the pattern of the names that *ledger* gave; its group 1 is the number.

    It finds a name also in the midst of others, behind a slash.
    """
    return re.compile(rf"(?<![^/])\d+\.L{ledger}N(\d{{1,18}})R[0-9a-f]{{32}}\.")
