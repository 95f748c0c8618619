"""
Each error: its sentence, its hint, whose fault it is, and how durable.
"""

from __future__ import annotations

import errno
import inspect
import os
import re

import pytest

from hypothesis import example, given
from hypothesis import strategies as st

from popfetchd import errors
from popfetchd.errors import (
    LONGEST_QUOTE,
    AccountLocked,
    AddressTaken,
    ArchiveError,
    ArchiveLocked,
    AuthenticationRefused,
    CertificateRefused,
    CertificateUnexpected,
    CommandRefused,
    ConfigurationError,
    ConnectFailed,
    Disconnected,
    DiskFull,
    Durability,
    ExtraMissing,
    Fault,
    Interrupted,
    InUse,
    LedgerBehind,
    LedgerDamaged,
    LedgerError,
    LedgerFull,
    LedgerInUse,
    LedgerNewer,
    LimitExceeded,
    LocalProtocolError,
    LoginDelayed,
    Mistake,
    NameNotResolved,
    NearlyFull,
    NetworkError,
    NoMechanism,
    NotPermitted,
    NotProved,
    NotWritten,
    PopfetchdError,
    ProtocolViolation,
    ProxyFailed,
    Reason,
    RemoteError,
    SecretUnavailable,
    ServerRefusal,
    SourceUnusable,
    StlsInjected,
    StlsUnavailable,
    SystemPermanent,
    SystemTemporary,
    TimedOut,
    TlsError,
    TlsFailed,
    TokenRefused,
    TooSlow,
    TooSoon,
    Unexpected,
    UnsafeArchive,
    Utf8Required,
    quote,
)
from popfetchd.values import Secret


TRANSIENT, PERMANENT = Durability
OPERATOR, NETWORK, SERVER, US = Fault

REPORT = "please report this: it is a fault of popfetchd"
DISK = "nothing was removed from the server; check the disk and its permissions"
NO_LEDGER = "no maildrop is visited without its ledger; check the file and its disk"
OR_AGAIN = (
    "put its newest copy back, or make it again from the archive: `popfetchd rebuild`"
)
NEWER = (
    "install that popfetchd again; or let this one make a ledger from the archive: "
    "`popfetchd rebuild`"
)

TAKEN = (
    "another program, or another popfetchd, listens there: "
    "end it, or write another port"
)

