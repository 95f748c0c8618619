"""
From files to a configuration, or to every mistake in them.

`configs/` holds broken configurations with their exact messages, `config/` the
examples that are shipped.
"""

from __future__ import annotations

import gc
import grp
import shutil
import types

from contextlib import suppress
from pathlib import Path

import pytest

from hypothesis import given
from hypothesis import strategies as st

from popfetchd.config import load as loading
from popfetchd.config import plain, rules
from popfetchd.errors import ConfigurationError


HERE = Path(__file__).parent
BROKEN = sorted((HERE / "configs").glob("*.yaml"))
EXAMPLES = sorted((HERE.parent / "config").glob("*.yaml"))
ENVIRON = {"STATE_DIRECTORY": "/state"}

DEFAULTS = """\
defaults:
  host: pop.example.net
  every: 5m
  password_file: "secrets/{account}"
  archive: {format: maildir, path: "/srv/mail/{account}"}
"""
ALICE = DEFAULTS + "accounts:\n  - {name: alice, user: alice}\n"
ACCOUNTS = "accounts:\n  - {name: alice, user: alice}\n  - {name: bob, user: bob}\n"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """
    A folder to stand in, so that messages hold no folder.
    """
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def write(folder):
    """
    Write a file that only its owner may read.
    """

    def write_(name, text, mode=0o600):
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        path.chmod(mode)

    return write_


def load(environ=ENVIRON):
    """
    Load c.yaml.
    """
    return loading.load(Path("c.yaml"), environ)


def refused():
    """
    Load c.yaml and return its mistakes.
    """
    with pytest.raises(ConfigurationError) as caught:
        load()
    return [str(mistake) for mistake in caught.value.mistakes]


def names(loaded):
    """
    Return the names of the accounts, in order.
    """
    return [account.name for account in loaded.configuration.accounts]


def told(mistakes):
    """
    Return the mistakes as they are shown.
    """
    return [str(mistake) for mistake in mistakes]


# -- the files that are kept ----------------------------------------------------------


@pytest.mark.parametrize("path", BROKEN, ids=lambda path: path.stem)
def test_broken(folder, path):
    """
    A broken configuration is refused with exactly these sentences, and no secret.
    """
    shutil.copyfile(path, path.name)
    Path(path.name).chmod(0o600)
    with pytest.raises(ConfigurationError) as caught:
        loading.load(Path(path.name), {})
    assert path.with_suffix(".txt").read_text() == f"{caught.value}\n"
    assert "hunter2" not in str(caught.value)
    assert "ter2" not in str(caught.value)


def test_enough_broken():
    """
    Each broken configuration has its messages, and the other way round.
    """
    expected = sorted((HERE / "configs").glob("*.txt"))
    assert [path.with_suffix(".txt") for path in BROKEN] == expected


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples(folder, path):
    """
    Each example loads whole, and names the schema that is shipped.
    """
    shutil.copytree(path.parent, "config")
    for copy in Path("config").rglob("*.yaml"):
        copy.chmod(0o644)
    loaded = loading.load(Path("config") / path.name, ENVIRON)
    assert () == loaded.held_back
    assert loaded.configuration.accounts
    first = path.read_text().splitlines()[0]
    schema = first.removeprefix("# yaml-language-server: $schema=")
    assert (path.parent / schema).is_file()


def test_passwords_without_what_reads_them(write, monkeypatch):
    """
    Pages that nobody could be kept from are refused, and not only doubted.
    """
    hashed = "$2y$10$" + 53 * "x"
    write(
        "c.yaml", ALICE + f"ledger: /l\nhttp: {{basic_auth_users: {{a: {hashed}}}}}\n"
    )
    assert "a" in load().configuration.http.basic_auth_users
    monkeypatch.setattr(rules, "find_spec", lambda _: None)
    needs = "needs what is not installed: pip install popfetchd[basic-auth]"
    assert [f"c.yaml:9:26: http: basic_auth_users: {needs}"] == refused()


def test_a_certificate_s_path_starts_from_its_file(write):
    """
    As every path in a configuration.
    """
    write("c.yaml", ALICE + "ledger: /l\nhttp: {tls: {cert_file: x.pem}}\n")
    tls = load().configuration.http.tls
    assert Path.cwd() / "x.pem" == tls.cert_file
    assert None is tls.key_file


