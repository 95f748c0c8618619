"""
Where secrets come from, and that nothing of them is told when they do not.
"""

from __future__ import annotations

import os
import sys

from pathlib import Path

import pytest

from popfetchd import credentials
from popfetchd.errors import SecretUnavailable
from popfetchd.values import (
    AccessToken,
    InlineSecret,
    NoSecret,
    Secret,
    SecretCommand,
    SecretCredential,
    SecretFile,
    SecretVariable,
    TokenSource,
)


def revealed(source, environ=None, **more):
    """
    Read *source* and return the secret itself.
    """
    return credentials.read(source, environ=environ or {}, **more).reveal()


def refused(source, environ=None, **more):
    """
    Read *source*, which fails, and return the sentence.
    """
    with pytest.raises(SecretUnavailable) as caught:
        revealed(source, environ, **more)
    chain = [caught.value, caught.value.__cause__, caught.value.hint]
    assert "hunter2" not in "".join(map(repr, chain))
    assert caught.value.__cause__ is None or caught.value.__suppress_context__
    return str(caught.value)


@pytest.fixture
def file(tmp_path):
    """
    Write a file that only its owner may read, and return it as a source.
    """

    def write(octets, mode=0o600, name="secret"):
        path = tmp_path / name
        path.write_bytes(octets)
        path.chmod(mode)
        return SecretFile(path)

    return write


def shell(line):
    """
    Return a command that runs *line* in a shell.
    """
    return SecretCommand(("/bin/sh", "-c", line))


def test_inline():
    """
    A secret in the configuration is that secret.
    """
    assert "hunter2" == revealed(InlineSecret(Secret("hunter2")))


# -- files ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("octets", "secret"),
    [
        (b"hunter2", "hunter2"),
        (b"hunter2\n", "hunter2"),
        (b"hunter2\r\n", "hunter2"),
        (b" hunter2 \n", " hunter2 "),
        ("pässwörd\n".encode(), "pässwörd"),
        (b"x" * credentials.LONGEST_SECRET, "x" * credentials.LONGEST_SECRET),
    ],
)
def test_file(file, octets, secret):
    """
    A file's content is the secret, without one line end and with everything else.
    """
    assert secret == revealed(file(octets))


@pytest.mark.parametrize(
    ("octets", "problem"),
    [
        (b"", "it is empty"),
        (b"\n", "it is empty"),
        (b"\r\n", "it is empty"),
        (b"hunter2\n\n", "it holds a line end or a NUL"),
        (b"hunter2\nDELE 1", "it holds a line end or a NUL"),
        (b"hunter2\r", "it holds a line end or a NUL"),
        (b"hunter2\0", "it holds a line end or a NUL"),
        (b"hunter2\xff", "it is not UTF-8"),
        (b"hunter2\n" * 8193, "it is longer than 65536 octets"),
    ],
)
def test_file_without_a_secret(file, octets, problem):
    """
    What no server can be given is refused, and not repeated.
    """
    source = file(octets)
    assert f"no secret from the file '{source.path}': {problem}" == refused(source)


@pytest.mark.parametrize("mode", [0o400, 0o440, 0o600, 0o640, 0o660])
def test_guarded(file, mode):
    """
    Owner and group may read the file.
    """
    assert "hunter2" == revealed(file(b"hunter2\n", mode))


@pytest.mark.parametrize("mode", [0o604, 0o602, 0o644, 0o777])
def test_unguarded(file, mode):
    """
    A file that everyone may read or write is refused.
    """
    assert refused(file(b"hunter2\n", mode)).endswith(
        f"everyone may read or write it (mode {mode:04o}); take that away with "
        "`chmod o-rwx`"
    )


def test_no_file(tmp_path):
    """
    What is not there, or no file, is told; a FIFO does not hold us up.
    """
    os.mkfifo(tmp_path / "fifo", 0o600)
    expected = f"no secret from the file '{tmp_path}/x': No such file or directory"
    assert expected == refused(SecretFile(tmp_path / "x"))
    assert refused(SecretFile(tmp_path / "fifo")).endswith(": it is not a file")
    assert refused(SecretFile(tmp_path)).endswith(": it is not a file")


def test_file_is_read_each_time(file):
    """
    A rotated file needs no reload.
    """
    source = file(b"old")
    assert "old" == revealed(source)
    source.path.write_bytes(b"new")
    assert "new" == revealed(source)


# -- credentials ----------------------------------------------------------------------


def test_credential_of_systemd(file, tmp_path):
    """
    The folder of systemd comes before the container's.
    """
    file(b"hunter2\n", 0o400, "alice")
    environ = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    source = SecretCredential("alice")
    assert "hunter2" == revealed(source, environ, run_secrets=Path("/nowhere"))


def test_credential_of_a_container(file, tmp_path):
    """
    A container's secrets are often 0444, and taken.
    """
    file(b"hunter2\n", 0o444, "alice")
    assert "hunter2" == revealed(SecretCredential("alice"), run_secrets=tmp_path)


def test_no_credential(tmp_path):
    """
    A credential that is not there is told by its name.
    """
    expected = "no secret from the credential 'bob': No such file or directory"
    assert expected == refused(SecretCredential("bob"), run_secrets=tmp_path)


@pytest.mark.parametrize("name", ["", "../x", "/etc/x", "."])
def test_credential_elsewhere(name, tmp_path):
    """
    A name that leads out of the folder is refused.
    """
    sentence = refused(SecretCredential(name), run_secrets=tmp_path)
    assert sentence.endswith("its name would lead elsewhere")


