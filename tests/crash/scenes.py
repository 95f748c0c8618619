"""
What a visit begins with, and what must hold after it was harmed.

Rules of this file:

- A scene is played many times, each time on a copy: the maildrop with all that Dovecot
  knows of it, the archive and the ledger as an earlier visit left them.
- The archive is read here once more, as a mail reader would: nothing of popfetchd is
  called to find out what it did.
- Messages are counted, not only named: two of them are equal octet for octet, and both
  are to be kept.
- Lost: gone from the server, and not whole in the archive. Twice: more often there than
  it was sent. Partial: visible, and no message that was sent. Manual: one more visit
  does not bring all in order by itself.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import time

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from tests.crash.calls import Call
from tests.crash.visits import KILL, PASS, Ended, Visit
from tests.letters import Letter, header, large_body, letters
from tests.live.dovecot import Dovecot, User
from tests.wire import Installation


KINDS = {"plain", "lone dot", "From_ line", "quoted From_ line", "no final newline"}
"""Easy letters, and those that an mbox has to quote or to end."""

SEED = 7


def _letters() -> Iterator[Letter]:
    yield from (each for each in letters(40, SEED) if each.kind in KINDS)
    yield next(each for each in letters(40, SEED) if each.kind == "bare CR")
    large = header(100, SEED) + b"\n" + large_body(300_000, SEED)
    yield Letter("many writes", large)
    yield Letter("twin", header(101, SEED) + b"\none of two\n")
    yield Letter("twin", header(101, SEED) + b"\none of two\n")


LETTERS = list(_letters())

EARLIER = 6
"""So many letters were there at the visit before, in the scenes that have one."""

MOST_CLEAN = 2
"""Visits after which all must be in order: the second only shows that it stays so."""

LOG_PATIENCE = 20.0
"""Seconds that Dovecot may take to end a session whose client has gone."""

FINE_CODES = frozenset({0, 69, 73})
"""What a visit may end with when a system call failed or the line was cut: all well,
the network, the disk. Anything else is another's fault, or a fault of ours."""


@dataclass(frozen=True, slots=True)
class Scene:
    """
    The configuration of a visit, and what was before it.

    *stage* is `fresh` (nothing was), `second` (an earlier visit, and new letters since)
    or `mending` (an earlier visit that was killed while it published).
    """

    format: str
    delete_after: str
    stage: str
    tls: bool = False

    def __str__(self) -> str:
        line = " tls" if self.tls else ""
        return f"{self.format} {self.delete_after} {self.stage}{line}"


@dataclass(slots=True)
class Faults:
    """
    What one point showed: all zero, or popfetchd is wrong.
    """

    lost: int = 0
    twice: int = 0
    partial: int = 0
    manual: int = 0
    unproved: int = 0
    unclean: int = 0
    notes: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.notes)

    def add(self, what: str, count: int, note: str) -> None:
        """
        Count *count* faults of the kind *what*; nothing if there are none.
        """
        if count:
            setattr(self, what, getattr(self, what) + count)
            self.notes.append(f"{count} {what}: {note}")


# -- reading an archive ---------------------------------------------------------------


def _by_stored(sent: Sequence[Letter]) -> dict[bytes, bytes]:
    # Both forms are taken; which of them it must be, the ledger's row says.
    found = {}
    for each in sent:
        found[each.served] = each.served
        lines = each.served.replace(b"\r\n", b"\n")
        if lines.replace(b"\n", b"\r\n") == each.served:
            found[lines] = each.served
    return found


STORED = _by_stored(LETTERS)
"""What the archive may hold of each message, and what the server sent of it."""

DELIVERED = {each.stored: each.served for each in LETTERS}
"""What stands in the maildrop, and what the server sends of it."""

SENT = Counter(DELIVERED[each.stored] for each in LETTERS)
"""Each message that was ever in the maildrop, as the server sends it."""


def in_maildir(site: Installation) -> list[bytes]:
    """
    Return what a reader sees in a maildir.
    """
    files = [*site.files("new"), *site.files("cur")]
    return [path.read_bytes() for path in files]


def in_mbox(site: Installation) -> list[bytes]:
    """
    Return what stands in an mbox (mboxrd), locked or not.
    """
    whole = mbox(site).read_bytes() if mbox(site).exists() else b""
    first = [0] if whole.startswith(b"From ") else []
    begun = [*first, *(at + 2 for at in _everywhere(b"\n\nFrom ", whole))]
    starts = [at for at in begun if whole.find(b"\n", at) > 0]
    ends = [*starts[1:], len(whole)]
    entries = [whole[a:b] for a, b in zip(starts, ends, strict=False)]
    before = whole[: starts[0]] if starts else whole
    # The blank line before the next From_ line is the format's, not the message's.
    bodies = (entry.partition(b"\n")[2].removesuffix(b"\n") for entry in entries)
    return [*filter(None, [before]), *map(_unquoted, bodies)]


