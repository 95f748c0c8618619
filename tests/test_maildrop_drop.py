"""
A maildrop keeps messages, tells them apart, and has one lock.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from popfetchd.maildrop import drop as module
from popfetchd.maildrop.drop import Maildrop
from popfetchd.values import Secret


@pytest.fixture
def drop() -> Maildrop:
    """
    An empty maildrop.
    """
    return Maildrop("alice", Secret("s3cret"))


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (b"a\r\n", b"a\r\n"),
        (b"a", b"a\r\n"),
        (b"a\n", b"a\n\r\n"),
        (b"a\r", b"a\r\r\n"),
        (b"", b""),
    ],
)
def test_a_message_ends_with_crlf_or_is_empty(drop, given, kept):
    """
    What is kept is what a multi-line response can carry, and nothing else is altered.
    """
    assert kept == drop.deliver(given).octets


def test_messages_stand_in_the_order_of_delivery(drop):
    """
    The oldest message is the first.
    """
    delivered = tuple(drop.deliver(octets) for octets in (b"1", b"2", b"3"))
    assert delivered == drop.messages


def test_unique_ids_differ_in_a_maildrop_and_between_maildrops(drop):
    """
    Neither another message nor a new maildrop of the same name repeats a unique-id.
    """
    other = Maildrop("alice", Secret("s3cret"))
    messages = [d.deliver(b"x") for d in (drop, drop, other, other)]
    assert 4 == len({message.unique_id for message in messages})


def test_a_unique_id_may_be_given_even_twice(drop):
    """
    Whoever wants one twice, as real servers have it, gets it.
    """
    drop.deliver(b"1", "same")
    drop.deliver(b"2", "same")
    assert ["same", "same"] == [message.unique_id for message in drop.messages]


def test_removing_one_of_two_equal_copies_leaves_the_other(drop):
    """
    A message is itself and not its content.
    """
    first, second = drop.deliver(b"x", "same"), drop.deliver(b"x", "same")
    drop.remove([second])
    assert (first,) == drop.messages


def test_the_lock_is_exclusive_until_released(drop, monkeypatch):
    """
    A second session is refused while the first one lasts.
    """
    monkeypatch.setattr(module, "LOCK_PATIENCE", 0.01)
    assert drop.acquire()
    assert not drop.acquire()
    drop.release()
    assert drop.acquire()


def test_a_login_waits_for_a_session_that_is_about_to_end(drop):
    """
    Whoever asks for the lock while it is being given back gets it.
    """
    assert drop.acquire()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(drop.acquire)
        drop.release()
        assert waiting.result()


def test_threads_may_deliver_at_once(drop):
    """
    No delivery is lost and no unique-id given twice.
    """
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: drop.deliver(b"x"), range(400)))
    assert 400 == len({message.unique_id for message in drop.messages})


def test_neither_secret_nor_message_is_printed(drop):
    """
    A maildrop in a traceback tells no secret and fills no screen.
    """
    message = drop.deliver(b"x" * 1000)
    assert "s3cret" not in repr(vars(drop))
    assert len(repr(message)) < 100