TOLD = [
    (
        AddressTaken("127.0.0.1:10995", "Address already in use"),
        "http.listen: 127.0.0.1:10995: Address already in use",
        TAKEN,
        (Reason.CONNECT, OPERATOR, TRANSIENT),
    ),
    (
        ConfigurationError([Mistake("a.yaml", 3, 5, "bad"), Mistake("b", 0, 0, "no")]),
        "a.yaml:3:5: bad\nb: no",
        "correct the file; `popfetchd config check` tells whether it is right",
        (Reason.CONFIGURATION, OPERATOR, PERMANENT),
    ),
    (
        NotWritten("a.yaml", "is there already", "name another one"),
        "a.yaml: is there already",
        "name another one",
        (Reason.CONFIGURATION, OPERATOR, PERMANENT),
    ),
    (
        SecretUnavailable("the variable POP", "it is not set"),
        "no secret from the variable POP: it is not set",
        "see that the variable POP gives the secret to the user popfetchd runs as",
        (Reason.SECRET, OPERATOR, PERMANENT),
    ),
    (
        ExtraMissing("trustme", "demo"),
        "the package trustme is not installed",
        "pip install popfetchd[demo]",
        (Reason.CONFIGURATION, OPERATOR, PERMANENT),
    ),
    (
        Interrupted(),
        "interrupted",
        "nothing is lost: the next visit goes on from here",
        (Reason.INTERRUPTED, OPERATOR, TRANSIENT),
    ),
    (
        AccountLocked("alice"),
        "account 'alice' is being visited by another popfetchd",
        "wait for that visit to end; nothing is lost",
        (Reason.IN_USE, OPERATOR, TRANSIENT),
    ),
    (
        TooSoon(29.6),
        "the server wants 30 s more before the next login",
        "make `every:` longer than the server's LOGIN-DELAY, or `login_floor:`",
        (Reason.LOGIN_DELAY, OPERATOR, TRANSIENT),
    ),
    (
        LocalProtocolError("DELE", "AUTHORIZATION"),
        "DELE is not allowed in state AUTHORIZATION",
        REPORT,
        (Reason.INTERNAL, US, PERMANENT),
    ),
    (
        Unexpected("KeyError", "the visit"),
        "unexpected KeyError in the visit",
        REPORT,
        (Reason.INTERNAL, US, TRANSIENT),
    ),
    (
        NameNotResolved("pop.example.net", "Name or service not known"),
        "pop.example.net: name not resolved: Name or service not known",
        "check the spelling of host 'pop.example.net' and this machine's DNS",
        (Reason.DNS, NETWORK, TRANSIENT),
    ),
    (
        ConnectFailed("pop.example.net", 995, "Connection refused"),
        "pop.example.net:995: no connection: Connection refused",
        "check host and port, and that no firewall stands between",
        (Reason.CONNECT, NETWORK, TRANSIENT),
    ),
    (
        ConnectFailed(
            "pop.example.net",
            995,
            "Connection refused",
            {"2001:db8::1": "No route to host", "192.0.2.1": "Connection refused"},
        ),
        (
            "pop.example.net:995: no connection: 2001:db8::1: No route to host; "
            "192.0.2.1: Connection refused"
        ),
        "check host and port, and that no firewall stands between",
        (Reason.CONNECT, NETWORK, TRANSIENT),
    ),
    (
        SourceUnusable("192.0.2.7", "Cannot assign requested address"),
        "source_address 192.0.2.7: Cannot assign requested address",
        (
            "`source_address:` must be an address of this machine, of a family that the "
            "server has too"
        ),
        (Reason.CONNECT, OPERATOR, TRANSIENT),
    ),
    (
        ProxyFailed("socks5://h:1080", "pop.example.net", 995, "TTL expired"),
        "pop.example.net:995: not through socks5://h:1080: TTL expired",
        (
            "check host, port, user and password in `proxy:`, and that the proxy lets "
            "this machine connect to the server"
        ),
        (Reason.CONNECT, NETWORK, TRANSIENT),
    ),
    (
        TimedOut("RETR", 60.0),
        "no end of RETR within 60 s",
        "the server or the network is slow; `timeout:` and `deadline:` set the limits",
        (Reason.TIMEOUT, NETWORK, TRANSIENT),
    ),
    (
        TooSlow("RETR", 61.2, 100),
        "no end of RETR after 61 s: fewer than 100 octets a second",
        "popfetchd tries again by itself; if it lasts, the server or the network is hardly working",
        (Reason.TIMEOUT, NETWORK, TRANSIENT),
    ),
    (
        Disconnected("UIDL", "the server closed it"),
        "connection lost during UIDL: the server closed it",
        "popfetchd tries again by itself; if it lasts, look at the network",
        (Reason.DISCONNECTED, NETWORK, TRANSIENT),
    ),
    (
        TlsFailed("pop.example.net", 110, "wrong version number"),
        "pop.example.net:110: TLS failed: wrong version number",
        (
            "port 995 wants `tls: implicit`, port 110 `tls: stls`; "
            "the server must speak TLS 1.2 or later"
        ),
        (Reason.TLS, SERVER, PERMANENT),
    ),
    (
        StlsUnavailable("pop.example.net", "the server does not offer it"),
        "pop.example.net: STLS is not to be had: the server does not offer it",
        "no credential was sent; use `tls: implicit` on port 995 if the server has it",
        (Reason.TLS, SERVER, PERMANENT),
    ),
    (
        StlsInjected("pop.example.net", 7),
        "pop.example.net: 7 octets stood behind the +OK to STLS",
        (
            "someone may be tampering with the line; no credential was sent; "
            "prefer `tls: implicit` on port 995"
        ),
        (Reason.TLS, SERVER, PERMANENT),
    ),
    (
        CertificateRefused("pop.example.net", "it has expired", "tell the provider"),
        "pop.example.net: certificate refused: it has expired",
        "no credential was sent; tell the provider",
        (Reason.CERTIFICATE, SERVER, PERMANENT),
    ),
    (
        CertificateUnexpected("pop.example.net", "it is another", "look for yourself"),
        "pop.example.net: certificate refused: it is another",
        "no credential was sent; look for yourself",
        (Reason.CERTIFICATE, OPERATOR, PERMANENT),
    ),
    (
        ProtocolViolation("greeting", "neither +OK nor -ERR", b"220 smtp\x1b"),
        r"greeting: neither +OK nor -ERR: '220 smtp\x1b'",
        "is host:port really a POP3 server? nothing was removed",
        (Reason.PROTOCOL, SERVER, TRANSIENT),
    ),
    (
        LimitExceeded("LONGEST_LINE", 512),
        "the server sent more than LONGEST_LINE allows (512)",
        "the server misbehaves, or a limit is too low for it; nothing was removed",
        (Reason.LIMIT, SERVER, TRANSIENT),
    ),
    (
        NoMechanism("apop", "the greeting has no timestamp"),
        "no way to log in with auth: apop: the greeting has no timestamp",
        "no credential was sent; `popfetchd check` shows what the server offers",
        (Reason.AUTH, OPERATOR, PERMANENT),
    ),
    (
        CommandRefused("RETR", "no such\x9bmessage"),
        r"the server refused RETR: 'no such\x9bmessage'",
        "popfetchd tries again by itself; the server's text may tell more",
        (Reason.PROTOCOL, SERVER, TRANSIENT),
    ),
    (
        AuthenticationRefused("PASS", "[AUTH] wrong"),
        "the server refused PASS: '[AUTH] wrong'",
        (
            "check user and password; the provider may want POP switched on, "
            "or a password for this application"
        ),
        (Reason.AUTH, OPERATOR, PERMANENT),
    ),
    (
        AuthenticationRefused("AUTH", "[AUTH] wrong", "SCRAM-SHA-1", b"e=no\x1b"),
        r"the server refused AUTH: '[AUTH] wrong', and told 'e=no\x1b'",
        (
            "check user and password; if they are right, the server may not keep them "
            "as SCRAM-SHA-1 needs: name another, such as `auth: plain`"
        ),
        (Reason.AUTH, OPERATOR, PERMANENT),
    ),
    (
        AuthenticationRefused("AUTH", "[AUTH] wrong", "EXTERNAL"),
        "the server refused AUTH: '[AUTH] wrong'",
        "check `client_cert`, and that it is the certificate of this user",
        (Reason.AUTH, OPERATOR, PERMANENT),
    ),
    (
        TokenRefused("AUTH", "[AUTH] no", "XOAUTH2", b'{"status":"401"}\x1b', 4096),
        ("the server refused AUTH: '[AUTH] no', and told '{\"status\":\"401\"}\\x1b'"),
        (
            "the token may have expired, be another user's, or lack the scope for POP; "
            "it is asked for anew at the next visit"
        ),
        (Reason.AUTH, OPERATOR, PERMANENT),
    ),
    (
        TokenRefused("AUTH", "[AUTH] no", "XOAUTH2", b"", 4097),
        "the server refused AUTH: '[AUTH] no'",
        (
            "the token has 4097 characters, and Exchange takes 4096 on POP3: ask for "
            "fewer scopes"
        ),
        (Reason.AUTH, OPERATOR, PERMANENT),
    ),
    (
        Utf8Required("RETR", "[UTF8] no"),
        "the server refused RETR: '[UTF8] no'",
        (
            "the message is in UTF-8 and the session is not: `utf8: false` may be why, "
            "or a server that announces no UTF8"
        ),
        (Reason.PROTOCOL, SERVER, TRANSIENT),
    ),
    (
        InUse("PASS", "[IN-USE] locked"),
        "the server refused PASS: '[IN-USE] locked'",
        "another program reads this maildrop, or an old session has not ended yet",
        (Reason.IN_USE, SERVER, TRANSIENT),
    ),
    (
        LoginDelayed("PASS", "[LOGIN-DELAY] wait"),
        "the server refused PASS: '[LOGIN-DELAY] wait'",
        "make `every:` longer: the server limits how often one may log in",
        (Reason.LOGIN_DELAY, SERVER, TRANSIENT),
    ),
    (
        SystemTemporary("UIDL", "[SYS/TEMP] later"),
        "the server refused UIDL: '[SYS/TEMP] later'",
        "the server is in trouble; popfetchd tries again by itself",
        (Reason.SYS_TEMP, SERVER, TRANSIENT),
    ),
    (
        SystemPermanent("PASS", "[SYS/PERM] gone"),
        "the server refused PASS: '[SYS/PERM] gone'",
        "tell the provider: the maildrop needs a person on the server's side",
        (Reason.SYS_PERM, SERVER, PERMANENT),
    ),
    (
        ArchiveError("fsync", "/srv/mail/tmp", "Input/output error"),
        "/srv/mail/tmp: fsync: Input/output error",
        DISK,
        (Reason.ARCHIVE, OPERATOR, TRANSIENT),
    ),
    (
        DiskFull("write", "/srv/mail/tmp/1", "No space left on device"),
        "/srv/mail/tmp/1: write: No space left on device",
        "make room; nothing was removed from the server, fetching resumes by itself",
        (Reason.DISK_FULL, OPERATOR, TRANSIENT),
    ),
    (
        NearlyFull("/srv/mail", 900, 1000),
        "/srv/mail: 900 octets are free, and min_free keeps 1000",
        "make room, or lower `min_free:`; fetching resumes by itself",
        (Reason.DISK_FULL, OPERATOR, TRANSIENT),
    ),
    (
        ArchiveLocked("/srv/mail/a.mbox", 30.0),
        "/srv/mail/a.mbox: lock: locked by another program for 30 s",
        "end the mail reader that uses it; if nothing does, remove /srv/mail/a.mbox.lock",
        (Reason.ARCHIVE, OPERATOR, TRANSIENT),
    ),
    (
        NotProved("prove", "/srv/mail/tmp/1", "it differs"),
        "/srv/mail/tmp/1: prove: it differs",
        "the disk returned other octets than it was given: check the hardware",
        (Reason.ARCHIVE, OPERATOR, TRANSIENT),
    ),
    (
        NotPermitted("chgrp to mail", "/srv/mail/tmp/1", "Operation not permitted"),
        "/srv/mail/tmp/1: chgrp to mail: Operation not permitted",
        (
            "popfetchd's user must be a member of the `group:` of the archive, and be "
            "started anew then; under systemd docs/operations.md says how"
        ),
        (Reason.ARCHIVE, OPERATOR, PERMANENT),
    ),
    (
        UnsafeArchive("/srv/mail", "it is bob's", "run it as bob"),
        "/srv/mail: open: it is bob's",
        "run it as bob",
        (Reason.ARCHIVE, OPERATOR, PERMANENT),
    ),
    (
        LedgerError("/var/lib/ledger.db", "is damaged"),
        "/var/lib/ledger.db: is damaged",
        NO_LEDGER,
        (Reason.LEDGER, OPERATOR, PERMANENT),
    ),
    (
        LedgerBehind("/var/lib/ledger.db", "older than the archive it is for"),
        "/var/lib/ledger.db: older than the archive it is for",
        f"{OR_AGAIN}; until then nothing is fetched",
        (Reason.LEDGER, OPERATOR, PERMANENT),
    ),
    (
        LedgerDamaged("/var/lib/ledger.db", "is damaged"),
        "/var/lib/ledger.db: is damaged",
        f"{OR_AGAIN} (it keeps the old file under another name)",
        (Reason.LEDGER, OPERATOR, PERMANENT),
    ),
    (
        LedgerNewer("/var/lib/ledger.db", "was written by a newer popfetchd"),
        "/var/lib/ledger.db: was written by a newer popfetchd",
        f"{NEWER} (it keeps the old file under another name)",
        (Reason.LEDGER, OPERATOR, PERMANENT),
    ),
    (
        LedgerFull("/var/lib/ledger.db", "there is no room left on its disk"),
        "/var/lib/ledger.db: there is no room left on its disk",
        "make room; nothing was removed from the server, nothing is lost",
        (Reason.DISK_FULL, OPERATOR, TRANSIENT),
    ),
    (
        LedgerInUse("/var/lib/ledger.db", "another popfetchd has it open"),
        "/var/lib/ledger.db: another popfetchd has it open",
        "stop the service first, and wait for every other popfetchd to end",
        (Reason.IN_USE, OPERATOR, TRANSIENT),
    ),
]

