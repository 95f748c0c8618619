"""
One YAML file as texts, mappings and lists that know where they stand.

Rules of this file:

- A scalar stays as it was written: `0123`, `no` and `1:30` are text. What a key makes
  of its text is the model's business. Quotes make one difference only: a bare `null`,
  `~` or nothing at all is no value.
- What only YAML 1.1 has, or what nobody needs here, is refused: merge keys, tags, keys
  that are no text, a second document. So are keys that are written twice.
- Whatever octets stand in the file, the answer is a `Document`; its mistakes say why
  it has no root. Nesting and aliases are bounded, and nothing here recurses.
- No sentence repeats a value, an anchor, a tag or a parser's quotation: each of them
  may be an unquoted secret.
"""

from __future__ import annotations

import re

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import yaml

from popfetchd.config import source
from popfetchd.config.source import Unreadable
from popfetchd.errors import Mistake, quote


LOADER: Any = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
"""libyaml where PyYAML was built with it (ten times as fast), else pure Python."""

DEEPEST = 16
"""Mappings and lists within one another; a configuration needs five."""

MOST_ALIASED = 100_000
"""Values that the aliases of one file may stand for in all ("a billion laughs")."""

NULLS = frozenset({"", "~", "null", "Null", "NULL"})
"""What YAML 1.2's core schema reads as no value, where it stands without quotes."""

PLAIN_NAME = "[A-Za-z0-9_.-]{1,64}"
"""A key that a sentence repeats as it is."""


class Text(str):
    """
    A scalar as it was written, or a key. *null*: it stands for no value.
    """

    __slots__ = ("column", "line", "null")
    size = 1
    line: int
    column: int
    null: bool

    def replaced(self, value: str) -> Text:
        """
        Return *value* at this place.
        """
        text = Text(value)
        text.line, text.column, text.null = self.line, self.column, False
        return text


class Sequence(list[object]):
    """
    A list of texts, mappings and lists.
    """

    __slots__ = ("column", "line", "size")
    line: int
    column: int
    size: int
    """Values in it, at any depth."""


class Mapping(dict[str, object]):
    """
    Keys (each a `Text`) and their values, in the order written.

    *flow*: it was written between braces, where a comma in an unquoted secret makes
    its rest look like a key.
    """

    __slots__ = ("column", "flow", "line", "size")
    line: int
    column: int
    size: int
    flow: bool

    def key(self, name: str) -> Text | None:
        """
        Return the key *name* with its place; None where it is not written.
        """
        return next((k for k in self if k == name and isinstance(k, Text)), None)


Node = Text | Sequence | Mapping


@dataclass(slots=True)
class Document:
    """
    A file that was read. *root* is None where nothing can be made of it.

    *mode*: its permission bits.
    """

    file: str
    folder: Path
    """Absolute; what relative paths in the file start from."""
    mode: int = 0
    root: Node | None = None
    mistakes: list[Mistake] = field(default_factory=list)
    doubts: list[Mistake] = field(default_factory=list)
    """What is allowed and seldom meant."""

    def wrong(self, line: int, column: int, text: str) -> None:
        """
        Add a mistake.
        """
        self.mistakes.append(Mistake(self.file, line, column, text))


def called(key: str) -> str:
    """
    Return *key* as a sentence may repeat it.
    """
    return key if re.fullmatch(PLAIN_NAME, key) else quote(key)


def read(path: Path) -> Document:
    """
    Read *path*. Never raises: what is wrong stands in the document's mistakes.
    """
    document = Document(str(path), path.absolute().parent)
    try:
        text, document.mode = source.text(path)
        document.root = _Builder(document).build(text)
    except Unreadable as error:
        document.wrong(error.line, error.column, error.text)
    return document


@dataclass(slots=True)
class _Open:
    """
    A mapping or list that is being filled.
    """

    node: Sequence | Mapping
    anchor: str | None
    key: Text | None = None
    """In a mapping: the key that waits for its value."""