# -- one file -------------------------------------------------------------------------


def test_defaults_of_popfetchd(write):
    """
    What nobody writes has the values that are documented.
    """
    write("c.yaml", ALICE)
    loaded = load()
    found = loaded.configuration
    assert (Path("/state/ledger.db"), "127.0.0.1:10995") == (
        found.ledger,
        found.http.listen,
    )
    assert ("info", "auto", "auto") == (
        found.log.level,
        found.log.format,
        found.metrics.per_account,
    )
    assert (64, 4) == (found.limits.sessions, found.limits.sessions_per_host)
    (account,) = found.accounts
    assert ("implicit", None, "auto") == (account.tls, account.port, account.auth)
    assert (30.0, 60.0, 1800.0) == (account.jitter, account.timeout, account.deadline)
    assert (None, None) == (account.delete_after, account.max_message_size)
    assert ((), ()) == (loaded.held_back, loaded.doubts)


def test_text_as_written(write):
    """
    A text takes the scalar as written, and a number may stand in quotes.
    """
    account = "{name: 0123, user: no, password_env: yes, host: 1e3, port: '0995'}"
    write("c.yaml", DEFAULTS + f"accounts: [{account}]\nlimits: {{sessions: '8'}}\n")
    found = load().configuration
    (account,) = found.accounts
    assert ("0123", "no", "yes", "1e3") == (
        account.name,
        account.user,
        account.password_env,
        account.host,
    )
    assert (995, 8) == (account.port, found.limits.sessions)


def test_paths_start_from_the_file(write, folder):
    """
    A relative path starts from the folder of the file it is written in.
    """
    account = "{name: alice, user: alice, ca_file: ca.pem, client_cert: c.pem, client_key: c.key}"
    write("c.yaml", f"ledger: l.db\n{DEFAULTS}accounts: [{account}]\n")
    found = load().configuration
    assert folder / "l.db" == found.ledger
    (alice,) = plain.accounts(found)
    assert folder / "ca.pem" == alice.server.tls.ca_file
    assert folder / "c.pem" == alice.server.tls.client_cert
    assert folder / "c.key" == alice.server.tls.client_key
    assert folder / "secrets/alice" == alice.login.secret.path


def test_replaced_as_a_whole(write):
    """
    An account's secret, schedule or TLS leaves nothing of the default's.
    """
    write(
        "c.yaml",
        """\
defaults:
  host: pop.example.net
  cron: "0 8 * * *"
  timezone: Europe/Berlin
  password_file: /secrets/x
  tls: stls
  ca_file: /ca.pem
  port: 1110
  archive: {format: maildir, path: /srv/mail}
accounts:
  - {name: a, user: a}
  - {name: b, user: b, password_env: B, every: 5m}
  - {name: c, user: c, tls: none}
  - {name: d, user: d, ca_file: /other.pem}
  - {name: e, user: e, port: 1111}
  - {name: f, user: f, cron: "0 9 * * *", archive: {format: maildir, path: /srv/f}}
""",
    )
    a, b, c, d, e, f = plain.accounts(load().configuration)
    assert ("0 8 * * *", "Europe/Berlin") == (
        a.schedule.expression,
        a.schedule.timezone,
    )
    assert ("stls", Path("/ca.pem"), 1110) == where(a)
    assert ("B", 300.0) == (b.login.secret.name, b.schedule.seconds)
    assert ("none", None, 110) == where(c)
    assert ("implicit", Path("/other.pem"), 995) == where(d)
    assert ("stls", Path("/ca.pem"), 1111) == where(e)
    assert ("0 9 * * *", "Europe/Berlin") == (
        f.schedule.expression,
        f.schedule.timezone,
    )
    assert Path("/srv/f") == f.destination.path


def where(account):
    """
    Return how an account's server is reached.
    """
    return account.server.tls.mode, account.server.tls.ca_file, account.server.port


