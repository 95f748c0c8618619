"""
One YAML file: what stays text, what is refused, and where it is said to stand.
"""

from __future__ import annotations

import os

from pathlib import Path

import pytest
import yaml

from hypothesis import given
from hypothesis import strategies as st

from popfetchd.config import document, source


@pytest.fixture
def read(tmp_path):
    """
    Read octets or text as a document.
    """

    def read_(content, mode=0o600):
        path = tmp_path / "c.yaml"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        path.chmod(mode)
        return document.read(path)

    return read_


@pytest.fixture(params=["libyaml", "pure"])
def either(request, monkeypatch):
    """
    Both of PyYAML's parsers, one after the other.
    """
    if request.param == "pure":
        monkeypatch.setattr(document, "LOADER", yaml.BaseLoader)


def told(found):
    """
    Return the mistakes without the file's folder.
    """
    return [str(mistake).rpartition("/")[2] for mistake in found.mistakes]


@pytest.mark.parametrize(
    "scalar",
    [
        "0123",
        "no",
        "yes",
        "1:30",
        "1e3",
        "0x1F",
        "true",
        ".inf",
        "2024-01-01",
        "=",
        "<<",
    ],
)
def test_scalars_stay(either, read, scalar):
    """
    A scalar is the text that was written.
    """
    assert {"key": scalar} == read(f"key: {scalar}").root


@pytest.mark.parametrize("scalar", ["", "~", "null", "Null", "NULL"])
def test_null(either, read, scalar):
    """
    A bare null is no value; in quotes it is text.
    """
    assert read(f"key: {scalar}").root["key"].null
    assert not read(f"key: '{scalar}'").root["key"].null


def test_places(either, read):
    """
    Keys, texts, mappings and lists know their lines and columns.
    """
    root = read("# first\nkey:\n  - a: b\n    c: {d: e}\n").root
    key = root.key("key")
    assert (2, 1) == (key.line, key.column)
    assert (3, 3) == (root["key"].line, root["key"].column)
    first = root["key"][0]
    assert (3, 5) == (first.line, first.column)
    assert (3, 8) == (first["a"].line, first["a"].column)
    assert (4, 8) == (first["c"].line, first["c"].column)
    assert (False, True) == (first.flow, first["c"].flow)
    assert root.key("other") is None


def test_aliases(either, read):
    """
    An alias stands for what its anchor marks.
    """
    root = read("a: &x {k: v}\nb: *x\nc: &y text\nd: *y\n*y : e\n").root
    assert {
        "a": {"k": "v"},
        "b": {"k": "v"},
        "c": "text",
        "d": "text",
        "text": "e",
    } == root


def test_byte_order_mark(read):
    """
    A UTF-8 byte order mark is overlooked, also in columns.
    """
    assert {"a": "b"} == read(b"\xef\xbb\xbfa: b").root
    found = read(b"\xef\xbb\xbfa: \xff")
    assert ["c.yaml:1:4: octet 0xFF is not UTF-8; save the file as UTF-8"] == told(
        found
    )


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "c.yaml: is empty"),
        (b"# nothing\n", "c.yaml: is empty"),
        (b"~\n", "c.yaml: is empty"),
        (b"\xff\xfea\0", "c.yaml: is UTF-16; save it as UTF-8"),
        (b"\xfe\xff\0a", "c.yaml: is UTF-16; save it as UTF-8"),
        (
            "é: 1\r\nä: é".encode()[:-1],
            "c.yaml:2:4: octet 0xC3 is not UTF-8; save the file as UTF-8",
        ),
        (b"a: b\rc: \0", "c.yaml:2:4: the control character U+0000 is not allowed"),
        (b"a: \x1b[2J", "c.yaml:1:4: the control character U+001B is not allowed"),
        (b"a: \xc2\x85", "c.yaml:1:4: the control character U+0085 is not allowed"),
        (
            b"a: \xe2\x80\xa8",
            "c.yaml:1:4: the control character U+2028 is not allowed",
        ),
    ],
)
def test_unreadable_text(read, content, expected):
    """
    What is not text is told plainly, with its place.
    """
    found = read(content)
    assert found.root is None
    assert [expected] == told(found)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a:\n\tb: c", "2:1: is not YAML: a tab does not indent; use spaces"),
        (
            "a: b: hunter2",
            (
                "1:5: is not YAML: put text that holds `: ` in quotes, "
                "or indent this as its neighbours"
            ),
        ),
        (
            "a: @hunter2",
            "1:4: is not YAML: put text that begins with `@` in quotes",
        ),
        (
            "a: *hunter2",
            "1:4: this alias has no anchor before it; put text that begins with `*` in quotes",
        ),
        (
            "a: &hunter2 [*hunter2]",
            "1:14: this alias stands within itself; put text that begins with `*` in quotes",
        ),
        (
            "a: 1\nb:hunter2\nc: d",
            "2:1: is not YAML: write `key: value`, with a blank behind the colon",
        ),
        ("a: 'hunter2\nb: c\n", "1:4: is not YAML: this quote is not closed"),
        ("a: [hunter2\nb: c\n", "1:4: is not YAML: this bracket is not closed"),
        (
            "cron: */10 * * * *",
            "1:8: is not YAML: put text that begins with `*` in quotes",
        ),
        ("a: &/", "1:5: is not YAML: put text that begins with `&` in quotes"),
        ("- a: 1\n b: 2", "2:2: is not YAML: indent this as its neighbours"),
        (
            "a:\n  b: c\n\u00a0 d: e: f",
            "3:1: is not YAML: U+00A0 is no space; use spaces",
        ),
        ("a:\n  b:\u00a0c\n  d: e", "2:5: is not YAML: U+00A0 is no space; use spaces"),
        ("--- a\n--- b", "2:1: a second document begins here; a file holds one"),
        (
            "? [a]\n: b",
            "1:3: a key must be text; put text that begins with `[` or `{` in quotes",
        ),
        ("[" * 99, "1:17: nested deeper than 16 levels"),
    ],
)
def test_refused_text(either, read, text, expected):
    """
    What is no YAML, or more than is needed, is told without repeating it.
    """
    found = read(text)
    assert found.root is None
    assert [f"c.yaml:{expected}"] == told(found)


