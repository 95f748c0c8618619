"""
From the configuration to plain values.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from pydantic import ValidationError

from popfetchd import values
from popfetchd.config import plain
from popfetchd.config.model import Configuration


MINIMAL = {
    "name": "alice",
    "host": "pop.example.net",
    "user": "alice@example.net",
    "password_env": "ALICE",
    "every": "5m",
    "archive": {"format": "maildir", "path": "/srv/mail/{account}"},
}


def account(**keys):
    """
    Return the plain account that *keys* make of the minimal one.
    """
    written = {k: v for k, v in (MINIMAL | keys).items() if v is not None}
    whole = Configuration.model_validate({"ledger": "/l", "accounts": [written]})
    (found,) = plain.accounts(whole)
    return found


@pytest.mark.parametrize(
    "path", ["/", "/a", "/a/", "//a", "/a//b/./c", "/a/../b", "/a/.b", "/a b/c\u00e9"]
)
def test_a_path_as_text_is_the_path(path):
    """
    Also where there is something that a Path leaves out.
    """
    archive = {"format": "maildir", "path": path}
    whole = Configuration.model_validate(
        {"ledger": "/l", "accounts": [MINIMAL | {"archive": archive}]}
    )
    (written,) = whole.accounts
    assert str(plain.archive_path(written)) == plain.archive_text(written)


def test_minimal():
    """
    What is not written has the default that is documented.
    """
    assert (
        values.Account(
            name="alice",
            server=values.Server(
                "pop.example.net", 995, values.TlsPolicy(values.TlsMode.IMPLICIT), 60.0
            ),
            login=values.Login("alice@example.net", values.SecretVariable("ALICE")),
            destination=values.Destination(
                values.ArchiveFormat.MAILDIR, Path("/srv/mail/alice")
            ),
            schedule=values.Every(300.0, 30.0),
            delete_after=None,
            delete_since=values.Since.ARCHIVED,
            trust_archive=False,
            max_message_size=None,
            min_free=100_000_000,
            deadline=1800.0,
        )
        == account()
    )


def test_everything():
    """
    Each key arrives where it belongs.
    """
    found = account(
        tls="stls",
        port="1110",
        ca_file="/ca.pem",
        auth="apop",
        timeout="10s",
        deadline="5m",
        delete_after="30d",
        max_message_size="50MB",
        every="1h",
        jitter="1m",
        archive={"format": "maildir", "path": "/srv/{host}/{user}"},
    )
    policy = values.TlsPolicy(values.TlsMode.STLS, Path("/ca.pem"))
    assert values.Server("pop.example.net", 1110, policy, 10.0) == found.server
    assert values.Mechanism.APOP == found.login.mechanism
    assert (2_592_000.0, 50_000_000) == (found.delete_after, found.max_message_size)
    assert (300.0, values.Every(3600.0, 60.0)) == (found.deadline, found.schedule)
    assert Path("/srv/pop.example.net/alice@example.net") == found.destination.path


@pytest.mark.parametrize(
    ("tls", "port"), [("implicit", 995), ("stls", 110), ("none", 110)]
)
def test_port(tls, port):
    """
    The port follows the TLS mode.
    """
    assert port == account(tls=tls).server.port


@pytest.mark.parametrize(
    ("written", "seconds"), [("never", None), ("verified", 0.0), ("1ms", 0.001)]
)
def test_delete_after(written, seconds):
    """
    Never is None and verified is at once.
    """
    assert seconds == account(delete_after=written).delete_after


def test_jitter_is_capped():
    """
    A visit is never later than the next one is due.
    """
    assert values.Every(10.0, 10.0) == account(every="10s", jitter="30s").schedule


def test_cron():
    """
    A crontab line comes with its time zone, UTC where none is written.
    """
    line = {"every": None, "cron": "*/10 8-18 * * mon-fri"}
    assert values.Cron("*/10 8-18 * * mon-fri", "UTC") == account(**line).schedule
    expected = values.Cron("*/10 8-18 * * mon-fri", "Europe/Berlin")
    assert expected == account(**line, timezone="Europe/Berlin").schedule


@pytest.mark.parametrize(
    ("keys", "source"),
    [
        ({"password_file": "/s/{account}"}, values.SecretFile(Path("/s/alice"))),
        ({"password_command": ["pass", "x"]}, values.SecretCommand(("pass", "x"))),
        ({"password_credential": "p-{account}"}, values.SecretCredential("p-alice")),
    ],
)
def test_secret(keys, source):
    """
    Each source of a secret has its value.
    """
    assert source == account(password_env=None, **keys).login.secret


@pytest.mark.parametrize(
    ("keys", "source"),
    [
        (
            {"access_token_file": "/s/{user}"},
            values.SecretFile(Path("/s/alice@example.net")),
        ),
        ({"access_token_env": "T"}, values.SecretVariable("T")),
        ({"access_token_command": ["oama"]}, values.SecretCommand(("oama",))),
        ({"access_token_credential": "t"}, values.SecretCredential("t")),
    ],
)
def test_access_token(keys, source):
    """
    An access token comes from where a password may come from, and is known as one.
    """
    found = account(password_env=None, **keys).login.secret
    assert values.TokenSource(source) == found


def test_external_has_no_secret():
    """
    The client certificate is the proof, whatever secret the defaults hold.
    """
    found = account(auth="external", client_cert="/c.pem")
    assert values.NoSecret() == found.login.secret


def test_utf8():
    """
    Messages are asked for as they are, unless the operator does not want that.
    """
    assert account().server.utf8
    assert not account(utf8="false").server.utf8


def test_inline_secret():
    """
    A password in the file is a secret that does not print.
    """
    found = account(password_env=None, password="hunter2")
    assert "hunter2" == found.login.secret.secret.reveal()
    assert "hunter2" not in repr(found)


def test_removal_by_age():
    """
    `{age: 30d}` counts from a message's arrival, a bare duration from its archiving.
    """
    by_age = account(delete_after={"age": "30d"})
    plain_ = account(delete_after="30d")

    assert (2_592_000.0, values.Since.ARRIVED) == (
        by_age.delete_after,
        by_age.delete_since,
    )
    assert (2_592_000.0, values.Since.ARCHIVED) == (
        plain_.delete_after,
        plain_.delete_since,
    )


@pytest.mark.parametrize("text", ["true", "True", "TRUE"])
def test_trust_is_a_switch(text):
    """
    A switch takes true and false, as YAML 1.2 writes them, and nothing else.
    """
    assert account(trust_archive=text).trust_archive
    assert not account(trust_archive="false").trust_archive
    with pytest.raises(ValidationError):
        account(trust_archive="yes")


def test_removal_by_age_takes_one_key():
    """
    A mapping that does not hold `age` alone is refused.
    """
    with pytest.raises(ValidationError):
        account(delete_after={"age": "30d", "more": "1d"})


@pytest.mark.parametrize(
    ("written", "mode"),
    [("0640", 0o640), ("640", 0o640), ("0o664", 0o664), ("0600", 0o600)],
)
def test_a_mode_is_octal_however_it_is_written(written, mode):
    """
    With or without what YAML 1.1, YAML 1.2 and chmod(1) put before octal digits.
    """
    archive = MINIMAL["archive"] | {"mode": written}
    assert values.Permissions(mode) == account(archive=archive).permissions


@pytest.mark.parametrize(("group", "gid"), [("root", 0), ("4000000", 4_000_000)])
def test_a_group_is_found_by_its_name_or_number(group, gid):
    """
    A number need not have a name: a container has few.
    """
    archive = MINIMAL["archive"] | {"mode": "0640", "group": group}
    found = account(archive=archive).permissions
    assert values.Permissions(0o640, values.Group(group, gid)) == found
