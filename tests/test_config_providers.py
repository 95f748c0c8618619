"""
What is known of mail providers, and how it stands beneath an account.

docs/providers.md is written by `page`: POPFETCHD_GOLDEN=write pytest this file.
"""

from __future__ import annotations

import os

from pathlib import Path

import pytest

from popfetchd.config import load, plain, providers, readers
from popfetchd.config.model import Settings
from popfetchd.errors import ConfigurationError
from popfetchd.values import TlsMode


PAGE = Path(__file__).parent.parent / "docs" / "providers.md"
EVERYONE = {p.name: p for p in providers.providers().values()}

HEAD = """\
# Providers

`provider: NAME` puts the keys of a preset beneath an account: what the account writes
itself goes before, key by key. Who writes `tls` has the port of that mode. A provider in
`defaults` gives way as a whole to an account's own `host`, and a server in `defaults` to
an account's own `provider`. `popfetchd check` shows the notes; `popfetchd config show`
what is in effect.

| key | says |
|---|---|
| `login_floor` | least time between two logins. Of this and the server's own LOGIN-DELAY the longer one counts; a visit that would come sooner is skipped |
| `hides_retrieved` | QUIT hides whatever the session retrieved. So a session in which anything failed does not end with QUIT, and `delete_after` may be `never` or `verified` only |
| `lists_partly` | a listing holds a part of the maildrop. What is missing from it is not taken for gone |
| `recent` | Gmail only: the last 30 days, whatever was fetched before |

With both `hides_retrieved` and `lists_partly` a visit goes on, session after session,
until nothing new appears; what is archived and listed all the same is retrieved once
more, so that it makes room. A floor between logins ends the visit after one session, and
the next one goes on.

The presets are in [`providers.yaml`](../popfetchd/config/providers.yaml), from which this
page is made.
"""


def page():
    """
    Return docs/providers.md as the presets make it.
    """
    return HEAD + "".join(map(section, EVERYONE.values()))


def section(provider):
    names = ", ".join(f"`{name}`" for name in (provider.name, *provider.also))
    keys = [f"`{key}: {value}`" for key, value in provider.keys.items()]
    if provider.recent_user:
        keys.append("`recent: true` is allowed")
    if provider.tokens_only:
        keys.append("no password")
    notes = "".join(f"- {note}\n" for note in provider.notes)
    says = "; ".join(f"{keys}: {who}" for keys, who in provider.sources.items())
    return (
        f"\n## {provider.title}\n\n{names}: {', '.join(keys)}.\n\n{notes}\n"
        f"From: {says}.\n"
    )


def test_the_page_is_current():
    """
    docs/providers.md says what the data file says.
    """
    if os.environ.get("POPFETCHD_GOLDEN") == "write":
        PAGE.write_text(page())
    assert page() == PAGE.read_text()


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("a@gmail.com", "gmail"),
        ("a@GMX.de", "gmx"),
        ("a@b@hotmail.com", "outlook"),
        ("a@example.net", None),
        ("gmail.com.example.net", None),
        ("", None),
    ],
)
def test_a_provider_is_known_by_an_address(address, name):
    """
    The whole domain decides, whatever its case.
    """
    found = providers.of_address(address)
    assert name == (found and found.name)


def test_a_domain_is_of_one_provider():
    """
    No domain stands twice, and each is in lower case.
    """
    domains = [domain for p in EVERYONE.values() for domain in p.domains]
    assert sorted(set(domains)) == sorted(domain.lower() for domain in domains)


@pytest.mark.parametrize("provider", EVERYONE.values(), ids=EVERYONE)
def test_every_value_has_its_source(provider):
    """
    Each key of a preset, and each thing that is said beside them, names who says so.
    """
    said = {key for keys in provider.sources for key in keys.split(", ")}
    beside = {"recent_user"} if provider.recent_user else set()
    beside |= {"tokens_only"} if provider.tokens_only else set()
    assert {*provider.keys, *beside} == said
    assert all(provider.notes)


@pytest.mark.parametrize("provider", EVERYONE.values(), ids=EVERYONE)
def test_every_preset_can_be_read(provider):
    """
    Each preset holds keys of an account, and makes a server over TLS.
    """
    assert provider.keys.keys() <= {"host", *Settings.model_fields}
    beside_host = {k: v for k, v in provider.keys.items() if k != "host"}
    settings = Settings.model_validate(beside_host)
    assert provider.keys["host"] == readers.host(provider.keys["host"])
    assert (TlsMode.IMPLICIT, 995) == (settings.tls, settings.port)


DEFAULTS = """\
defaults:
  every: 1h
  password_file: /p
  archive: {format: maildir, path: "/srv/mail/{account}"}
"""


