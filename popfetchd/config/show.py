"""
A configuration for people and editors: the effective one, and the JSON schema.

Rules of this file:

- Every secret is `(hidden)`, the arguments of a command too.
- What is shown can be read again, and means the same but for its secrets (a hidden hash
  is refused: better than pages that stand open). The defaults
  stand in each account, and the accounts of further files among the others.
"""

from __future__ import annotations

import json

from typing import Any

import yaml

from pydantic import BaseModel

from popfetchd.config import plain
from popfetchd.config.model import (
    Account,
    Archive,
    Configuration,
    Defaults,
    Http,
    Limits,
    Log,
    Metrics,
)
from popfetchd.values import TlsMode


DUMPER: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
"""libyaml where PyYAML was built with it, as `document` reads."""

FIRST = ("name", "host", "port", "user")
"""What a reader looks for first."""


def shown(configuration: Configuration) -> str:
    """
    Return *configuration* as YAML, complete and without secrets.
    """
    whole = configuration.model_dump(
        mode="json", exclude={"accounts"}, exclude_none=True
    )
    whole["accounts"] = [_account(account) for account in configuration.accounts]
    text: str = yaml.dump(whole, Dumper=DUMPER, sort_keys=False, allow_unicode=True)
    return text


def _account(account: Account) -> dict[str, Any]:
    # Not exclude_none: `never` is None until it is spelled.
    dumped = account.model_dump(mode="json") | {"port": plain.port(account)}
    keys = _said(dumped)
    keys["archive"] = _said(keys["archive"])
    del keys["timezone" if account.cron is None else "jitter"]
    if account.tls is TlsMode.NONE:
        del keys["min_tls"]
    return {key: keys[key] for key in (*FIRST, *(k for k in keys if k not in FIRST))}


def _said(mapping: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in mapping.items() if value is not None}


def schema() -> dict[str, Any]:
    """
    Return the JSON schema (draft 2020-12) that a configuration file meets.
    """
    found: dict[str, Any] = _tidied(Configuration.model_json_schema())
    del found["required"]  # the ledger has a place of its own where none is written
    for model in (Account, Archive, Defaults, Http, Limits, Log, Metrics):
        _spell_defaults(found["$defs"][model.__name__]["properties"], model)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "popfetchd",
        **found,
    }


def _spell_defaults(properties: dict[str, Any], model: type[BaseModel]) -> None:
    """
    Put defaults as they would be written: `jitter` is 30s, not a number of seconds.
    """
    spelled = model.model_construct().model_dump(mode="json", warnings="error")
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
        node = node | {"default": _said(section)}
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


def schema_text() -> str:
    """
    Return the schema as it is shipped.
    """
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"
