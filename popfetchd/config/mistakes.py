"""
From a fault and its path to a sentence with file, line and column.

Rules of this file:

- pydantic says where and what kind; the sentence is ours. Its own repeats the input.
- A value's fault stands at the value, an unknown key's at the key, and that of a
  missing key at the mapping that lacks it.
- An unknown key between the braces of an account is not repeated: in
  `{password: se,cret}` the key `cret` is half a secret.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from popfetchd.config.document import Document, Mapping, Sequence, called
from popfetchd.config.model import NOT_YET, Account, Configuration, Defaults, Settings
from popfetchd.config.rules import Fault
from popfetchd.errors import Mistake


SENTENCES = {
    "missing": "is missing",
    "model_type": "must be a mapping: lines of `key: value`",
}
"""pydantic's kinds of errors that are neither ours nor about an unknown key."""

ELSEWHERE: dict[type[BaseModel], tuple[type[BaseModel], str]] = {
    Configuration: (Account, "belongs to an account, or to `defaults`"),
    Defaults: (Account, "belongs to an account"),
    Account: (Configuration, "belongs to the whole configuration"),
}
"""Where a key that is unknown here may be known, and what to say then."""


def told(
    document: Document, node: object, faults: Iterable[Fault], label: str = ""
) -> Iterator[Mistake]:
    """
    Yield the mistakes that *faults* in *node* are in *document*.
    """
    for fault in faults:
        steps = [f"item {s + 1}" if isinstance(s, int) else s for s in fault.path]
        text = ": ".join(filter(None, [label, *steps, fault.text]))
        yield Mistake(document.file, *(fault.at or place(node, fault.path)), text)


def place(node: object, path: tuple[str | int, ...]) -> tuple[int, int]:
    """
    Return the line and column of what *path* leads to, or as near as it leads.
    """
    found: Any = node
    for step in path:
        if step not in found and not isinstance(found, Sequence):
            break
        found = found[step]
    return found.line, found.column


def faults(
    error: ValidationError, model: type[BaseModel], node: Mapping
) -> Iterator[Fault]:
    """
    Yield the faults for which *model* refused *node*.
    """
    for detail in error.errors(include_url=False, include_input=False):
        path, kind = detail["loc"], detail["type"]
        if kind == "extra_forbidden":
            yield _unknown(path, model, node)
        elif kind == "value_error":
            yield Fault(path, str(detail["ctx"]["error"]))
        else:
            yield Fault(path, SENTENCES.get(kind, "is not allowed"))


def _unknown(
    path: tuple[str | int, ...], model: type[BaseModel], node: Mapping
) -> Fault:
    *parents, name = (str(step) for step in path)
    mapping: Any = node
    for step in parents:
        mapping, model = mapping[step], _submodel(model, step)
    known = {*NOT_YET, *Account.model_fields, *Configuration.model_fields}
    secret = mapping.flow and issubclass(model, Settings) and name not in known
    text = f"{'a key' if secret else called(name)}: {_advice(name, model)}"
    key = mapping.key(name)
    return Fault(tuple(parents), text, (key.line, key.column))


def _submodel(model: type[BaseModel], key: str) -> type[BaseModel]:
    annotation: Any = model.model_fields[key].annotation
    kind: type[BaseModel]
    kind, *_ = get_args(annotation) or (annotation,)  # `Archive | None` or `Archive`
    return kind


def _advice(name: str, model: type[BaseModel]) -> str:
    if name == "<<":
        return "is YAML 1.1; write what accounts share under `defaults`"
    if issubclass(model, Settings) and name in NOT_YET:
        return NOT_YET[name]
    other, where = ELSEWHERE.get(model, (model, ""))
    if name in other.model_fields:
        return where
    import difflib  # noqa: PLC0415 -- for who mistyped one

    if near := difflib.get_close_matches(name, model.model_fields, 1):
        return f"is no key here; did you mean `{near[0]}`?"
    return f"is no key here; allowed are {', '.join(sorted(model.model_fields))}"