def test_one_user_on_two_servers(write):
    """
    The same user on two servers, and two accounts in one maildir, are allowed.
    """
    accounts = "".join(
        f"  - {{name: {n}, user: alice, host: {n}.example, "
        "archive: {format: maildir, path: /srv/mail}}\n"
        for n in "ab"
    )
    write("c.yaml", f"{DEFAULTS}accounts:\n{accounts}")
    assert ["a", "b"] == names(load())


@pytest.mark.parametrize("mode", [0o400, 0o600, 0o640])
def test_inline_password(write, mode):
    """
    A password in the file is taken from a guarded one, with a doubt.
    """
    write("c.yaml", ALICE.replace("user: alice", "user: a, password: hunter2"), mode)
    loaded = load()
    (account,) = loaded.configuration.accounts
    assert "hunter2" == account.password.get_secret_value()
    assert [
        (
            "c.yaml:7:38: account 'alice': password: is written in the file; "
            "password_file keeps it out of it"
        )
    ] == told(loaded.doubts)


def test_inline_password_for_all_to_read(write):
    """
    A password in a file that everyone may read is refused, in the defaults too.
    """
    text = ALICE.replace('password_file: "secrets/{account}"', "password: hunter2")
    write("c.yaml", text.replace("user: alice", "user: a, password: hunter2"), 0o644)
    problem = (
        "password: everyone may read this file (mode 0644); take that away with "
        "`chmod 0640`, or use password_file"
    )
    assert [
        f"c.yaml:4:13: defaults: {problem}",
        f"c.yaml:7:38: account 'alice': {problem}",
    ] == refused()


def test_doubts(write):
    """
    What works and is seldom meant is told once, where it is written.
    """
    write(
        "c.yaml",
        f"""\
{DEFAULTS}\
  tls: none
  port: 995
accounts:
  - {{name: a, user: a}}
  - {{name: b, user: b, tls: none}}
  - {{name: c, user: c, tls: implicit, port: 110}}
  - {{name: d, user: d, tls: stls, port: 995}}
  - {{name: e, user: e, tls: stls, port: 1995}}
""",
    )
    clear = "tls: password and mail cross the network in clear"
    assert [
        f"c.yaml:6:8: defaults: {clear}",
        f"c.yaml:10:29: account 'b': {clear}",
        (
            "c.yaml:11:45: account 'c': port: 110 is the port of `tls: stls`, "
            "and `tls` is implicit"
        ),
        (
            "c.yaml:12:41: account 'd': port: 995 is the port of `tls: implicit`, "
            "and `tls` is stls"
        ),
    ] == told(load().doubts)


def test_files_that_cannot_be_read_now(write, folder):
    """
    What only its own accounts would fail for is a doubt, with its place.
    """
    (folder / "there.pem").touch()
    write(
        "c.yaml",
        f"""\
{DEFAULTS}\
  ca_file: gone.pem
accounts:
  - {{name: a, user: a}}
  - {{name: b, user: b, client_cert: there.pem, client_key: gone.key}}
""",
    )
    gone = "cannot be read: No such file or directory"
    assert [
        f"c.yaml:6:12: defaults: ca_file: {folder}/gone.pem {gone}",
        f"c.yaml:9:60: account 'b': client_key: {folder}/gone.key {gone}",
    ] == told(load().doubts)


def test_a_proxy_without_its_package(write, monkeypatch):
    """
    A proxy that cannot be used yet is a doubt, with the line that installs it.
    """
    monkeypatch.setattr(rules, "find_spec", lambda name: None)
    write("c.yaml", ALICE.replace("user: alice", "user: a, proxy: socks5://h"))
    assert [
        (
            "c.yaml:7:35: account 'alice': proxy: needs what is not installed: "
            "pip install popfetchd[socks]"
        )
    ] == told(load().doubts)


def test_the_password_of_a_proxy_in_a_file_for_everyone(write):
    """
    It is a secret as any other; a proxy without one may be read.
    """
    text = ALICE.replace("user: alice", "user: a, proxy: 'socks5://u:hunter2@h'")
    write("c.yaml", text, 0o644)
    assert [
        (
            "c.yaml:7:35: account 'alice': proxy: everyone may read this file (mode 0644); "
            "take that away with `chmod 0640`"
        )
    ] == refused()
    write("c.yaml", text.replace("u:hunter2@", ""), 0o644)
    assert ["alice"] == names(load())


