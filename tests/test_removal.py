"""
What may be removed, in which order, and what counts as removed.
"""

from __future__ import annotations

import itertools

from dataclasses import replace

import pytest

from popfetchd.errors import CommandRefused, Disconnected, LocalProtocolError
from popfetchd.removal import (
    Order,
    Proven,
    obey,
    proven_by_content,
    proven_by_header,
    update,
)
from popfetchd.values import Listed, Receipt, RowId, SessionId


HERE, ELSEWHERE = SessionId("here"), SessionId("elsewhere")

RECEIPT = Receipt(
    row=7,
    unique_id="uid-7",
    octets=700,
    header=b"header" * 5,
    content=b"content" * 4,
    archived_at=0.0,
)
LISTED = Listed(HERE, number=3, unique_id="uid-7", octets=700)


def proven(number, session=HERE):
    """
    Return a proof for message *number*, whose row is ten times as much.
    """
    return Proven(replace(RECEIPT, row=10 * number), session, number)


# -- evidence -------------------------------------------------------------------------


def test_an_equal_content_is_proof():
    """
    What this session's RETR gave is the receipt's message; the listing does not matter.
    """
    strange = Listed(HERE, 3, None, 1, times=9)
    assert Proven(RECEIPT, HERE, 3) == proven_by_content(
        RECEIPT, strange, RECEIPT.content
    )


def test_another_content_is_no_proof():
    """
    The same unique-id, number and size do not help where the octets differ.
    """
    assert proven_by_content(RECEIPT, LISTED, b"other") is None
    assert proven_by_content(RECEIPT, LISTED, RECEIPT.header) is None


def test_an_equal_header_is_proof_when_all_agrees():
    """
    One unique-id, standing once, with the recorded octets and header: that is it.
    """
    assert Proven(RECEIPT, HERE, 3) == proven_by_header(RECEIPT, LISTED, RECEIPT.header)


DISAGREEMENTS = {
    "the unique-id stands twice": (RECEIPT, replace(LISTED, times=2)),
    "another unique-id": (RECEIPT, replace(LISTED, unique_id="uid-8")),
    "unique-ids that differ in case": (RECEIPT, replace(LISTED, unique_id="UID-7")),
    "a listing without unique-id": (RECEIPT, replace(LISTED, unique_id=None)),
    "a receipt without unique-id": (replace(RECEIPT, unique_id=None), LISTED),
    "neither has a unique-id": (
        replace(RECEIPT, unique_id=None),
        replace(LISTED, unique_id=None),
    ),
    "other octets": (RECEIPT, replace(LISTED, octets=701)),
    "octets are no longer listed": (RECEIPT, replace(LISTED, octets=None)),
    "octets were not listed then": (replace(RECEIPT, octets=None), LISTED),
    "another header": (replace(RECEIPT, header=b"other"), LISTED),
}


@pytest.mark.parametrize(
    ("receipt", "listed"), DISAGREEMENTS.values(), ids=list(DISAGREEMENTS)
)
def test_any_single_disagreement_is_no_proof(receipt, listed):
    """
    Without retrieving, one doubt is enough to leave the message where it is.
    """
    assert proven_by_header(receipt, listed, RECEIPT.header) is None


def test_sizes_that_were_never_listed_agree():
    """
    A server without LIST has no octets to compare, then and now.
    """
    receipt, listed = replace(RECEIPT, octets=None), replace(LISTED, octets=None)
    found = proven_by_header(receipt, listed, RECEIPT.header)
    assert Proven(receipt, HERE, 3) == found


def test_several_disagreements_are_no_proof_either():
    """
    Two wrongs do not make a right.
    """
    changes = ({"times": 2}, {"unique_id": "uid-8"}, {"octets": 1})
    for one, other in itertools.combinations(changes, 2):
        listed = replace(LISTED, **one, **other)
        assert proven_by_header(RECEIPT, listed, RECEIPT.header) is None


# -- update ---------------------------------------------------------------------------


class Scene:
    """
    A session and a ledger that write down what is asked of them, in one list.

    *refuses* holds the numbers whose DELE gets -ERR; *drops* is raised at this DELE,
    *end* at QUIT.
    """

    id = HERE

    def __init__(self, refuses=(), drops=None, end=None):
        self.told = []
        self.refuses, self.drops, self.end = refuses, drops, end

    def delete(self, numbers):
        for number in numbers:
            self.told.append(f"DELE {number}")
            if number == self.drops:
                raise Disconnected("DELE", "gone")
            no = CommandRefused("DELE", "no") if number in self.refuses else None
            yield number, no

    def quit(self):
        self.told.append("QUIT")
        if self.end is not None:
            raise self.end

    def mark(self, rows):
        self.told.append(f"mark {list(rows)}")

    def unmark(self, rows):
        self.told.append(f"unmark {list(rows)}")

    def removed(self, rows):
        self.told.append(f"removed {list(rows)}")

    def pop(self, rows):
        self.told += [f"pop {sorted(rows)}"] if rows else []


