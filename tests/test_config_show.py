"""
What is shown of a configuration: all of it but its secrets.
"""

from __future__ import annotations

import json

from importlib import resources
from pathlib import Path

import yaml

from docs.generate import schema as made
from popfetchd.config import load, plain, show


WRITTEN = """\
ledger: /var/lib/popfetchd/ledger.db
include: [none/*.yaml]
defaults:
  host: pop.example.net
  cron: "*/10 8-18 * * mon-fri"
  timezone: Europe/Berlin
  archive: {format: maildir, path: "/srv/mail/{account}"}
accounts:
  - {name: alice, user: no, password: hunter2, delete_after: 30d}
  - name: bob
    user: bob
    password_command: [pass, hunter2]
    tls: stls
    every: 90s
    delete_after: verified
    max_message_size: 50MB
"""

SHOWN = """\
ledger: /var/lib/popfetchd/ledger.db
http:
  listen: 127.0.0.1:10995
log:
  level: info
  format: auto
metrics:
  per_account: auto
limits:
  sessions: 64
  sessions_per_host: 4
accounts:
- name: alice
  host: pop.example.net
  port: 995
  user: 'no'
  tls: implicit
  min_tls: '1.2'
  auth: auto
  password: (hidden)
  utf8: true
  cron: '*/10 8-18 * * mon-fri'
  timezone: Europe/Berlin
  delete_after: 30d
  trust_archive: false
  min_free: 100MB
  timeout: 1m
  deadline: 30m
  archive:
    format: maildir
    path: /srv/mail/{account}
    mode: '0600'
- name: bob
  host: pop.example.net
  port: 110
  user: bob
  tls: stls
  min_tls: '1.2'
  auth: auto
  password_command:
  - pass
  - (hidden)
  utf8: true
  every: 1m30s
  jitter: 30s
  delete_after: verified
  trust_archive: false
  min_free: 100MB
  max_message_size: 50MB
  timeout: 1m
  deadline: 30m
  archive:
    format: maildir
    path: /srv/mail/{account}
    mode: '0600'
"""


def loaded(folder, text):
    """
    Load *text*.
    """
    path = folder / "c.yaml"
    path.write_text(text)
    path.chmod(0o600)
    return load.load(path, {}).configuration


def test_shown(tmp_path):
    """
    The effective configuration is complete and holds no secret.
    """
    assert SHOWN == show.shown(loaded(tmp_path, WRITTEN))


def test_shown_reads_the_same(tmp_path):
    """
    What is shown can be read again, and is shown the same.
    """
    assert SHOWN == show.shown(loaded(tmp_path, SHOWN))


def test_never_is_shown(tmp_path):
    """
    `never` is shown too: an operator looks for it.
    """
    text = WRITTEN.replace(", delete_after: 30d", "")
    shown = yaml.safe_load(show.shown(loaded(tmp_path, text)))
    assert "never" == shown["accounts"][0]["delete_after"]


def test_a_channel_is_shown_as_it_is_read(tmp_path):
    """
    Pins stand without colons, a proxy without its password; both can be read again.
    """
    pin = ":".join(["AB"] * 32)
    text = WRITTEN.replace(
        "tls: stls",
        f"tls: stls\n    fingerprint_sha256: {pin}\n"
        "    proxy: socks5h://al%40ice:hunter2@[::1]",
    )
    found = loaded(tmp_path, text)
    shown = show.shown(found)
    keys = yaml.safe_load(shown)["accounts"][1]
    assert (["ab" * 32], "socks5://al%40ice:(hidden)@[::1]:1080") == (
        keys["fingerprint_sha256"],
        keys["proxy"],
    )
    assert shown == show.shown(loaded(tmp_path, shown))
    proxy = plain.accounts(found)[1].server.proxy
    assert ("::1", 1080, "al@ice", "hunter2") == (
        proxy.host,
        proxy.port,
        proxy.user,
        proxy.password.reveal(),
    )


def test_without_tls_there_is_no_least_version(tmp_path):
    """
    Where TLS is not spoken, what is shown can be read again too.
    """
    shown = show.shown(loaded(tmp_path, WRITTEN.replace("tls: stls", "tls: none")))
    assert "min_tls" not in yaml.safe_load(shown)["accounts"][1]
    assert shown == show.shown(loaded(tmp_path, shown))


def test_no_proxy_after_all(tmp_path):
    """
    `none` takes the defaults' proxy away.
    """
    text = WRITTEN.replace("defaults:", "defaults:\n  proxy: socks5://h:1").replace(
        "tls: stls", "proxy: none"
    )
    alice, bob = plain.accounts(loaded(tmp_path, text))
    assert ("socks5://h:1", None) == (str(alice.server.proxy), bob.server.proxy)


def test_secrets_do_not_print(tmp_path):
    """
    No way of printing a configuration prints a secret in it.
    """
    found = loaded(tmp_path, WRITTEN)
    alice = found.accounts[0]
    for text in (
        repr(alice),
        str(alice),
        alice.model_dump_json(),
        str(alice.model_dump()),
    ):
        assert "hunter2" not in text
    assert "hunter2" not in repr(plain.accounts(found)[0])


def test_schema_is_current():
    """
    The schema that is shipped is the one the model makes.
    """
    shipped = resources.files("popfetchd.config") / "popfetchd.schema.json"
    assert made.text() == shipped.read_text()


def test_schema_knows_every_key():
    """
    Every key is in the schema with a description or a kind, and none may be null.
    """
    schema = made.schema()
    account = schema["$defs"]["Account"]
    assert {"name", "user"} == set(account["required"])
    assert set(load.Account.model_fields) == set(account["properties"])
    assert set(load.Configuration.model_fields) == set(schema["properties"])
    assert "null" not in json.dumps(schema)
    assert account["properties"]["password"]["writeOnly"]


def test_defaults_of_the_schema_are_as_written():
    """
    What the schema calls a default can be written, and then changes nothing.
    """
    properties = made.schema()["$defs"]["Defaults"]["properties"]
    told = {key: of["default"] for key, of in properties.items() if "default" in of}
    texts = {key: json.dumps(value).strip('"') for key, value in told.items()}
    assert "30s" == texts["jitter"]
    assert load.Defaults() == load.Defaults.model_validate(texts)


def test_examples_hold_known_keys_only():
    """
    Every key of the annotated example is in the schema, at its place.
    """
    example = Path(__file__).parent.parent / "config" / "popfetchd.yaml"
    written = yaml.safe_load(example.read_text())
    schema = made.schema()
    assert set(written) <= set(schema["properties"])
    assert set(written["defaults"]) <= set(schema["$defs"]["Defaults"]["properties"])


def test_who_may_see_the_pages_is_shown_without_hashes(tmp_path):
    """
    Names are, and files; a hash can be guessed at, and is hidden.
    """
    hashed = "$2y$10$" + 53 * "x"
    path = tmp_path / "popfetchd.yaml"
    path.write_text(
        WRITTEN
        + f"http: {{tls: {{cert_file: /c}}, basic_auth_users: {{prom: {hashed}}}}}\n"
    )
    path.chmod(0o600)
    shown = yaml.safe_load(show.shown(load.load(path, {}).configuration))
    assert {
        "listen": "127.0.0.1:10995",
        "tls": {"cert_file": "/c"},
        "basic_auth_users": {"prom": "(hidden)"},
    } == shown["http"]
