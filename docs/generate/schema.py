"""
The JSON schema of a configuration, for editors: popfetchd/config/popfetchd.schema.json.

Rules of this file:

- What a key means is the string below it, which only the source holds: the models know
  nothing of it. They would read their own source whenever popfetchd starts.
"""

from __future__ import annotations

import json

from functools import cache
from typing import Any

from pydantic import BaseModel

from docs.generate import source
from popfetchd.config import model


@cache
def schema() -> dict[str, Any]:
    """
    Return the JSON schema (draft 2020-12) that a configuration file meets.
    """
    found: dict[str, Any] = _tidied(model.Configuration.model_json_schema())
    del found["required"]  # the ledger has a place of its own where none is written
    _describe(found["properties"], model.Configuration)
    for name, part in found["$defs"].items():
        of = getattr(model, name, None)
        if isinstance(of, type) and issubclass(of, BaseModel):
            _describe(part["properties"], of)
            _spell_defaults(part["properties"], of)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "popfetchd",
        **found,
    }


def _describe(properties: dict[str, Any], of: type[BaseModel]) -> None:
    described = meanings(of)
    for key, said in properties.items():
        if key in described:
            properties[key] = {"description": described[key], **said}


def meanings(of: type[BaseModel]) -> dict[str, str]:
    """
    Return key → what stands below it, for the keys of *of*.
    """
    bases = (base for base in reversed(of.__mro__) if base.__module__ == model.__name__)
    return {key: text for base in bases for key, text in source.of_class(base).items()}


def _spell_defaults(properties: dict[str, Any], of: type[BaseModel]) -> None:
    # As they would be written: `jitter` is 30s, not a number of seconds.
    spelled = of.model_construct().model_dump(mode="json", warnings="error")
    for key, value in spelled.items():
        if value is not None:
            properties[key]["default"] = value


def _tidied(node: Any) -> Any:  # noqa: ANN401 -- whatever JSON holds
    """
    Return *node* without pydantic's titles, and without null, which we refuse.
    """
    if isinstance(node, list):
        return [_tidied(item) for item in node]
    if not isinstance(node, dict):
        return node
    if isinstance(section := node.get("default"), dict):
        node = node | {
            "default": {
                key: value for key, value in section.items() if value is not None
            }
        }
    kinds = [
        kind
        for option in node.get("anyOf", ())
        for kind in option.get("anyOf", [option])
        if kind != {"type": "null"}
    ]
    left = {
        key: _tidied(value)
        for key, value in node.items()
        if key not in {"anyOf", "title"}
        and not (key == "default" and value in (None, []))
    }
    if len(kinds) > 1:
        return left | {"anyOf": _tidied(kinds)}
    return left | _tidied(kinds[0]) if kinds else left


def text() -> str:
    """
    Return the schema as it is shipped.
    """
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"