KINDS = {PopfetchdError, NetworkError, TlsError, RemoteError, ServerRefusal}
"""Classes that group others; none of them is raised itself."""


def every_class():
    """
    Return each error class of the module.
    """
    found = vars(errors).values()
    return {c for c in found if inspect.isclass(c) and issubclass(c, PopfetchdError)}


@pytest.mark.parametrize(
    ("error", "sentence", "hint", "fields"),
    TOLD,
    ids=[type(told[0]).__name__ for told in TOLD],
)
def test_each_error_says_exactly_this(error, sentence, hint, fields):
    """
    Sentence, hint, reason, fault and durability are as written here: they are what an
    operator reads, greps and alerts on.
    """
    assert sentence == str(error)
    assert hint == error.hint
    assert fields == (error.reason, error.fault, error.durability)


def test_no_class_is_missing_above():
    """
    Every class that may be raised has its exact sentence tested.
    """
    assert every_class() == KINDS | {type(told[0]) for told in TOLD}


def test_every_reason_is_some_errors():
    """
    No label of the metric, and no exit code, is for nothing.
    """
    assert set(Reason) == {error.reason for error, *_ in TOLD}


def test_the_tree_in_the_docstring_is_the_tree():
    """
    The picture names each class under its parent, with its reason where it has one.
    """
    line = re.compile(
        r"^    ([│├└─ ]*)([A-Z]\w+)(?: {2,}([a-z_]+)(?=  |$))?", re.MULTILINE
    )
    above: list[str] = []
    drawn = {}
    for branches, name, reason in line.findall(errors.__doc__):
        del above[len(branches) // 4 :]
        drawn[name] = (above[-1] if above else "Exception", reason)
        above.append(name)

    assert drawn == {
        kind.__name__: (kind.__base__.__name__, "" if kind in KINDS else kind.reason)
        for kind in every_class()
    }


@pytest.mark.parametrize(
    "error", [told[0] for told in TOLD], ids=lambda error: type(error).__name__
)
def test_a_secret_that_strays_into_an_error_does_not_show(error):
    """
    Given secrets for all its fields, an error shows none of them, or refuses them.
    """
    strays = [Secret("hunter2")] * len(error.args)
    try:
        made = type(error)(*strays)
        shown = f"{made} {made!r} {made.args} {made.hint}"
    except (TypeError, AttributeError) as refusal:
        shown = str(refusal)
    assert "hunter2" not in shown


def test_a_violation_without_octets_quotes_nothing():
    """
    Where nothing came, nothing is shown.
    """
    assert "RETR: it ended early" == str(ProtocolViolation("RETR", "it ended early"))


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENOSPC, DiskFull),
        (errno.EDQUOT, DiskFull),
        (errno.EIO, ArchiveError),
        (errno.EACCES, ArchiveError),
    ],
)
def test_the_systems_errors_are_translated(number, kind):
    """
    No space and no quota are a full disk, all else is the archive's trouble.
    """
    error = ArchiveError.from_os("write", "/srv/x", OSError(number, "as it came"))
    assert (kind, "write", "/srv/x") == (type(error), error.step, error.path)
    assert os.strerror(number) == error.problem