@pytest.fixture
def account(tmp_path):
    """
    Return the account that some lines make, under the defaults and more of them.
    """

    def account_(lines, defaults=""):
        return made(lines, defaults)[0]

    def made(lines, defaults):
        file = tmp_path / "c.yaml"
        file.write_text(
            f"ledger: /l\n{DEFAULTS}{defaults}accounts:\n- {{name: a, user: u, {lines}}}\n"
        )
        file.chmod(0o600)
        loaded = load.load(file, {})
        (found,) = plain.accounts(loaded.configuration)
        return found, [str(doubt).rpartition(str(file))[2] for doubt in loaded.doubts]

    account_.made = made
    return account_


def test_a_preset_stands_for_the_server(account):
    """
    `provider` alone gives host, port, TLS and habits.
    """
    found = account("provider: gmail")

    assert ("pop.gmail.com", 995) == (found.server.host, found.server.port)
    assert TlsMode.IMPLICIT is found.server.tls.mode
    assert found.habits.drains
    assert ("gmail", "u") == (found.provider, found.login.user)


def test_a_further_name_is_the_same_provider(account):
    """
    A name under `also` is read as the provider's own.
    """
    assert "aol" == account("provider: verizon").provider


def test_each_value_may_be_written_otherwise(account):
    """
    What the account writes goes before the preset, key by key.
    """
    found = account(
        "provider: gmail, host: pop.example.net, lists_partly: false, login_floor: 2m"
    )

    assert ("pop.example.net", 995) == (found.server.host, found.server.port)
    assert (True, False) == (found.habits.hides_retrieved, found.habits.lists_partly)
    assert 120.0 == found.habits.login_floor


def test_who_writes_tls_has_the_port_of_that_mode(account):
    """
    The preset's port goes with the preset's TLS.
    """
    assert 110 == account("provider: gmx, tls: stls").server.port
    assert 1110 == account("provider: gmx, tls: stls, port: 1110").server.port


def test_an_own_provider_replaces_the_defaults_server(account):
    """
    Of a server in the defaults nothing is left beneath another provider.
    """
    above = "  {host: pop.example.net, port: 110, tls: stls, login_floor: 5m}"
    lines = above.strip().strip("{}").split(", ")
    found = account("provider: gmail", "".join(f"  {line}\n" for line in lines))

    assert ("pop.gmail.com", 995) == (found.server.host, found.server.port)
    assert 0.0 == found.habits.login_floor


def test_an_own_host_replaces_the_defaults_provider(account):
    """
    A provider in the defaults says nothing of another server.
    """
    assert "pop.gmail.com" == account("port: 995", "  provider: gmail\n").server.host
    found = account("host: pop.example.net", "  provider: gmail\n")

    assert ("pop.example.net", None) == (found.server.host, found.provider)
    assert not found.habits.hides_retrieved


def test_a_token_is_enough_where_passwords_are_refused(account):
    """
    An access token, and nothing but it, makes an account of Microsoft's.
    """
    found = account("provider: outlook, access_token_command: [oama, access, u]")
    assert "outlook.office365.com" == found.server.host
    with pytest.raises(ConfigurationError, match="takes no password any more"):
        account("provider: outlook")


def test_recent_shows_what_was_fetched(account):
    """
    `recent: true` logs in as Gmail wants it, and hides nothing; paths have the user.
    """
    found = account(
        "provider: gmail, recent: true, delete_after: 30d, "
        'archive: {format: maildir, path: "/m/{user}"}'
    )

    assert "recent:u" == found.login.user
    assert Path("/m/u") == found.destination.path
    assert (False, True) == (found.habits.hides_retrieved, found.habits.lists_partly)


def test_visits_that_come_too_often_are_doubted(account):
    """
    A schedule that is shorter than the floor works, and skips visits.
    """
    found, doubts = account.made("provider: web.de, every: 5m", "")
    assert 900.0 == found.habits.login_floor
    told = (
        ":7:47: account 'a': every: the server wants 15m between logins: some visits "
        "will be skipped; `every: 15m30s` is often enough"
    )
    assert [told] == doubts
    assert 1 == len(account.made("provider: web.de, every: 15m", "")[1])
    assert [] == account.made("provider: web.de, every: 15m, jitter: 0s", "")[1]
    assert [] == account.made("provider: web.de", "")[1]
    assert [] == account.made('provider: web.de, cron: "@daily"', "")[1]


def test_floors_of_the_defaults_are_doubted_there(account):
    """
    What the defaults alone bring together is told of the defaults alone.
    """
    doubts = account.made("host: h", "  login_floor: 2h\n")[1]
    assert [True] == ["defaults: every" in doubt for doubt in doubts]


def test_the_schema_names_every_provider():
    """
    An editor is offered each name.
    """
    schema = Settings.model_json_schema()["properties"]["provider"]
    assert sorted(providers.providers()) == schema["anyOf"][0]["enum"]