# -- the environment ------------------------------------------------------------------


def test_variable():
    """
    A variable's value is the secret.
    """
    assert "hunter2" == revealed(SecretVariable("P"), {"P": "hunter2"})


@pytest.mark.parametrize(
    ("environ", "problem"),
    [
        ({}, "it is not set"),
        ({"P": ""}, "it is empty"),
        ({"P": "hunter2\n"}, "it holds a line end or a NUL"),
        ({"P": "hunter2\udcff"}, "it is not UTF-8"),
    ],
)
def test_variable_without_a_secret(environ, problem):
    """
    A variable is held to the same rules, and has no line end to drop.
    """
    expected = f"no secret from the variable 'P': {problem}"
    assert expected == refused(SecretVariable("P"), environ)


# -- commands -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "secret"),
    [
        ("printf hunter2", "hunter2"),
        ("echo hunter2; echo user: alice", "hunter2"),
        ("printf 'hunter2\\r\\nmore'", "hunter2"),
        ("echo noise >&2; echo hunter2", "hunter2"),
        ('printf %s "$P"', "from the environment"),
        ("cat; echo hunter2", "hunter2"),
    ],
)
def test_command(line, secret):
    """
    The first line a command prints is the secret; it has no input.
    """
    assert secret == revealed(shell(line), {"P": "from the environment"})


def test_no_shell():
    """
    Words go to the program as they are.
    """
    source = SecretCommand(("/bin/echo", "$P", "`id`", "a  b"))
    assert "$P `id` a  b" == revealed(source, {"P": "x"})


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("echo hunter2; exit 3", "it ended with status 3"),
        ("echo hunter2 >&2; exit 1", "it ended with status 1"),
        ("echo hunter2; kill -9 $$", "it was killed by signal 9"),
        ("true", "it is empty"),
        ("echo; echo hunter2", "it is empty"),
        ("printf 'hunter2\\0'", "it holds a line end or a NUL"),
        ("printf 'hunter2\\377'", "it is not UTF-8"),
    ],
)
def test_command_without_a_secret(line, problem):
    """
    A command that fails, or prints no secret, is told without what it printed.
    """
    assert f"no secret from the command '/bin/sh': {problem}" == refused(shell(line))


@pytest.mark.parametrize(
    ("argv", "problem"),
    [
        (("/no/such/program", "hunter2"), "No such file or directory"),
        (("/dev/null",), "Permission denied"),
        (("/bin/echo", "hunter2\0"), "it cannot be started"),
    ],
)
def test_command_that_cannot_start(argv, problem):
    """
    A command that cannot be started is told without its arguments.
    """
    expected = f"no secret from the command '{argv[0]}': {problem}"
    assert expected == refused(SecretCommand(argv))


def test_endless_output():
    """
    A command that prints without end is stopped by its own write, not by our memory.
    """
    source = SecretCommand(
        (sys.executable, "-c", "while True: print('hunter2' * 1000)")
    )
    assert "it ended with status 1" in refused(source)


def test_overrun(tmp_path):
    """
    A command that overruns is killed with all that it started.
    """
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    line = f"exec 3>{fifo}; sleep 60 & sleep 60"
    sentence = refused(shell(line), timeout=0.2)
    assert sentence.endswith("it did not end within 0.2 s and was killed")
    # Both sleepers held the FIFO open: its end is seen only once both are gone.
    os.set_blocking(reader, True)
    assert b"" == os.read(reader, 1)
    os.close(reader)


def test_left_behind():
    """
    A process that a command leaves behind (an agent) does not hold us up.
    """
    line = "sleep 5 & echo hunter2"
    assert "hunter2" == revealed(shell(line), timeout=2.0)


# -- access tokens --------------------------------------------------------------------


TOKEN = "ya29.a0-_~+/=="


def sources(tmp_path, text):
    """
    Yield each source of a secret, which gives *text*.
    """
    path = tmp_path / "hunter2"
    path.write_text(text)
    path.chmod(0o600)
    yield InlineSecret(Secret(text))
    yield SecretFile(path)
    yield SecretVariable("HUNTER")
    yield SecretCommand(("printf", "%s", text))
    yield SecretCredential(path.name)


def test_token(tmp_path):
    """
    An access token comes from where a password may, and is known as a token.
    """
    environ = {"HUNTER": TOKEN, "PATH": os.environ["PATH"]}
    for source in sources(tmp_path, TOKEN):
        found = credentials.read(
            TokenSource(source), environ=environ, run_secrets=tmp_path
        )
        assert (AccessToken, TOKEN) == (type(found), found.reveal())


@pytest.mark.parametrize("text", ["Bearer ya29", '{"token":"ya29"}', "{", "tökén"])
def test_what_is_no_token(tmp_path, text):
    """
    What a program printed instead of a token is refused, and not repeated.
    """
    environ = {"HUNTER": text, "PATH": os.environ["PATH"]}
    for source in sources(tmp_path, text):
        with pytest.raises(SecretUnavailable, match="it is no access token") as caught:
            credentials.read(TokenSource(source), environ=environ, run_secrets=tmp_path)
        assert text not in str(caught.value)


def test_none_needed():
    """
    Where a certificate is the proof there is nothing to read.
    """
    assert "" == revealed(NoSecret())