def test_the_least_tls_is_not_lowered_by_the_way(write):
    """
    An account that writes another key of TLS keeps the least version of the defaults.
    """
    write(
        "c.yaml",
        f"{DEFAULTS}  min_tls: 1.3\naccounts:\n"
        "  - {name: a, user: a, server_name: pop.example.org}\n"
        "  - {name: b, user: b, tls: none}\n",
    )
    a, b = plain.accounts(load().configuration)
    assert ("1.3", "pop.example.org") == (a.server.tls.minimum, a.server.server_name)
    assert "none" == b.server.tls.mode


def test_no_ledger_anywhere(write):
    """
    Without `ledger` and without an environment that says it, it is missing.
    """
    write("c.yaml", ALICE)
    with pytest.raises(ConfigurationError, match=r"c.yaml:1:1: ledger: is missing"):
        load({})


def test_no_file(folder):
    """
    A configuration that is not there is told like any mistake.
    """
    assert ["c.yaml: cannot be opened: No such file or directory"] == refused()


# -- further files --------------------------------------------------------------------


def test_further_files(write):
    """
    Accounts come from the main file, then from each pattern's files by name, once.
    """
    write("c.yaml", f"include: ['*.d/*.yaml', a.d/1.yaml]\naccounts_dir: b.d\n{ALICE}")
    write("a.d/2.yaml", "accounts: [{name: a2, user: u}]")
    write("a.d/1.yaml", "[{name: a1, user: u, password_file: x}]")
    write("b.d/1.yml", "[{name: b1, user: u}]")
    write("b.d/0.yaml", "[]")
    write("b.d/.hidden.yaml", "[{name: hidden, user: u}]")
    write("b.d/README", "no accounts")
    loaded = load()
    assert ["alice", "a1", "a2", "b1"] == names(loaded)
    assert () == loaded.held_back
    assert loaded.configuration.accounts[1].password_file.endswith("/a.d/x")
    assert loaded.configuration.accounts[2].password_file.endswith("secrets/{account}")
    assert "a.d" not in loaded.configuration.accounts[2].password_file


def test_absolute_pattern(write, folder):
    """
    A pattern may be absolute.
    """
    write("c.yaml", f"include: ['{folder}/a.d/*']\n{DEFAULTS}")
    write("a.d/1.yaml", "[{name: a1, user: u}]")
    assert ["a1"] == names(load())


def test_the_main_file_is_not_taken_in(write):
    """
    A pattern that also means the main file means the others.
    """
    write("c.yaml", f"include: ['*.yaml']\n{ALICE}")
    loaded = load()
    assert (["alice"], ()) == (names(loaded), loaded.held_back)


def test_held_back(write):
    """
    A bad file holds back its own accounts, all of them, and no others.
    """
    write("c.yaml", f"include: ['a.d/*']\n{ALICE}")
    write("a.d/1.yaml", "[{name: a1, user: u, colour: red}, {name: a2, user: u}]")
    write("a.d/2.yaml", "[{name: a3, user: u}]")
    write("a.d/3.yaml", "")
    write("a.d/4.yaml", "{defaults: {every: 1s}, accounts: [{name: a4, user: u}]}")
    write("a.d/5.yaml", "{}")
    write("a.d/6.yaml", "text")
    write("a.d/7.yaml", "[{name: a3, user: u}]")
    write("a.d/8.yaml", "[{name: a8, user: ../u}]")
    (Path("a.d") / "folder").mkdir()
    write("a.d/9.yaml", "[{name: a9, user: u, password: x}]", 0o644)
    loaded = load()
    assert ["alice", "a3", "a8"] == names(loaded)
    allowed = loaded.held_back[0].text.partition("allowed")[0]
    assert "account 'a1': a key: is no key here; " == allowed
    listed = "must be a list of accounts; each begins with `- name: …`"
    assert [
        "a.d/3.yaml: is empty",
        "a.d/4.yaml:1:2: defaults: a file that is taken in holds accounts only",
        "a.d/5.yaml:1:1: accounts: is missing",
        f"a.d/6.yaml:1:1: accounts: {listed}",
        (
            "a.d/7.yaml:1:9: account 'a3': name: is the name of another account, "
            "at a.d/2.yaml:1:9"
        ),
        (
            "a.d/9.yaml:1:32: account 'a9': password: everyone may read this file "
            "(mode 0644); take that away with `chmod 0640`, or use password_file"
        ),
        "a.d/folder: is not a file",
    ] == told(loaded.held_back[1:])
    assert () == loaded.doubts