def test_an_error_of_the_system_without_a_number_keeps_its_text():
    """
    What Python raises by itself has a sentence only.
    """
    assert "odd" == ArchiveError.from_os("write", "/srv/x", OSError("odd")).problem


# -- quoting --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sent", "shown"),
    [
        ("", "''"),
        (b"+OK ready", "'+OK ready'"),
        ("\x1b[2J", r"'\x1b[2J'"),
        ("a\r\n2026 forged", r"'a\x0d\x0a2026 forged'"),
        (b"\0\x07\x7f", r"'\x00\x07\x7f'"),
        (b"\x9b31m\x85", r"'\x9b31m\x85'"),
        ("\u202eevil\u2066", r"'\u202eevil\u2066'"),
        ("\u2028\ufeff", r"'\u2028\ufeff'"),
        ("café", r"'caf\xe9'"),
        ("caf\xe9".encode(), r"'caf\xc3\xa9'"),
        ("\U0001f4e7", r"'\U0001f4e7'"),
        ("\ud800", r"'\ud800'"),
        ("x" * 200, f"'{'x' * 200}'"),
        ("x" * 201, f"'{'x' * 200}...'"),
    ],
)
def test_what_a_peer_sent_is_quoted(sent, shown):
    """
    What could move a cursor, forge a line or turn the text round is an escape.
    """
    assert shown == quote(sent)


@given(st.binary(max_size=300) | st.text(st.characters(codec=None), max_size=300))
@example("\ud800\U000e0001")
def test_any_text_becomes_printable_ascii_of_bounded_length(sent):
    """
    Whatever was sent, the quotation is one line of printable ASCII.
    """
    shown = quote(sent)
    assert shown.isascii()
    assert shown.isprintable()
    longest = len("\\U00000000")
    assert len(shown) <= longest * LONGEST_QUOTE + len("'...'")
