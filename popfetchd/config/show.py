"""
A configuration for people and editors: the effective one, and the JSON schema.

Rules of this file:

- Every secret is `(hidden)`, the arguments of a command too.
- What is shown can be read again, and means the same but for its secrets. The defaults
  stand in each account, and the accounts of further files among the others.
"""

from __future__ import annotations

import json

from typing import Any

import yaml

from popfetchd.config import plain
from popfetchd.config.model import Account, Configuration


DUMPER: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
"""libyaml where PyYAML was built with it, as `document` reads."""

FIRST = ("name", "host", "port", "user")
"""What a reader looks for first."""


def shown(configuration: Configuration) -> str:
    """
    Return *configuration* as YAML, complete and without secrets.
    """
    whole = configuration.model_dump(mode="json", exclude_none=True)
    whole["accounts"] = [_account(account) for account in configuration.accounts]
    text: str = yaml.dump(whole, Dumper=DUMPER, sort_keys=False, allow_unicode=True)
    return text


def _account(account: Account) -> dict[str, Any]:
    keys = account.model_dump(mode="json", exclude_none=True)
    keys["port"] = plain.port(account)
    for idle in ("timezone",) if account.cron is None else ("jitter",):
        del keys[idle]
    return {key: keys[key] for key in (*FIRST, *(k for k in keys if k not in FIRST))}


def schema() -> dict[str, Any]:
    """
    Return the JSON schema (draft 2020-12) that a configuration file meets.
    """
    found = Configuration.model_json_schema()
    # The ledger has a place of its own where none is written.
    found["required"] = []
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "popfetchd",
        **{key: value for key, value in found.items() if key != "title"},
    }


def schema_text() -> str:
    """
    Return the schema as it is shipped.
    """
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"