def _everywhere(words: bytes, whole: bytes) -> Iterator[int]:
    at = whole.find(words)
    while at >= 0:
        yield at
        at = whole.find(words, at + 1)


def _unquoted(part: bytes) -> bytes:
    return re.sub(rb"(?m)^>(>*From )", rb"\1", part) if b">From " in part else part


def mbox(site: Installation) -> Path:
    """
    Return where the mbox is.
    """
    return site.maildir().with_suffix(".mbox")


READERS: dict[str, Callable[[Installation], list[bytes]]] = {
    "maildir": in_maildir,
    "mbox": in_mbox,
}


# -- one case -------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """
    One copy of a scene, to be harmed and mended.
    """

    scene: Scene
    dovecot: Dovecot
    site: Installation
    directory: Path
    user: User
    log: int

    def configure(self, port: int | None = None) -> None:
        """
        Write the configuration; *port* is in place of Dovecot's own.
        """
        ports, tls = self.dovecot.ports, self.scene.tls
        keys = {"ca_file": self.dovecot.ca_file} if tls else {"tls": "none"}
        suffix = ".mbox" if self.scene.format == "mbox" else ""
        account = self.site.account(
            self.user.name,
            self.user.password,
            port or (ports.pop3s if tls else ports.pop3),
            auth="user",
            delete_after=self.scene.delete_after,
            archive={
                "format": self.scene.format,
                "path": f"{self.directory}/mail/{{account}}{suffix}",
            },
            **keys,
        )
        self.site.configure(account)

    def visit(self) -> Visit:
        """
        Fork a visit; it begins when it is told to.
        """
        return Visit(*self.site.command("fetch", "--json")[3:])

    def matters(self, call: Call) -> bool:
        """
        Tell whether *call* is about the archive, the ledger or the server.
        """
        here = str(self.directory)
        return (
            call.path.startswith(("socket:", f"{here}/state", f"{here}/mail"))
            or call.path == here
        )

    # -- what is where ----------------------------------------------------------------

    def waiting(self) -> list[bytes]:
        """
        Return what stands in the maildrop, in the order of its message-numbers.
        """
        return [DELIVERED[octets] for octets in self.user.contents()]

    def archived(self) -> tuple[Counter[bytes], int]:
        """
        Return the messages that a reader sees, and how many more that are none.
        """
        seen = READERS[self.scene.format](self.site)
        whole = Counter(STORED[octets] for octets in seen if octets in STORED)
        return whole, len(seen) - whole.total()

    def hangs_up(self) -> None:
        """
        Return when Dovecot has ended each session that it began since this case did.

        Or after LOG_PATIENCE: once in some hundred connections that were reset amid TLS
        it does not notice. Such a session sees no QUIT, so that it removes nothing.
        """
        name = self.user.name
        begun = re.compile(rf"Login: user=<{name}>")
        ended = re.compile(rf"pop3\({name}\)<.*(Disconnected|Connection closed)")
        end = time.monotonic() + LOG_PATIENCE
        while time.monotonic() < end:
            lines = self._logged()
            if sum(map(bool, map(begun.search, lines))) <= sum(
                map(bool, map(ended.search, lines))
            ):
                return
            time.sleep(0.002)

    def _logged(self) -> list[str]:
        with (self.dovecot.root / "log").open("rb") as file:
            file.seek(self.log)
            return file.read().decode("utf-8", "replace").splitlines()

    # -- what must hold ---------------------------------------------------------------

    def look(self, faults: Faults) -> None:
        """
        See what must hold at any instant, also while a process lies dead.
        """
        # The server first: what leaves it meanwhile must be in the archive already.
        removed = SENT - Counter(self.waiting())
        archived, partial = self.archived()
        faults.add("lost", (removed - archived).total(), "after the harm")
        faults.add("twice", (archived - SENT).total(), "after the harm")
        if not self._locked():  # who honours the lock does not see what is half written
            faults.add("partial", partial, "after the harm")

    def _locked(self) -> bool:
        path = mbox(self.site)
        return path.with_name(f"{path.name}.lock").exists()

    def mend(self, faults: Faults) -> None:
        """
        Visit again, unharmed, and see that all is in order and stays so.
        """
        for number in range(1, MOST_CLEAN + 1):
            self.configure()
            ended = self.visit().go()
            self._ends_well(ended, faults, f"clean visit {number}")
            archived, partial = self.archived()
            when = f"after clean visit {number}"
            faults.add("lost", (SENT - archived).total(), when)
            faults.add("twice", (archived - SENT).total(), when)
            faults.add("partial", partial, when)
            left = len(LETTERS) if self.scene.delete_after == "never" else 0
            wrong = abs(len(self.waiting()) - left)
            faults.add("manual", wrong, f"of {left} on the server, {when}")
            undone = self._undone()
            faults.add("manual", len(undone), f"undone {when}: {undone[:3]}")

    def _ends_well(self, ended: Ended, faults: Faults, when: str) -> None:
        if ended.code:
            said = ended.stderr.strip().splitlines()[-1:]
            faults.add("manual", 1, f"{when} ended with {ended.code}: {said}")

    def _undone(self) -> list[str]:
        rows = self.site.rows("name, state, marked, form")
        undone = [
            f"row {name} {state} {marked}"
            for name, state, marked, _ in rows
            if state == "recorded" or (state == "published" and marked)
        ]
        if len(rows) != len(LETTERS):
            undone.append(f"{len(rows)} rows for {len(LETTERS)} messages")
        spooled = [
            *self.directory.glob("mail/*/tmp/*"),
            *self.directory.glob("mail/.popfetchd-spool/[0-9]*"),
            *self.directory.glob("mail/*.lock"),
        ]
        return [*undone, *(f"file {path.name}" for path in spooled)]

    def clean(self) -> None:
        """
        Leave no trace.
        """
        shutil.rmtree(self.user.maildir.parent, ignore_errors=True)
        (self.dovecot.root / "users" / self.user.name).unlink()


# -- many cases of a scene ------------------------------------------------------------


class Stage:
    """
    Sets scenes for one worker, in *directory*, each case under the same path.
    """

    def __init__(self, dovecot: Dovecot, directory: Path, worker: str) -> None:
        self._dovecot = dovecot
        self._kept = directory / "kept"
        self._site = directory / "site"
        self._worker = worker
        self._number = 0
        self._kept.mkdir(parents=True)

    def case(self, scene: Scene) -> Case:
        """
        Return a new case of *scene*.
        """
        kept = self._kept / str(scene).replace(" ", "-")
        if not kept.exists():
            self._prepare(scene, kept)
        return self._copy(scene, kept)

    def _copy(self, scene: Scene, kept: Path) -> Case:
        shutil.rmtree(self._site, ignore_errors=True)
        copy_tree(kept / "site", self._site)
        case = self._case(scene, kept / "Maildir")
        case.configure()
        return case

    def _case(self, scene: Scene, maildir: Path | None) -> Case:
        self._number += 1
        user = self._dovecot.add_user(f"{self._worker}n{self._number}", maildir=maildir)
        log = (self._dovecot.root / "log").stat().st_size
        site = Installation(self._site)
        return Case(scene, self._dovecot, site, self._site, user, log)

    def _prepare(self, scene: Scene, kept: Path) -> None:
        shutil.rmtree(self._site, ignore_errors=True)
        self._site.mkdir()
        case = self._case(scene, None)
        if scene.stage == "fresh":
            deliver(case.user, LETTERS)
        elif scene.stage == "second":
            deliver(case.user, LETTERS[:EARLIER])
            earlier = replace(case, scene=replace(scene, delete_after="never"))
            earlier.configure()
            assert 0 == earlier.visit().go().code
            case.hangs_up()
            deliver(case.user, LETTERS[EARLIER:])
        else:
            deliver(case.user, LETTERS)
            case.configure()
            assert 0 > case.visit().go(at_publishing(case)).code
            case.hangs_up()
        copy_tree(self._site, kept / "site")
        copy_tree(case.user.maildir, kept / "Maildir")
        case.clean()


def at_publishing(case: Case) -> Callable[[Call], int]:
    """
    Return a judge that kills when half of the messages have been published.
    """
    seen = Counter[str]()

    def judge(call: Call) -> int:
        into_mbox = call.name == "pwrite64" and call.path.endswith(".mbox")
        into_maildir = call.name == "linkat" and "/tmp/" in call.path
        seen[call.name] += case.matters(call) and (into_mbox or into_maildir)
        return KILL if seen.total() > EARLIER else PASS

    return judge


def deliver(user: User, what: Sequence[Letter]) -> None:
    """
    Put *what* into the maildrop.
    """
    user.deliver(each.stored for each in what)


def copy_tree(source: Path, target: Path) -> None:
    """
    Copy with times, modes and hard links: a published spool file has two names.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["/bin/cp", "-a", source, target], check=True)
