"""
The exit codes: the contract that scripts rely on, written out once more.
"""

from __future__ import annotations

import itertools
import os

import pytest

from popfetchd.cli.exits import OF_REASON, WORST_FIRST, Exit, of_all, of_report, tell
from popfetchd.errors import (
    AuthenticationRefused,
    ConfigurationError,
    Interrupted,
    Mistake,
    Reason,
)
from popfetchd.values import AccountName, PollReport


CODES = """
69   dns connect timeout tls certificate disconnected protocol limit sys_perm
70   internal
73   archive disk_full ledger
75   in_use login_delay sys_temp
77   auth secret
78   configuration
130  interrupted
"""
"""Section 5 of the design."""


def report(**fields):
    """
    Return a report of a visit that took no time.
    """
    return PollReport(AccountName("alice"), 0.0, 0.0, **fields)


def test_each_reason_has_its_code():
    """
    No reason is without a code, and each has the one that is documented.
    """
    lines = (line.split() for line in CODES.strip().splitlines())
    expected = {reason: int(code) for code, *reasons in lines for reason in reasons}
    assert expected == {reason.value: int(code) for reason, code in OF_REASON.items()}
    assert set(Reason) == set(OF_REASON)


@pytest.mark.parametrize(
    ("code", "name"),
    [
        (Exit.OK, "EX_OK"),
        (Exit.USAGE, "EX_USAGE"),
        (Exit.DAMAGED, "EX_DATAERR"),
        (Exit.UNAVAILABLE, "EX_UNAVAILABLE"),
        (Exit.INTERNAL, "EX_SOFTWARE"),
        (Exit.CANNOT_CREATE, "EX_CANTCREAT"),
        (Exit.TRY_AGAIN, "EX_TEMPFAIL"),
        (Exit.NO_PERMISSION, "EX_NOPERM"),
        (Exit.CONFIGURATION, "EX_CONFIG"),
    ],
)
def test_the_codes_are_those_of_sysexits(code, name):
    """
    The numbers are the system's own.
    """
    assert getattr(os, name) == code


def test_of_several_the_one_that_most_needs_a_person_decides():
    """
    70 78 73 65 77 69 75: the first of them that occurred; an interruption above all.
    """
    order = [130, 70, 78, 73, 65, 77, 69, 75, 0]
    assert order == [int(code) for code in WORST_FIRST]
    for worse, better in itertools.combinations(WORST_FIRST, 2):
        assert worse == of_all([better, worse, Exit.OK])


def test_every_code_of_a_visit_has_its_place_in_the_order():
    """
    Whatever visits end with can be compared.
    """
    assert set(OF_REASON.values()) <= set(WORST_FIRST)


def test_no_visit_is_no_failure():
    """
    A configuration without accounts is visited in vain, and well.
    """
    assert Exit.OK == of_all([])


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({}, Exit.OK),
        ({"archived": 3}, Exit.OK),
        ({"failure": AuthenticationRefused("PASS", "no")}, Exit.NO_PERMISSION),
        ({"failure": Interrupted(), "archived": 3}, Exit.INTERRUPTED),
        ({"failed_messages": ("message '1': refused",)}, Exit.UNAVAILABLE),
        (
            {
                "failure": AuthenticationRefused("PASS", "no"),
                "failed_messages": ("message '1': refused",),
            },
            Exit.NO_PERMISSION,
        ),
    ],
)
def test_a_report_has_the_code_of_its_failure(fields, code):
    """
    A visit without failure is well; a message that failed alone is the server's doing.
    """
    assert code == of_report(report(**fields))


def test_a_failure_is_an_error_to_the_journal(tmp_path, monkeypatch):
    """
    What keeps the service from starting is found with `journalctl -p err`.
    """
    with (tmp_path / "journal").open("w+") as stream:
        seen = os.fstat(stream.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{seen.st_dev}:{seen.st_ino}")
        monkeypatch.setattr("sys.stderr", stream)
        tell(
            ConfigurationError(
                [Mistake("a.yaml", 1, 2, "one"), Mistake("b", 0, 0, "two")]
            )
        )
        stream.seek(0)
        lines = stream.read().splitlines()
    assert ["<3>a.yaml:1:2: one", "<3>b: two"] == lines[:2]
    assert lines[2].startswith("<3>  hint: ")