def test_syntax_in_libyamls_words(read):
    """
    The sentences of libyaml are constants, and shown; the other parser's repeat the text.
    """
    expected = "c.yaml:1:6: is not YAML: did not find expected ',' or ']'"
    assert [expected] == told(read("a: [b}hunter2"))


def test_syntax_in_no_words(read, monkeypatch):
    """
    Of PyYAML's own parser only the place is told.
    """
    monkeypatch.setattr(document, "LOADER", yaml.BaseLoader)
    expected = "c.yaml:1:5: is not YAML: the structure cannot be read here"
    assert [expected] == told(read("a: [}hunter2"))


def test_faults_beside_others(either, read):
    """
    Doubled keys and tags are all told, and the rest is still read.
    """
    found = read('a: 1\na: 2\nb: !hunter2 c\n"\\e": 1\n"\\e": 1\nd: {e: 1, e: 1}\n')
    assert {"a": "1", "b": "c", "\x1b": "1", "d": {"e": "1"}} == found.root
    assert [
        "c.yaml:2:1: a: is written twice; first at line 1, column 1",
        "c.yaml:3:4: a tag (`!…`) has no meaning here; put text that begins with `!` in quotes",
        "c.yaml:5:1: '\\x1b': is written twice; first at line 4, column 1",
        "c.yaml:6:11: a key: is written twice; first at line 6, column 5",
    ] == told(found)


def test_aliases_are_bounded(either, read):
    """
    A billion laughs end after a hundred thousand.
    """
    lines = ["a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol, lol]"]
    for n in range(1, 10):
        aliases = ", ".join([f"*a{n - 1}"] * 10)
        lines.append(f"a{n}: &a{n} [{aliases}]")
    (mistake,) = told(read("\n".join(lines)))
    assert mistake.endswith("aliases stand for more than 100000 values")


def test_files_are_bounded(read, monkeypatch):
    """
    A file that is too large is refused, and not taken into memory.
    """
    monkeypatch.setattr(source, "LARGEST_FILE", 2**20)
    assert ["c.yaml: is larger than 1 MiB"] == told(read(b"#" * (2**20 + 1)))


def test_no_file(tmp_path):
    """
    What cannot be opened, or is no file, is told.
    """
    os.mkfifo(tmp_path / "fifo")
    for name, expected in [
        ("none", "none: cannot be opened: No such file or directory"),
        ("fifo", "fifo: is not a file"),
        ("\0", "\0: cannot be opened: its name is no path"),
    ]:
        assert [expected] == told(document.read(tmp_path / name))


def test_unreadable_file():
    """
    A file whose octets cannot be read is told (no process has memory at address 0).
    """
    found = document.read(Path("/proc/self/mem"))
    (mistake,) = found.mistakes
    assert "/proc/self/mem: cannot be read: Input/output error" == str(mistake)


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_others_may_write(read, mode):
    """
    A file that others may write is refused: it says what popfetchd runs.
    """
    found = read("a: b", mode)
    assert found.root is None
    (mistake,) = told(found)
    assert mistake.startswith(f"c.yaml: others may write it (mode {mode:04o}), and")
    assert mistake.endswith("; take that away with `chmod go-w`")


def test_mode_and_folder(read, tmp_path):
    """
    A document knows its folder and its permission bits.
    """
    found = read("a: b", 0o644)
    assert (tmp_path, 0o644) == (found.folder, found.mode)


YAMLISH = st.text(alphabet=st.sampled_from(list("ab:-{}[],&*!|>'\"#%@ \n\t~")))


@given(st.one_of(st.binary(), st.text().map(str.encode), YAMLISH.map(str.encode)))
def test_any_octets(tmp_path_factory, octets):
    """
    Any octets make a document with a root, or one that says why not.
    """
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_bytes(octets)
    path.chmod(0o600)
    found = document.read(path)
    assert (found.root is None) <= bool(found.mistakes)
