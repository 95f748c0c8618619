"""
A configuration for people: the effective one.

Rules of this file:

- Every secret is `(hidden)`, the arguments of a command too.
- What is shown can be read again, and means the same but for its secrets (a hidden hash
  is refused: better than pages that stand open). The defaults
  stand in each account, and the accounts of further files among the others.
"""

from __future__ import annotations

from typing import Any

import yaml

from popfetchd.config import plain
from popfetchd.config.model import Account, Configuration
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
