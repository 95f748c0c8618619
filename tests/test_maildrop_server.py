"""
The maildrop on a socket: TLS, threads, and the wire as it was.
"""

from __future__ import annotations

import poplib
import socket
import ssl
import threading

from pathlib import Path

import pytest

from popfetchd.maildrop import server as module
from popfetchd.maildrop.certificate import Certificate, certify
from popfetchd.maildrop.drop import Maildrop
from popfetchd.maildrop.server import HOST, Line, MaildropServer
from popfetchd.values import Secret, TlsMode


PATIENCE = 10.0


@pytest.fixture(scope="module")
def certificate(tmp_path_factory) -> Certificate:
    """
    One certificate for the whole file.
    """
    return certify(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def drop() -> Maildrop:
    """
    A maildrop with one message that needs byte-stuffing, and one of 300 KB.
    """
    drop = Maildrop("alice", Secret("s3cret"))
    drop.deliver(b"Subject: x\r\n\r\n.dot\r\n")
    drop.deliver(b"x" * 300_000)
    return drop


def trusting(ca_file: Path) -> ssl.SSLContext:
    """
    Return a client's context that trusts *ca_file* only.
    """
    return ssl.create_default_context(cafile=ca_file)


def connect(server: MaildropServer) -> socket.socket:
    """
    Return a plain connection to *server*.
    """
    return socket.create_connection((HOST, server.port), PATIENCE)


def log_in(pop3: poplib.POP3) -> poplib.POP3:
    """
    Log in by USER and PASS.
    """
    pop3.user("alice")
    pop3.pass_("s3cret")
    return pop3


def implicit(server: MaildropServer, certificate: Certificate) -> poplib.POP3:
    """
    Return a session under TLS from the first octet, logged in.
    """
    context = trusting(certificate.ca_file)
    return log_in(
        poplib.POP3_SSL("localhost", server.port, timeout=PATIENCE, context=context)
    )


def stls(server: MaildropServer, certificate: Certificate) -> poplib.POP3:
    """
    Return a session under TLS after STLS, logged in.
    """
    pop3 = poplib.POP3("localhost", server.port, timeout=PATIENCE)
    pop3.stls(context=trusting(certificate.ca_file))
    return log_in(pop3)


def clear(server: MaildropServer, certificate: Certificate) -> poplib.POP3:
    """
    Return a session without TLS, logged in.
    """
    return log_in(poplib.POP3(HOST, server.port, timeout=PATIENCE))


MODES = [(TlsMode.IMPLICIT, implicit), (TlsMode.STLS, stls), (TlsMode.NONE, clear)]


@pytest.mark.parametrize(("mode", "session"), MODES)
def test_the_standard_library_gets_its_mail(certificate, drop, mode, session):
    """
    The standard library logs in, retrieves and removes over each kind of channel.
    """
    with MaildropServer([drop], certificate.context, mode=mode) as server:
        pop3 = session(server, certificate)
        assert [b"Subject: x", b"", b".dot"] == pop3.retr(1)[1]
        pop3.dele(1)
        pop3.quit()
    assert 1 == len(drop.messages)


def everything(channel: socket.socket) -> bytes:
    """
    Return all octets until the peer ends the connection.
    """
    received = b""
    while chunk := channel.recv(65536):
        received += chunk
    return received


def test_large_messages_cross_tls_whole(certificate, drop):
    """
    A message of many TLS records arrives octet by octet, and QUIT ends TLS properly.
    """
    with MaildropServer([drop], certificate.context) as server:
        context = trusting(certificate.ca_file)
        plain = connect(server)
        with plain, context.wrap_socket(plain, server_hostname=HOST) as channel:
            channel.sendall(b"USER alice\r\nPASS s3cret\r\nRETR 2\r\nQUIT\r\n")
            octets = everything(channel)  # a missing close_notify would raise
    assert octets.endswith(b"\r\n" + b"x" * 300_000 + b"\r\n.\r\n+OK bye\r\n")


HANDSHAKE = b"\x16\x03"
"""How TLS begins (RFC 8446 §5.1): a record of type 22, version 3."""


@pytest.mark.parametrize(
    ("mode", "session", "start"),
    [
        (TlsMode.IMPLICIT, implicit, HANDSHAKE),
        (TlsMode.STLS, stls, b"CAPA\r\nSTLS\r\n" + HANDSHAKE),
        (TlsMode.NONE, clear, b"USER alice\r\nPASS s3cret\r\n"),
    ],
)
def test_the_wire_is_recorded_as_it_was(certificate, drop, mode, session, start):
    """
    A credential shows on the wire where there is no TLS, and only there.
    """
    with MaildropServer([drop], certificate.context, mode=mode, record=True) as server:
        session(server, certificate).quit()
    assert (mode is TlsMode.NONE) == (b"s3cret" in server.wire)
    assert server.wire.startswith(start)


def test_a_credential_in_clear_on_a_tls_port_is_recorded(certificate, drop):
    """
    The worst mistake a client can make is seen, though TLS refuses what it sends.
    """
    with MaildropServer([drop], certificate.context, record=True) as server:
        with connect(server) as connection:
            connection.sendall(b"USER alice\r\nPASS s3cret\r\n")
            assert b"+OK" not in everything(connection)
        assert b"PASS s3cret" in server.wire


def test_nothing_is_recorded_unless_asked_for(certificate, drop):
    """
    A demo that runs for days does not grow.
    """
    with MaildropServer([drop], certificate.context) as server:
        implicit(server, certificate).quit()
    assert b"" == server.wire


@pytest.mark.parametrize(("mode", "session"), MODES)
def test_a_client_that_vanishes_removes_nothing(certificate, drop, mode, session):
    """
    A connection that breaks off after DELE frees the lock and keeps the message.
    """
    with MaildropServer([drop], certificate.context, mode=mode) as server:
        pop3 = session(server, certificate)
        pop3.dele(1)
        pop3.close()
    assert drop.acquire()
    assert 2 == len(drop.messages)


def test_a_client_that_stays_silent_is_logged_out(certificate, drop, monkeypatch):
    """
    The autologout timer ends a session without UPDATE (RFC 1939 §3).
    """
    monkeypatch.setattr(module, "AUTOLOGOUT", 0.05)
    with MaildropServer([drop], certificate.context, mode=TlsMode.NONE) as server:
        pop3 = clear(server, certificate)
        with pytest.raises((poplib.error_proto, OSError)):
            pop3._getline()
        pop3.close()
    assert drop.acquire()


def test_close_ends_open_sessions_and_joins_their_threads(certificate, drop):
    """
    After `close` no thread of the server is left, and closing again does no harm.
    """
    before = threading.active_count()
    server = MaildropServer([drop], certificate.context, mode=TlsMode.NONE)
    pop3 = clear(server, certificate)
    silent = connect(server)
    server.close()
    server.close()
    assert before == threading.active_count()
    pop3.close()
    silent.close()


def test_a_session_too_many_is_closed_without_a_word(certificate, drop, monkeypatch):
    """
    The number of sessions is bounded.
    """
    monkeypatch.setattr(module, "MOST_SESSIONS", 1)
    server = MaildropServer([drop], certificate.context, mode=TlsMode.NONE)
    with server, connect(server) as first:
        assert first.recv(3) == b"+OK"
        with connect(server) as second:
            assert b"" == second.recv(1)


def test_a_line_whose_peer_has_gone_closes_all_the_same():
    """
    A farewell that cannot be sent keeps nobody from closing the socket.
    """
    ours, theirs = socket.socketpair()
    theirs.close()
    line = Line(ours, None)
    line.close()
    assert -1 == ours.fileno()
