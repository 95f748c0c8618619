"""
Tests of popfetchd/cores.py.
"""

from __future__ import annotations

import os

from concurrent.futures import ThreadPoolExecutor

import pytest

from popfetchd import cores


def cores_of(initializer=None):
    """
    The cores that a new thread may use.
    """
    with ThreadPoolExecutor(1, initializer=initializer) as pool:
        return pool.submit(os.sched_getaffinity, 0).result()


def test_threads_share_one_core():
    """
    Who is started in the block runs where its starter runs; afterwards all is as before.
    """
    before = os.sched_getaffinity(0)
    with cores.shared():
        shared = os.sched_getaffinity(0)
        assert 1 == len(shared)
        assert shared == cores_of()
    assert before == os.sched_getaffinity(0)


def test_what_needs_no_interpreter_runs_anywhere():
    """
    A thread may leave the core that the others share.
    """
    with cores.shared():
        assert cores.ALLOWED == cores_of(cores.anywhere)


@pytest.mark.parametrize("error", [OSError(1, "no"), AttributeError("not Linux")])
def test_where_nobody_may_choose_nothing_happens(monkeypatch, error):
    """
    A sandbox, or another system: threads run where they run.
    """

    def refuse(*_arguments):
        raise error

    before = os.sched_getaffinity(0)
    monkeypatch.setattr("os.sched_setaffinity", refuse)
    monkeypatch.setattr("os.sched_getaffinity", refuse)
    with cores.shared():
        cores.anywhere()
    monkeypatch.undo()
    assert before == os.sched_getaffinity(0)