class _Builder:
    """
    Puts a document together from the events of the parser.
    """

    def __init__(self, document: Document) -> None:
        self.document = document
        self.open: list[_Open] = []
        self.anchors: dict[str | None, Node | None] = {}
        """None while the anchored value is not complete."""
        self.aliased = 0
        self.root: Node | None = None

    def build(self, text: str) -> Node:
        for event in _events(text):
            self._take(event)
        if self.root is None or (isinstance(self.root, Text) and self.root.null):
            raise Unreadable("is empty")
        return self.root

    def _take(self, event: yaml.Event) -> None:
        match event:
            case yaml.ScalarEvent():
                self._tag(event)
                self._complete(_scalar(event), event.anchor)
            case yaml.MappingStartEvent() | yaml.SequenceStartEvent():
                self._tag(event)
                self._begin(event)
            case yaml.CollectionEndEvent():
                done = self.open.pop()
                self._complete(done.node, done.anchor)
            case yaml.AliasEvent():
                self._alias(event)
            case yaml.DocumentStartEvent() if self.root is not None:
                raise Unreadable(
                    "a second document begins here; a file holds one", *_mark(event)
                )
            case _:
                """The ends of documents and of the stream say nothing."""

    def _tag(self, event: yaml.ScalarEvent | yaml.CollectionStartEvent) -> None:
        if event.tag not in {None, "!"}:
            self.document.wrong(
                *_mark(event),
                "a tag (`!…`) has no meaning here; put text that begins with `!` in quotes",
            )

    def _begin(self, event: yaml.MappingStartEvent | yaml.SequenceStartEvent) -> None:
        if len(self.open) == DEEPEST:
            raise Unreadable(f"nested deeper than {DEEPEST} levels", *_mark(event))
        self.anchors[event.anchor] = None
        self.open.append(_Open(_container(event), event.anchor))

    def _alias(self, event: yaml.AliasEvent) -> None:
        node = self.anchors.get(event.anchor)
        if node is None:
            within = event.anchor in self.anchors
            problem = "stands within itself" if within else "has no anchor before it"
            raise Unreadable(
                f"this alias {problem}; put text that begins with `*` in quotes",
                *_mark(event),
            )
        self.aliased += node.size
        if self.aliased > MOST_ALIASED:
            raise Unreadable(
                f"aliases stand for more than {MOST_ALIASED} values", *_mark(event)
            )
        self._complete(node, None)

    def _complete(self, node: Node, anchor: str | None) -> None:
        if anchor:
            self.anchors[anchor] = node
        if not self.open:
            self.root = node
            return
        parent = self.open[-1]
        parent.node.size += node.size
        if isinstance(parent.node, Sequence):
            parent.node.append(node)
        elif parent.key is None:
            parent.key = _key(node)
        else:
            self._put(parent.node, parent.key, node)
            parent.key = None

    def _put(self, mapping: Mapping, key: Text, node: Node) -> None:
        first = mapping.key(key) if key in mapping else None
        if first is None:
            mapping[key] = node
            return
        name = "a key" if mapping.flow else called(key)
        there = f"line {first.line}, column {first.column}"
        text = f"{name}: is written twice; first at {there}"
        self.document.wrong(key.line, key.column, text)


def _container(
    event: yaml.MappingStartEvent | yaml.SequenceStartEvent,
) -> Sequence | Mapping:
    node: Sequence | Mapping
    if isinstance(event, yaml.MappingStartEvent):
        node = Mapping()
        node.flow = bool(event.flow_style)
    else:
        node = Sequence()
    node.line, node.column = _mark(event)
    node.size = 1
    return node


def _key(node: Node) -> Text:
    if isinstance(node, Text):
        return node
    raise Unreadable(
        "a key must be text; put text that begins with `[` or `{` in quotes",
        node.line,
        node.column,
    )


def _scalar(event: yaml.ScalarEvent) -> Text:
    text = Text(event.value)
    text.line, text.column = _mark(event)
    # PyYAML in C says style '' where PyYAML in Python says None.
    text.null = event.value in NULLS and not event.style
    return text


def _mark(event: yaml.Event) -> tuple[int, int]:
    mark = cast("yaml.Mark", event.start_mark)  # a parser's event always has one
    return mark.line + 1, mark.column + 1


def _events(text: str) -> Iterator[yaml.Event]:
    try:
        yield from yaml.parse(text, Loader=LOADER)
    except yaml.MarkedYAMLError as error:
        raise _syntax(text, error) from None


UNFIT_BLANK = re.compile("[\u00a0\u2000-\u200b\u202f\u205f\u3000]")
"""What looks like a space, comes along from web pages, and is a letter to YAML."""

BEGUN = {
    "while scanning a simple key": "write `key: value`, with a blank behind the colon",
    "while scanning a quoted scalar": "this quote is not closed",
    "while parsing a flow sequence": "this bracket is not closed",
    "while parsing a flow mapping": "this bracket is not closed",
}
"""What is told where it began: a parser notices it lines below."""

ADVICE = {
    "\t": "a tab does not indent; use spaces",
    ":": "put text that holds `: ` in quotes, or indent this as its neighbours",
    "while scanning an alias": "put text that begins with `*` in quotes",
    "while scanning an anchor": "put text that begins with `&` in quotes",
    "while parsing a block collection": "indent this as its neighbours",
    "while parsing a block mapping": "indent this as its neighbours",
}
"""What is told by the character that was not understood, or by what it stands in."""


def _syntax(text: str, error: yaml.MarkedYAMLError) -> Unreadable:
    mark = cast("yaml.Mark", error.problem_mark)  # a parser's error always has one
    begun = error.context_mark or mark
    rows = text.splitlines()[: mark.line + 1]
    for number in range(max(0, begun.line - 1), len(rows)):
        if blank := UNFIT_BLANK.search(rows[number].partition("#")[0]):
            name = f"U+{ord(blank[0]):04X}"
            return _no_yaml(f"{name} is no space; use spaces", number, blank.start())
    if error.context in BEGUN and begun.line < mark.line:
        return _no_yaml(BEGUN[error.context], begun.line, begun.column)
    row = rows[mark.line] if mark.line < len(rows) else ""
    character = row[mark.column : mark.column + 1]
    return _no_yaml(_advice(character, error), mark.line, mark.column)


def _no_yaml(advice: str, line: int, column: int) -> Unreadable:
    return Unreadable(f"is not YAML: {advice}", line + 1, column + 1)


def _advice(character: str, error: yaml.MarkedYAMLError) -> str:
    if character in {"@", "`", "%"}:
        return f"put text that begins with `{character}` in quotes"
    if advice := ADVICE.get(character) or ADVICE.get(error.context or ""):
        return advice
    # libyaml's sentences are constants; PyYAML's own repeat what they found.
    if LOADER is yaml.BaseLoader:
        return "the structure cannot be read here"
    return str(error.problem)
