"""
Stories at random: what hypothesis draws them from.
"""

from __future__ import annotations

from dataclasses import replace

from hypothesis import strategies as st

from tests.crash.model_fate import (
    DROPS,
    ENDS,
    FAILURES,
    LEDGER,
    READER,
    Befall,
    Deed,
)
from tests.crash.model_ledger import WRITES
from tests.crash.model_server import Ids
from tests.crash.model_story import Mail, Plan, Story, Theirs


WRITING = (
    "create",
    "pwrite",
    "utime",
    "close",
    "fsync file",
    "fsync folder",
    "syncfs",
    "drop_pages",
    "mkdir",
    "link",
    "rename",
    "unlink",
)
"""The calls that change something, or fail tellingly."""

PUBLISHING = ("link", "rename", "commit")
"""Where a crash leaves something to settle."""

APPENDING = ("record", "pwrite", "fsync file", "commit")
"""The same for an mbox."""

LOOKING = ("lstat", "listdir")
"""Where settle looks for it, and somebody may move it meanwhile."""

READING = ("open", "lstat", "listdir", "pread", "fstat", "flock")

ASKING = ("UIDL", "LIST", "TOP", "RETR", "NOOP", "DELE", "QUIT")
"""The commands of a session after its login."""

NTH = st.integers(0, 4)
"""Most moments come once or a few times for each letter."""

EARLY = st.integers(0, 1)

BITS = st.integers(0, 2**24 - 1)
"""What survives."""

MAIL = st.lists(st.sampled_from(Mail), min_size=1, max_size=2).map(tuple)


def befalls(deeds, moments, nth=NTH):
    """
    Draw one of *deeds* at one of *moments*.
    """
    return st.builds(Befall, st.sampled_from(sorted_(deeds)), moments, nth)


def sorted_(deeds):
    return [deed for deed in Deed if deed in deeds]


def before_or_after(moments):
    return st.sampled_from([m + when for m in moments for when in ("", " done")])


ANY_WRITE = before_or_after(WRITING) | before_or_after(WRITES) | before_or_after(ASKING)

CRASHES = befalls(ENDS, ANY_WRITE)

FAULTS = st.one_of(
    befalls(FAILURES, st.sampled_from(WRITING + READING)),
    befalls({Deed.EIO, Deed.LIE}, st.sampled_from(("fsync file", "syncfs"))),
    befalls(LEDGER, st.sampled_from(WRITES)),
    befalls(DROPS | {Deed.REFUSED}, st.sampled_from(ASKING)),
)

NEIGHBOURS = st.one_of(
    befalls(
        READER | {Deed.CLEANER},
        st.one_of(
            before_or_after(("link", "commit", "QUIT")),
            st.sampled_from(READING + WRITING),
        ),
    ),
    befalls({Deed.NAMESAKE}, st.sampled_from(("utime", "fsync file", "rename"))),
)

UNSURE = st.one_of(
    befalls(ENDS, before_or_after(("mark", "DELE", "QUIT", "removed"))),
    befalls(DROPS | {Deed.REFUSED}, st.sampled_from(("DELE", "QUIT"))),
    befalls(LEDGER, st.just("removed")),
)
"""After these nobody knows whether the server has removed what it was told to."""


@st.composite
def visits(draw, *, first, mbox):
    """
    Draw a visit; to the *first* one there come letters.
    """
    faults = draw(st.lists(FAULTS, max_size=1)) if draw(st.booleans()) else []
    crash = draw(st.lists(CRASHES, max_size=1))
    # Two moves of the reader are what two looks can bear (archive.maildir.LOOKS).
    busy = draw(st.booleans())
    others = draw(st.lists(NEIGHBOURS, max_size=2)) if busy and not mbox else []
    theirs = (
        draw(st.lists(st.sampled_from(Theirs), max_size=2)) if busy and mbox else []
    )
    return Plan(
        mail=tuple(
            draw(
                st.lists(
                    st.sampled_from(Mail),
                    min_size=int(first),
                    max_size=3 if first else 1,
                )
            )
        ),
        ids=draw(st.sampled_from(Ids)) if draw(st.integers(0, 3)) == 3 else Ids.KEPT,
        lie=draw(st.sampled_from((0, 0, 0, 7))),
        theirs=tuple(theirs),
        befalls=(*crash, *faults, *others),
        cut_after=draw(st.booleans()),
        survivors=draw(BITS),
    )


@st.composite
def free(draw, *, mbox):
    """
    Draw up to three visits of which each is anything.
    """
    plans = [draw(visits(first=True, mbox=mbox))]
    more = draw(st.integers(0, 2))
    return plans + [draw(visits(first=False, mbox=mbox)) for _ in range(more)]


@st.composite
def interrupted(draw, *, mbox):
    """
    Draw a visit that ends while it publishes, and what is done before that is settled.

    Among what is free this is too rare to be found.
    """
    moments = before_or_after(APPENDING if mbox else PUBLISHING)
    end = draw(befalls(ENDS, moments, EARLY))
    first = Plan(mail=draw(MAIL), befalls=(end,), survivors=draw(BITS))
    deeds = READER | {Deed.CLEANER}
    other = befalls(deeds, st.sampled_from(LOOKING), EARLY)
    second = Plan(
        befalls=() if mbox else some(draw, other),
        theirs=some(draw, st.sampled_from(Theirs)) if mbox else (),
        cut_after=draw(st.booleans()),
        survivors=draw(BITS),
    )
    return [first, second]


@st.composite
def unsure(draw):
    """
    Draw a visit that ends while it removes, and what the server makes of that.
    """
    first = Plan(mail=draw(MAIL), befalls=(draw(UNSURE),), survivors=draw(BITS))
    second = Plan(mail=draw(MAIL), ids=draw(st.sampled_from(Ids)))
    return [first, second]


def _without_twins(plan):
    return replace(plan, mail=tuple(k for k in plan.mail if k is not Mail.TWIN))


def some(draw, what):
    return tuple(draw(st.lists(what, min_size=1, max_size=2)))


@st.composite
def stories(draw, *, mbox=False):
    """
    Draw a story of a maildir, or of an *mbox*.
    """
    plans = draw(free(mbox=mbox) | interrupted(mbox=mbox) | unsure())
    lacks = draw(st.sampled_from(((), (), ("PIPELINING",), ("UIDL",), ("TOP",))))
    if "UIDL" in lacks or any(p.ids is not Ids.KEPT for p in plans):
        # Of two equal letters only lasting unique-ids tell which one is gone
        # (docs/crash.md): a limit that is known.
        plans = [_without_twins(plan) for plan in plans]
    return Story(
        tuple(plans),
        delete_after=draw(st.sampled_from((None, 0.0, 90.0))),
        links=draw(st.sampled_from((True, True, False))),
        deaf=draw(st.booleans()),
        lacks=lacks,
        lazy=draw(st.booleans()),
        batch=draw(st.sampled_from((100, 1, 2))),
        many=draw(st.sampled_from((8, 1, 2))),
        round=draw(st.sampled_from((5000, 5000, 1, 2))),
        # Where unique-ids move among letters of one length, a letter is taken for
        # another (docs/crash.md): a limit of hints that is known.
        alike=draw(st.booleans()) and all(p.ids is not Ids.SHIFTED for p in plans),
    )