def test_place_of_a_default_in_a_further_file(write):
    """
    What a default makes impossible for an account stands at the account.
    """
    write(
        "c.yaml",
        "include: [a.d/1.yaml]\n" + ALICE.replace("/srv/mail/{account}", "/{user}"),
    )
    write("a.d/1.yaml", "# nothing\n- {name: a1, user: a/b}")
    assert [
        (
            "a.d/1.yaml:2:3: account 'a1': archive: path: {user} cannot be put into a path: "
            "it holds a `/` or a NUL"
        )
    ] == told(load().held_back)


def test_all_files_at_once(write):
    """
    A mistake in the main file does not hide those of the others.
    """
    write("c.yaml", f"log: loud\ninclude: ['a.d/*']\n{ALICE}")
    write("a.d/1.yaml", "{}")
    assert [
        "c.yaml:1:6: log: must be a mapping: lines of `key: value`",
        "a.d/1.yaml:1:1: accounts: is missing",
    ] == refused()


# -- anything at all ------------------------------------------------------------------


KEYS = st.sampled_from(
    [
        *loading.Account.model_fields,
        *loading.Configuration.model_fields,
        "listen",
        "format",
        "path",
        "<<",
        "colour",
    ]
)
SCALARS = st.one_of(
    st.text(max_size=8),
    st.sampled_from(
        [
            "",
            "5m",
            "30d",
            "never",
            "/srv/{account}",
            "maildir",
            "a",
            "995",
            "*/5 * * * *",
        ]
    ),
)
TREES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(KEYS, inner, max_size=8)
    ),
    max_leaves=20,
)


def flow(tree):
    """
    Return *tree* as YAML that means it: every text in double quotes.
    """
    if isinstance(tree, dict):
        return "{" + ", ".join(f"{flow(k)}: {flow(v)}" for k, v in tree.items()) + "}"
    if isinstance(tree, list):
        return "[" + ", ".join(map(flow, tree)) + "]"
    return '"' + "".join(f"\\U{ord(c):08x}" for c in tree) + '"'


TEXTS = st.one_of(
    st.text(),
    TREES.map(flow),
    TREES.map(flow).map(lambda t: DEFAULTS + f"accounts: [{t}]\n"),
)


@given(TEXTS)
def test_any_text(tmp_path_factory, text):
    """
    Any text makes a configuration or a ConfigurationError, nothing else.
    """
    path = tmp_path_factory.getbasetemp() / "any-configuration.yaml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    path.chmod(0o600)
    try:
        loaded = loading.load(path, ENVIRON)
    except ConfigurationError as error:
        count = len(error.mistakes)
    else:
        count = len(plain.accounts(loaded.configuration)) + len(loaded.held_back)
    assert count


@pytest.mark.parametrize("text", [ALICE, "accounts: []"])
def test_no_cycles_are_looked_for_meanwhile(write, monkeypatch, text):
    """
    And they are again afterwards, whatever became of it.
    """
    real, seen = loading.read, []

    def read(path):
        seen.append(gc.isenabled())
        return real(path)

    monkeypatch.setattr(loading, "read", read)
    write("c.yaml", text)
    with suppress(ConfigurationError):
        load()
    assert ([False], True) == (seen, gc.isenabled())
    monkeypatch.setattr(gc, "isenabled", lambda: False)
    with monkeypatch.context() as patch, suppress(ConfigurationError):
        patch.setattr(gc, "enable", lambda: pytest.fail("it was off"))
        load()
    gc.enable()


# -- a second load --------------------------------------------------------------------


def again(former):
    return loading.load(Path("c.yaml"), ENVIRON, former)


