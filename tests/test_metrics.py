"""
The page that Prometheus reads: whole, against its golden file and its documentation.

`POPFETCHD_GOLDEN=write` writes the golden file anew; read the difference before you
commit it.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
import threading
import types

from pathlib import Path

import pytest

from prometheus_client.parser import text_string_to_metric_families

from popfetchd import metrics as series
from popfetchd.errors import Disconnected, NotProved, Reason
from popfetchd.metrics import (
    MOST_ACCOUNTS,
    Condition,
    Metrics,
    PerAccount,
    Watched,
)
from popfetchd.values import (
    NEVER,
    AccountName,
    AccountState,
    Octets,
    Outcome,
    PollReport,
    Skip,
    Skipped,
    Stage,
    Unproven,
)


HERE = Path(__file__).parent
GOLDEN = HERE / "golden" / "metrics.txt"
DOCS = HERE.parent / "docs" / "metrics.md"
NOW = 1_800_000_000.0

WELL = AccountState(
    last_poll=NOW,
    last_success=NOW,
    next_poll=NOW + 300,
    archived=12,
    maildrop_messages=3,
    maildrop_octets=4096,
    certificate_expiry=NOW + 86400,
)
FAILING = AccountState(
    last_poll=NOW,
    last_success=NOW - 3600,
    next_poll=NOW + 900,
    consecutive_failures=4,
    reason="auth",
    error='the server refused PASS: "no"\n',
    quarantined=1,
    removals_paused=True,
)


def watched(**states):
    return {AccountName(name): Watched(state, 300.0) for name, state in states.items()}


def families(metrics):
    return text_string_to_metric_families(metrics.page().decode())


def value(metrics, name, **labels):
    for family in families(metrics):
        for sample in family.samples:
            if (sample.name, sample.labels) == (f"popfetchd_{name}", labels):
                return sample.value
    return None


def story():
    """
    A service whose day touched every series.
    """
    metrics = Metrics(python="3")
    metrics.reloaded(taken=True, at=NOW)
    metrics.set_accounts(
        watched(alice=AccountState(), bob=FAILING, carol=AccountState())
    )
    metrics.count_sessions(lambda: 2)
    metrics.poll_skipped(Skipped.OVERRUN)
    metrics.poll_started(0.2)
    metrics.poll_ended(
        PollReport(
            AccountName("alice"),
            NOW - 3,
            NOW,
            stages={Stage.CONNECT: 0.25, Stage.RETRIEVE: 2.0},
            archived=2,
            archived_octets=4096,
            removed=1,
            skipped={Skip.TOO_LARGE: 1},
            unproven={Unproven.MISMATCH: 1},
        )
    )
    metrics.account_changed(AccountName("alice"), WELL)
    metrics.poll_ended(
        PollReport(
            AccountName("bob"),
            NOW - 1,
            NOW,
            failure=NotProved("prove", "/srv/mail/bob", "other octets"),
        )
    )
    return metrics


def own(page):
    """
    The page without the process collector, and without our version.
    """
    lines = page.decode().splitlines(keepends=True)
    kept = "".join(line for line in lines if not re.match(r"(# \w+ )?process_", line))
    return re.sub(r'version="[^"]+"', 'version="…"', kept)


# -- the whole page -------------------------------------------------------------------


def test_the_page_equals_its_golden_file():
    """
    Not a name, label, help text or bucket changes unseen.
    """
    page = own(story().page())
    if os.environ.get("POPFETCHD_GOLDEN") == "write":
        GOLDEN.write_text(page)
    assert GOLDEN.read_text() == page


@pytest.mark.parametrize("metrics", [Metrics(), story()], ids=["new", "used"])
def test_promtool_has_nothing_to_say(metrics):
    """
    `promtool check metrics` is silent, about an idle service too.
    """
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("NOT CHECKED: promtool is absent (apt install prometheus)")
    done = subprocess.run(
        [promtool, "check", "metrics"],
        input=metrics.page(),
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert (0, b"", b"") == (done.returncode, done.stdout, done.stderr)


def test_every_series_exists_from_the_start():
    """
    A service that has done nothing shows every series of a day, accounts aside.
    """

    def names(metrics):
        return {
            line.rpartition(" ")[0]
            for line in own(metrics.page()).splitlines()
            if not line.startswith("#") and "account=" not in line
        }

    assert names(story()) == names(Metrics(python="3"))


@pytest.mark.parametrize(
    ("name", "label", "values"),
    [
        ("polls_total", "outcome", Outcome),
        ("poll_failures_total", "reason", Reason),
        ("polls_skipped_total", "reason", Skipped),
        ("poll_stage_duration_seconds_count", "stage", Stage),
        ("messages_skipped_total", "reason", Skip),
        ("removals_refused_total", "reason", Unproven),
        ("accounts", "state", Condition),
    ],
)
def test_closed_sets_are_complete(name, label, values):
    """
    Each value of a closed set has its series at once, at zero.
    """
    metrics = Metrics()
    assert {value(metrics, name, **{label: word}) for word in values} == {0.0}


def test_two_services_do_not_meet():
    """
    Each has a registry of its own.
    """
    first, second = Metrics(), Metrics()
    first.poll_skipped(Skipped.LOCKED)
    assert 0 == value(second, "polls_skipped_total", reason="locked")


def test_the_process_is_shown():
    """
    The usual series of a process are there.
    """
    assert b"process_resident_memory_bytes" in Metrics().page()


# -- documentation --------------------------------------------------------------------


def documented():
    rows = re.findall(
        r"^\| `(popfetchd_\w+)` \| (\w+) \| (.*?) \|", DOCS.read_text(), re.MULTILINE
    )
    return {
        (name, kind, frozenset(re.findall(r"`(\w+)`", labels)))
        for name, kind, labels in rows
    }


def shown():
    metrics = story()
    metrics.set_archives([Path("/")])
    found = set()
    for family in families(metrics):
        if family.name.startswith("popfetchd_"):
            name = family.name + ("_total" if family.type == "counter" else "")
            labels = {key for sample in family.samples for key in sample.labels}
            found.add((name, family.type, frozenset(labels - {"le"})))
    return found


def test_every_series_is_documented():
    """
    docs/metrics.md names each series with its type and labels, and no other.
    """
    assert shown() == documented()


@pytest.mark.parametrize(
    "words", [Outcome, Reason, Skipped, Stage, Skip, Unproven, Condition, PerAccount]
)
def test_every_label_value_is_documented(words):
    """
    docs/metrics.md tells of each word of each closed set.
    """
    text = DOCS.read_text()
    assert [word for word in words if f"`{word}`" not in text] == []


# -- visits ---------------------------------------------------------------------------


def test_a_failure_counts_under_its_reason():
    """
    A visit is counted once, by outcome; what ended it early by reason.
    """
    metrics = Metrics()
    failure = Disconnected("RETR", "reset")
    alice = AccountName("alice")
    metrics.poll_ended(PollReport(alice, NOW, NOW + 1, failure=failure))
    metrics.poll_ended(PollReport(alice, NOW, NOW + 1, failure=failure, archived=1))
    assert 1 == value(metrics, "polls_total", outcome="failure")
    assert 1 == value(metrics, "polls_total", outcome="partial")
    assert 2 == value(metrics, "poll_failures_total", reason="disconnected")
    assert 0 == value(metrics, "verify_failures_total")


def test_a_clock_that_was_put_back_gives_no_negative_delay():
    """
    A visit before its time began without delay.
    """
    metrics = Metrics()
    metrics.poll_started(-3.0)
    assert 0 == value(metrics, "schedule_delay_seconds_sum")


def test_what_was_not_proved_is_counted():
    """
    Octets that came back different show in a series of their own.
    """
    assert 1 == value(story(), "verify_failures_total")


def test_a_refused_configuration_leaves_the_time_of_the_last_good_one():
    """
    The two series together say since when the service runs on an old configuration.
    """
    metrics = Metrics()
    metrics.reloaded(taken=True, at=NOW)
    metrics.reloaded(taken=False, at=NOW + 60)
    assert 0 == value(metrics, "config_last_reload_successful")
    assert NOW == value(metrics, "config_last_reload_success_timestamp_seconds")


# -- accounts -------------------------------------------------------------------------


def names(metrics, name="account_last_poll_timestamp_seconds"):
    found = re.findall(
        rf'^popfetchd_{name}{{account="([^"]+)"', own(metrics.page()), re.MULTILINE
    )
    return sorted(found)


def test_accounts_come_and_go():
    """
    A series goes with its account; a late report does not bring it back.
    """
    metrics = Metrics()
    metrics.set_accounts(watched(alice=WELL, bob=WELL))
    assert ["alice", "bob"] == names(metrics)
    metrics.set_accounts(watched(bob=WELL))
    metrics.account_changed(AccountName("alice"), WELL)
    assert ["bob"] == names(metrics)


def test_a_visit_that_ends_during_a_reload_stays_told():
    """
    What was remembered before it does not come back.
    """
    metrics, alice = Metrics(), AccountName("alice")
    metrics.set_accounts(watched(alice=AccountState(last_poll=NOW)))
    metrics.account_changed(alice, AccountState(last_poll=NOW + 1, archived=7))
    metrics.set_accounts({alice: Watched(AccountState(last_poll=NOW), 60.0)})
    assert 7 == value(metrics, "account_messages_archived_total", account="alice")
    assert 60 == value(metrics, "account_poll_interval_seconds", account="alice")


def test_failing_is_shown_only_while_it_lasts():
    """
    The series with the reason is absent for a well account, and goes upon recovery.
    """
    metrics = Metrics()
    metrics.set_accounts(watched(alice=WELL, bob=FAILING))
    assert ["bob"] == names(metrics, "account_failing")
    assert 1 == value(metrics, "account_failing", account="bob", reason="auth")
    metrics.account_changed(AccountName("bob"), WELL)
    assert [] == names(metrics, "account_failing")


@pytest.mark.parametrize(
    ("per_account", "expected"),
    [
        (PerAccount.AUTO, ["alice", "bob"]),
        (PerAccount.ALWAYS, ["alice", "bob"]),
        (PerAccount.FAILING, ["bob"]),
        (PerAccount.NEVER, []),
    ],
)
def test_the_operator_chooses_whose_series_are_shown(per_account, expected):
    """
    All, the failing, or none; how many there are is shown in any case.
    """
    metrics = Metrics(per_account=per_account)
    metrics.set_accounts(watched(alice=WELL, bob=FAILING))
    assert expected == names(metrics)
    assert 1 == value(metrics, "accounts", state="failing")


def test_beyond_the_limit_only_failing_accounts_are_shown():
    """
    `auto` keeps a large service's page small; `always` is obeyed.
    """
    metrics = Metrics()
    many = {f"a{i}": WELL for i in range(MOST_ACCOUNTS)}
    metrics.set_accounts(watched(**many))
    assert len(many) == len(names(metrics))
    metrics.set_accounts(watched(**many, bob=FAILING))
    assert ["bob"] == names(metrics)
    metrics.show_accounts(PerAccount.ALWAYS)
    assert len(many) + 1 == len(names(metrics))


def test_the_condition_of_an_account():
    """
    One that fails is failing also if it was never visited to the end.
    """
    conditions = [Condition.of(state) for state in (AccountState(), WELL, FAILING)]
    assert [Condition.PENDING, Condition.OK, Condition.FAILING] == conditions


def test_how_accounts_are_can_be_asked():
    """
    The status page is given each account's state, and may keep what it was given.
    """
    metrics = Metrics()
    metrics.set_accounts(watched(alice=WELL, bob=FAILING))
    states, state = metrics.states(), metrics.state(AccountName("bob"))
    metrics.set_accounts({})
    assert ({"alice": WELL, "bob": FAILING}, FAILING) == (states, state)
    assert metrics.state(AccountName("bob")) is None


def test_a_visit_that_is_not_planned_is_at_zero():
    """
    An account that has no next visit shows none, and not the end of time.
    """
    metrics = Metrics()
    metrics.set_accounts(watched(alice=AccountState(next_poll=NEVER)))
    name = "account_next_poll_timestamp_seconds"
    assert 0 == value(metrics, name, account="alice")


def test_the_page_may_be_read_while_accounts_change():
    """
    A scrape during a reload shows one state of the table.
    """
    metrics, broken = Metrics(), []
    stop = threading.Event()

    def change():
        while not stop.is_set():
            metrics.set_accounts(watched(alice=WELL, bob=FAILING))
            metrics.account_changed(AccountName("bob"), WELL)
            metrics.set_accounts({})

    thread = threading.Thread(target=change)
    thread.start()
    try:
        for _ in range(50):
            shown_names = {tuple(names(metrics))}
            broken += shown_names - {(), ("alice", "bob")}
    finally:
        stop.set()
        thread.join()
    assert [] == broken


# -- free space -----------------------------------------------------------------------


def mounted(monkeypatch, devices):
    """
    Let the folders in *devices* exist, on the file systems of these numbers.
    """
    real = os.lstat

    def look(path, **there):
        if (device := devices.get(str(path))) is not None:
            return types.SimpleNamespace(st_mode=stat.S_IFDIR, st_dev=device)
        return real(path, **there)

    monkeypatch.setattr(os, "lstat", look)


def test_free_space_is_asked_of_the_file_system(monkeypatch):
    """
    It is what an ordinary user may still use, under the mount point's name.
    """
    mounted(monkeypatch, {"/": 1, "/srv": 2, "/srv/mail": 2})
    real = os.statvfs("/")
    monkeypatch.setattr(os, "statvfs", lambda _: real)
    metrics = Metrics()
    paths = ["/srv/mail/alice", "/srv/mail/bob", "/not/there/yet"]
    metrics.set_archives([Path(path) for path in paths])
    free = real.f_bavail * real.f_frsize
    found = {
        mountpoint: value(metrics, "archive_free_bytes", mountpoint=mountpoint)
        for mountpoint in ("/", "/srv", "/srv/mail")
    }
    assert {"/": free, "/srv": free, "/srv/mail": None} == found


def test_a_link_is_followed_to_its_file_system(tmp_path, monkeypatch):
    """
    An archive behind a symbolic link counts where it really lies.
    """
    (tmp_path / "disk").mkdir()
    (tmp_path / "mail").symlink_to(tmp_path / "disk")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "deep").symlink_to(tmp_path / "deep/er")
    (tmp_path / "one").symlink_to(tmp_path / "two/er")
    (tmp_path / "two").symlink_to(tmp_path / "one/er")
    disk = str(tmp_path / "disk")
    mounted(monkeypatch, {disk: -1})
    folders = [f"{tmp_path}/mail/alice", f"{tmp_path}/loop/alice", f"{tmp_path}/mail"]
    folders += [f"{tmp_path}/{nowhere}/alice" for nowhere in ("deep", "one", "two")]
    (outer,) = series._mountpoints([str(tmp_path)])
    assert {disk, outer} == series._mountpoints(folders)


def test_neighbours_cost_one_look_each(tmp_path, monkeypatch):
    """
    What the folders of many archives have in common is looked at once for a scrape.
    """
    looks, real = [], os.lstat
    folders = [f"{tmp_path}/mail/a{number}" for number in range(50)]

    def counted(path):
        looks.append(path)
        return real(path)

    monkeypatch.setattr(series.os, "lstat", counted)
    series._mountpoints(folders)
    above = [f"{tmp_path}/mail", str(tmp_path), *map(str, tmp_path.parents)]
    assert sorted(looks) == sorted([*folders, *above])


def test_a_file_system_that_cannot_be_asked_is_left_out(monkeypatch):
    """
    The rest of the page is served all the same.
    """

    def fail(_path):
        raise PermissionError

    metrics = Metrics()
    metrics.set_archives([Path("/srv/mail")])
    monkeypatch.setattr(os, "statvfs", fail)
    assert "popfetchd_archive_free_bytes{" not in own(metrics.page())


def test_octets_are_not_messages():
    """
    Archived bytes are those received.
    """
    metrics = story()
    assert (2, 4096) == (
        value(metrics, "messages_archived_total"),
        value(metrics, "archived_bytes_total"),
    )
    assert Octets(4096) == value(metrics, "account_maildrop_bytes", account="alice")
