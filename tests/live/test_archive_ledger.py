"""
An archive and its ledger when one of the two is harmed, with a real server behind them.

Rules of this file:

- The harm is done from outside, as a disk or a person would do it.
- What is there afterwards is told by the files, and by what the server sent; nothing of
  popfetchd is asked whether it did well.
- Figures are told in a line each: POPFETCHD_ARCHIVE=10000 takes that many messages.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time

from pathlib import Path

import pytest

from tests.crash.scenes import in_mbox, mbox
from tests.letters import letters
from tests.live.conftest import MESSAGES, shout
from tests.live.oracle import fetch_raw
from tests.wire import PATIENCE, Installation, restored


pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.timeout(3 * PATIENCE)]


@pytest.fixture
def site(tmp_path):
    return Installation(tmp_path)


@pytest.fixture
def user(dovecot, site):
    """
    A maildrop of so many messages, all of them archived.
    """
    user = dovecot.add_user()
    user.deliver(letter.stored for letter in letters(MESSAGES, seed=31))
    configure(site, dovecot, user)
    assert MESSAGES == site.fetch().report["archived"]
    return user


def configure(site, dovecot, user, **keys):
    port, ca_file = dovecot.ports.pop3s, dovecot.ca_file
    site.configure(
        site.account(user.name, user.password, port, ca_file=ca_file, **keys)
    )


def typed(site, verb, *options):
    """
    Run a verb to its end; return its code, what it says as JSON, and its stderr.
    """
    done = subprocess.run(
        site.command(verb, *options),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    said = json.loads(done.stdout)[0] if "--json" in options and done.stdout else {}
    return done.returncode, said, done.stderr


def contents(site):
    """
    Return, sorted, what the server sent of each message that stands in the archive.

    By the files alone: a ledger that was made again is not asked.
    """
    files = [*site.files("new"), *site.files("cur")]
    forms = dict(site.rows("name, form"))
    return sorted(restored(path, forms[path.name.partition(":")[0]]) for path in files)


def sent(dovecot, user):
    port, ca_file = dovecot.ports.pop3s, dovecot.ca_file
    return sorted(fetch_raw(port, user.name, user.password, ca_file))


def same(expected, actual):
    """
    Compare, without pytest's wish to show how megabytes differ.
    """
    return expected == actual


def flip(path):
    octets = bytearray(path.read_bytes())
    octets[len(octets) // 2] ^= 4
    path.write_bytes(octets)


def cut(path):
    path.write_bytes(path.read_bytes()[:-1])


def flagged(site):
    """
    Read half of the mail, as a mail reader does.
    """
    files = site.files("new")
    for path in files[: len(files) // 2]:
        path.rename(path.parent.parent / "cur" / f"{path.name}:2,S")


def forget_pages():
    """
    Have all that is read next come from the disk, if this may be asked for.
    """
    os.sync()
    try:
        Path("/proc/sys/vm/drop_caches").write_text("3", encoding="ascii")
    except OSError:
        return "cached"
    return "from the disk"


def hashed(site):
    """
    Return how many seconds sha256sum takes for the same files.
    """
    names = "\0".join(str(path) for path in [*site.files("new"), *site.files("cur")])
    began = time.monotonic()
    subprocess.run(
        ["xargs", "-0", "sha256sum"],
        input=names,
        text=True,
        check=True,
        capture_output=True,
    )
    return time.monotonic() - began


def test_damage_is_found_and_repaired(dovecot, site, user, pytestconfig):
    """
    A flipped bit, a truncated, a deleted and a foreign file among many, half of which a
    reader has moved and flagged; then exactly one good copy of each is there.
    """
    expected = sent(dovecot, user)
    flagged(site)
    whole, how = told_speed(site)
    assert (0, MESSAGES) == whole
    shout(pytestconfig, f"verify of {MESSAGES} messages, {how}")

    harmed = [*site.files("new")[:2], *site.files("cur")[:1]]
    flip(harmed[0])
    cut(harmed[2])
    harmed[1].unlink()
    foreign = site.maildir() / "cur" / "1700000000.M1P2.elsewhere:2,"
    foreign.write_bytes(b"Subject: hello\n\n")
    code, seen, _ = typed(site, "verify", "--json")
    assert (65, MESSAGES) == (code, seen["messages"])
    assert (1, 1, 1, 0) == tuple(
        seen[what] for what in ("missing", "altered", "truncated", "moved")
    )
    assert [str(foreign)] == seen["unknown"]
    names = {Path(damage["path"]).name for damage in seen["damage"]}
    assert {path.name.partition(":")[0] for path in harmed} == names

    code, seen, _ = typed(site, "verify", "--repair", "--json")
    assert (0, 3) == (code, seen["repaired"])
    code, seen, _ = typed(site, "verify", "--json")
    assert (0, MESSAGES, []) == (code, seen["messages"], seen["damage"])
    assert {str(path) for path in (foreign, harmed[0], harmed[2])} == {*seen["unknown"]}
    for path in (foreign, harmed[0], harmed[2]):
        path.unlink()
    assert same(expected, contents(site))
    assert 0 == site.fetch().report["archived"]


def told_speed(site):
    """
    Verify, and return what that says, and how fast it was beside sha256sum.
    """
    how = forget_pages()
    baseline = hashed(site)
    forget_pages()
    code, seen, _ = typed(site, "verify", "--json")
    megabytes, seconds = seen["octets"] / 1e6, seen["seconds"]
    assert ([], []) == (seen["damage"], seen["unknown"])
    return (code, seen["messages"]), (
        f"{megabytes:.1f} MB {how}: {megabytes / seconds:.1f} MB/s, "
        f"sha256sum {megabytes / baseline:.1f} MB/s"
    )


def test_a_lost_ledger_is_made_again(dovecot, site, user, pytestconfig):
    """
    Deleted under an archive of messages that are still on the server: refused, made
    again, and none of them is archived twice or lost.
    """
    expected = sent(dovecot, user)
    flagged(site)
    lose(site)

    refused = site.fetch()
    assert (73, 0) == (refused.code, refused.report["archived"])
    assert "`popfetchd rebuild`" in refused.report["hint"]

    began = time.monotonic()
    code, made, _ = typed(site, "rebuild", "--json")
    took = time.monotonic() - began
    assert (0, 0, MESSAGES) == (code, made["known"], made["restored"])
    began = time.monotonic()
    done = site.fetch()
    shout(
        pytestconfig,
        f"rebuild of {MESSAGES} messages: {took:.1f} s, "
        f"the next visit {time.monotonic() - began:.1f} s",
    )
    assert (0, 0, MESSAGES) == (
        done.code,
        done.report["archived"],
        done.report["matched"],
    )
    assert (0, 0) == (site.fetch().report["matched"], site.fetch().report["archived"])
    assert same(expected, contents(site))
    assert 0 == typed(site, "verify", "--json")[0]


def lose(site):
    for path in site.ledger.parent.glob(f"{site.ledger.name}*"):
        if path.is_file():
            path.unlink()


def test_an_older_ledger_is_brought_up_to_date(dovecot, site, user, tmp_path):
    """
    Put back from a copy: refused, brought up to date, and with `verified` the maildrop
    is emptied by proof: none is archived twice or lost.
    """
    copy = tmp_path / "copy.db"
    assert 0 == typed(site, "backup", str(copy))[0]
    more = MESSAGES // 10
    user.deliver(letter.stored for letter in letters(more, seed=32))
    assert more == site.fetch().report["archived"]
    expected = sent(dovecot, user)
    lose(site)
    shutil.copyfile(copy, site.ledger)

    refused = site.fetch()
    assert (73, 0) == (refused.code, refused.report["archived"])
    code, made, _ = typed(site, "rebuild", "--json")
    assert (0, MESSAGES, more) == (code, made["known"], made["restored"])

    configure(site, dovecot, user, delete_after="verified")
    done = site.fetch()
    assert (0, 0, MESSAGES + more) == (
        done.code,
        done.report["archived"],
        done.report["removed"],
    )
    assert 0 == user.count()
    assert same(expected, contents(site))


def test_a_rebuild_that_is_killed_can_be_run_again(dovecot, site, user):
    """
    At any instant: what it leaves is refused, or made whole by the next one.
    """
    lose(site)
    for instant in (0.2, 0.6, 0.9, 1.2):
        process = subprocess.Popen(
            site.command("rebuild"),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        time.sleep(instant)  # there is nothing to wait for: any instant will do
        process.kill()
        process.wait(PATIENCE)
        assert 0 == (site.fetch().report["archived"])

    assert 0 == typed(site, "rebuild", "--json")[0]
    assert 0 == site.fetch().report["archived"]
    assert same(sent(dovecot, user), contents(site))


# -- an mbox --------------------------------------------------------------------------


@pytest.fixture
def mbox_user(dovecot, site):
    """
    The same, archived in an mbox.
    """
    user = dovecot.add_user()
    user.deliver(letter.stored for letter in letters(MESSAGES, seed=33))
    as_mbox(site, dovecot, user)
    assert MESSAGES == site.fetch().report["archived"]
    return user


def as_mbox(site, dovecot, user, **keys):
    archive = {"format": "mbox", "path": str(mbox(site))}
    configure(site, dovecot, user, archive=archive, **keys)


def lines(messages):
    """
    Return, sorted, *messages* with LF for each CRLF: an mbox does not tell them apart.
    """
    return sorted(message.replace(b"\r\n", b"\n") for message in messages)


def test_an_mbox_without_its_ledger_is_known_again(
    dovecot, site, mbox_user, tmp_path, pytestconfig
):
    """
    Deleted, then put back from an older copy: refused, made again, the mbox untouched;
    and with `verified` the maildrop is emptied by proof.
    """
    copy = tmp_path / "copy.db"
    assert 0 == typed(site, "backup", str(copy))[0]
    more = MESSAGES // 10
    mbox_user.deliver(letter.stored for letter in letters(more, seed=34))
    assert more == site.fetch().report["archived"]
    expected, before = sent(dovecot, mbox_user), mbox(site).read_bytes()
    assert same(lines(expected), lines(in_mbox(site)))

    lose(site)
    refused = site.fetch()
    assert (73, 0) == (refused.code, refused.report["archived"])
    began = time.monotonic()
    code, made, _ = typed(site, "rebuild", "--json")
    took = time.monotonic() - began
    assert (0, 0, MESSAGES + more) == (code, made["known"], made["restored"])
    began = time.monotonic()
    done = site.fetch()
    shout(
        pytestconfig,
        f"rebuild from an mbox of {MESSAGES + more} messages: {took:.1f} s, "
        f"the next visit {time.monotonic() - began:.1f} s",
    )
    assert (0, 0, MESSAGES + more) == outcome(done, "matched")
    assert same(before, mbox(site).read_bytes())

    lose(site)
    shutil.copyfile(copy, site.ledger)
    refused = site.fetch()
    assert (73, 0) == (refused.code, refused.report["archived"])
    code, made, _ = typed(site, "rebuild", "--json")
    assert (0, MESSAGES, more) == (code, made["known"], made["restored"])
    as_mbox(site, dovecot, mbox_user, delete_after="verified")
    assert (0, 0, MESSAGES + more) == outcome(site.fetch(), "removed")
    assert 0 == mbox_user.count()
    assert same(before, mbox(site).read_bytes())


def outcome(done, what):
    return done.code, done.report["archived"], done.report[what]


def test_damage_in_an_mbox_is_found_and_repaired(dovecot, site, mbox_user):
    """
    A flipped bit, a message cut short at the end, one that is gone and a foreign one;
    what moved because of it is no damage; then a good copy of each is there.
    """
    expected = sent(dovecot, mbox_user)
    begins = [at for (at,) in site.rows("begins_at")]
    whole = bytearray(mbox(site).read_bytes()[:-9])
    del whole[begins[3] : begins[4]]
    whole[(begins[1] + begins[2]) // 2] ^= 4
    mbox(site).write_bytes(whole)
    code, seen, _ = typed(site, "verify", "--json")
    assert (65, MESSAGES, MESSAGES - 5) == (code, seen["messages"], seen["moved"])
    assert 3 == seen["missing"] + seen["altered"] + seen["truncated"]

    code, seen, _ = typed(site, "verify", "--repair", "--json")
    assert (0, 3) == (code, seen["repaired"])
    foreign = b"From x Thu Jan  1 00:00:00 1970\nSubject: foreign\n\nhello\n\n"
    with mbox(site).open("ab") as file:
        file.write(foreign)
    code, seen, _ = typed(site, "verify", "--json")
    assert (0, MESSAGES, []) == (code, seen["messages"], seen["damage"])
    assert 0 == site.fetch().report["archived"]
    left = set(lines(expected)) - set(lines(in_mbox(site)))
    assert set() == left
    assert len(seen["unknown"]) == len(in_mbox(site)) - MESSAGES