def test_what_is_written_as_before_is_not_judged_again(write, monkeypatch):
    """
    A reload of thousands of accounts reads those that changed, wherever they moved to.
    """
    write("c.yaml", ALICE + "  - {name: bob, user: bob}\n")
    former, real, judged = load(), loading.Account.model_validate, []

    def judge(node):
        judged.append(str(node["name"]))
        return real(node)

    monkeypatch.setattr(loading.Account, "model_validate", judge)
    write("c.yaml", DEFAULTS + ACCOUNTS.replace("user: bob", "user: rob"))
    alice, bob = again(former).configuration.accounts
    assert alice is former.configuration.accounts[0]
    assert (["bob"], "rob") == (judged, bob.user)


@pytest.mark.parametrize(
    ("first", "then"),
    [
        (("5m", "5m"), ("5m", "7m")),
        (("user: alice", "user: alice"), ("user: alice", "user: alice, port: 996")),
        (("user: alice", 'user: "null"'), ("user: alice", "user: null")),
        (
            ("user: alice", 'user: a, password_command: ["~"]'),
            ("user: alice", "user: a, password_command: [~]"),
        ),
        (
            ("user: alice", 'user: a, archive: {format: maildir, path: "/a"}'),
            ("user: alice", "user: a, archive: {format: maildir, path: /b}"),
        ),
    ],
)
def test_a_second_load_finds_what_the_first_would(write, first, then):
    """
    Other defaults, another value, and a word that has become a null count as changed.
    """

    def result(former):
        try:
            return again(former).configuration
        except ConfigurationError as error:
            return error.mistakes

    write("c.yaml", ALICE.replace(*first))
    former = load()
    write("c.yaml", ALICE.replace(*then))
    assert result(None) == result(former) != former.configuration


def test_a_file_that_everybody_may_read_now_is_judged_anew(write):
    """
    An inline password that was right is a mistake then, though nothing was written.
    """
    text = ALICE.replace("user: alice}", "user: alice, password: hunter2}")
    write("c.yaml", text)
    former = load()
    assert "hunter2" not in repr(former) + repr(former.judged.accounts)
    write("c.yaml", text, mode=0o644)
    with pytest.raises(ConfigurationError, match="everyone may read this file"):
        again(former)


def test_neighbours_are_looked_at_each_time(write):
    """
    An account that did not change may stand in the way of one that did.
    """
    write("c.yaml", DEFAULTS + ACCOUNTS)
    former = load()
    mbox = "archive: {format: mbox, path: /srv/mail/alice/all}"
    write("c.yaml", DEFAULTS + ACCOUNTS + f"  - {{name: c, user: c, {mbox}}}\n")
    assert 3 == len(again(former).configuration.accounts)
    mbox = "archive: {format: mbox, path: /srv/mail/alice}"
    write("c.yaml", DEFAULTS + ACCOUNTS + f"  - {{name: c, user: c, {mbox}}}\n")
    with pytest.raises(ConfigurationError, match="is a folder, of account 'alice'"):
        again(former)


def test_a_group_is_looked_up_each_time(write, monkeypatch):
    """
    Its number is this machine's business, and may have changed.
    """
    archive = 'archive: {format: maildir, path: /a, group: mail, mode: "0640"}'
    write("c.yaml", ALICE.replace("user: alice}", f"user: alice, {archive}}}"))
    former = load()
    monkeypatch.setattr(grp, "getgrnam", lambda _: types.SimpleNamespace(gr_gid=4711))
    (alice,) = again(former).configuration.accounts
    assert 4711 == alice.archive.group.gid


def test_plain_accounts_stay_where_nothing_changed(write):
    """
    Who is visited meanwhile keeps its account; equal servers are one object.
    """
    write("c.yaml", DEFAULTS + ACCOUNTS)
    former = load()
    known = plain.by_name(former.configuration, former.configuration, {})
    write("c.yaml", DEFAULTS + ACCOUNTS.replace("user: bob", "user: rob"))
    found = again(former).configuration
    now = plain.by_name(found, former.configuration, known)
    assert now["alice"] is known["alice"]
    assert "rob" == now["bob"].login.user
    assert now["alice"].server is now["bob"].server