def test_marked_before_dele_and_removed_after_quit():
    """
    The ledger knows of each DELE before it is sent; only the +OK to QUIT removes.
    """
    scene = Scene()
    assert 2 == update(scene, [proven(1), proven(2)], scene)
    assert [
        "mark [10, 20]",
        "DELE 1",
        "DELE 2",
        "unmark []",
        "QUIT",
        "removed [10, 20]",
    ] == scene.told


def test_without_proof_there_is_only_quit():
    """
    Nothing proven, nothing marked, nothing sent but QUIT.
    """
    scene = Scene()
    assert 0 == update(scene, [], scene)
    assert ["QUIT", "removed []"] == scene.told


def test_what_a_server_hides_is_noted_after_the_ok_to_quit():
    """
    What is removed is not hidden as well; without the +OK nothing is noted.
    """
    scene = Scene()
    assert 1 == update(scene, [proven(1)], scene, hidden=[RowId(10), RowId(20)])
    assert ["QUIT", "removed [10]", "pop [20]"] == scene.told[-3:]

    scene = Scene(end=Disconnected("QUIT", "gone"))
    with pytest.raises(Disconnected):
        update(scene, [], scene, hidden=[RowId(10)])
    assert ["QUIT"] == scene.told


def test_a_refused_dele_is_unmarked_and_not_counted():
    """
    What the server would not mark stays, is not marked, and holds up no other.
    """
    scene = Scene(refuses={2})
    assert 2 == update(scene, [proven(1), proven(2), proven(3)], scene)
    assert ["unmark [20]", "QUIT", "removed [10, 30]"] == scene.told[-3:]


@pytest.mark.parametrize(
    "end", [CommandRefused("QUIT", "some not removed"), Disconnected("QUIT", "gone")]
)
def test_without_the_ok_to_quit_nothing_is_removed(end):
    """
    -ERR to QUIT, or none: marks stay marks, and the next listing decides.
    """
    scene = Scene(end=end)
    with pytest.raises(type(end)) as raised:
        update(scene, [proven(1)], scene)
    assert end is raised.value
    assert ["mark [10]", "DELE 1", "unmark []", "QUIT"] == scene.told


def test_a_line_that_drops_among_deles_leaves_the_marks():
    """
    Nobody knows which DELE arrived: all stay marked, and no QUIT is sent.
    """
    scene = Scene(drops=2)
    with pytest.raises(Disconnected):
        update(scene, [proven(1), proven(2), proven(3)], scene)
    assert ["mark [10, 20, 30]", "DELE 1", "DELE 2"] == scene.told


@pytest.mark.parametrize("position", [0, 1, 2])
def test_a_proof_of_another_session_is_refused(position):
    """
    A message-number of another session names another message: nothing is sent at all.
    """
    scene, proofs = Scene(), [proven(1), proven(2)]
    proofs.insert(position, proven(9, ELSEWHERE))
    with pytest.raises(
        LocalProtocolError, match="DELE is not allowed in state another"
    ):
        update(scene, proofs, scene)
    assert [] == scene.told


# -- at a person's word ---------------------------------------------------------------


def order(number, proof=None, session=HERE):
    """
    Return the order to remove message *number*.
    """
    return Order(Listed(session, number, f"uid-{number}", 1), proof)


def test_an_order_without_proof_touches_no_row():
    """
    The message goes; what the ledger knows of others stays as it is.
    """
    scene = Scene()
    orders = [order(1), order(2, proven(2)), order(3)]
    assert {1, 2, 3} == obey(scene, orders, scene)
    assert [
        "mark [20]",
        "DELE 1",
        "DELE 2",
        "DELE 3",
        "unmark []",
        "QUIT",
        "removed [20]",
    ] == scene.told


def test_what_the_server_refuses_was_not_removed():
    """
    With a row or without.
    """
    scene = Scene(refuses={1, 2})
    assert {3} == obey(scene, [order(1), order(2, proven(2)), order(3)], scene)
    assert ["unmark [20]", "QUIT", "removed []"] == scene.told[-3:]


@pytest.mark.parametrize(
    "wrong", [order(1, session=ELSEWHERE), order(1, proven(1, session=ELSEWHERE))]
)
def test_an_order_of_another_session_is_refused(wrong):
    """
    The number would name another message there; nothing is sent at all.
    """
    scene = Scene()
    with pytest.raises(LocalProtocolError):
        obey(scene, [order(2), wrong], scene)
    assert [] == scene.told
