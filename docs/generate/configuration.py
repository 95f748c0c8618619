"""
docs/configuration.md: every key, in tables.

Rules of this file:

- The first example is a whole configuration; those of the groups stand in an account.
"""

from __future__ import annotations

import textwrap

from docs.generate.keys import Group, Key, of_accounts, top


OPENING = """# Configuration

Every key that a configuration may have. `make docs` writes this page from the models in
`popfetchd/config/`, and a test holds it to them; `popfetchd.yaml(5)` is the same as a
manual page. Examples to start from are in [config/](../config/); what the keys mean in
an operator's day is told in [operations.md](operations.md).

```yaml
ledger: /var/lib/popfetchd/ledger.db
http: {listen: "127.0.0.1:10995"}
defaults:
  every: 5m
  archive: {format: maildir, path: "/srv/mail/{account}"}
accounts:
  - name: alice
    host: pop.example.net
    user: alice@example.net
    password_file: /etc/popfetchd/alice.pass
  - name: bob
    host: pop.example.org
    user: bob
    password_command: [pass, show, mail/bob]
    delete_after: 30d
```

"""

READING = (
    (
        "The file is the one that `-c` names, else `$POPFETCHD_CONFIG`, "
        "`/etc/popfetchd/popfetchd.yaml`, or `popfetchd/popfetchd.yaml` below "
        "`$XDG_CONFIG_HOME` (`~/.config`). Others may not write it; with a secret in it, its "
        "mode is 0600 or 0640."
    ),
    (
        "It is YAML 1.2. A text is taken as it is written: `0123`, `no` and `1:30` stay texts. "
        "Unknown keys, and keys that stand twice, are refused. `popfetchd config check` tells "
        "every mistake with its line, `popfetchd config show` what is in effect, and `popfetchd "
        "config schema` gives editors their JSON schema."
    ),
    (
        "A duration has units, the longest first: `y` (365 days), `w`, `d`, `h`, `m`, `s`, "
        "`ms`, as in `1d12h`. A size has one: `B`, `kB`, `MB`, `GB`, `TB` (powers of 1000), "
        "`KiB`, `MiB`, `GiB`, `TiB` (of 1024). Bare numbers are refused for both."
    ),
    "A key with a dot stands in a mapping: `http.listen` is `listen` under `http`.",
)
"""What holds for the whole file; a manual has it too."""

OF_ACCOUNTS = (
    "What stands in `defaults` holds for each account that does not say otherwise. `name` "
    "and `user` are the account's own."
)

WIDTH = 88
"""Columns, as the other pages have them."""

HEAD = "| key | stands in | holds | default | meaning |\n|---|---|---|---|---|\n"


def page() -> str:
    """
    Return the page.
    """
    reading = "\n\n".join(map(_wrapped, READING))
    groups = "\n".join(map(_group, of_accounts()))
    return (
        f"{OPENING}{reading}\n\n## The whole file\n\n{_table(top())}\n"
        f"## An account\n\n{_wrapped(OF_ACCOUNTS)}\n\n{groups}"
    )


def _group(group: Group) -> str:
    example = group.example.replace("\n", "\n    ")
    return f"### {group.title}\n\n{_wrapped(group.text)}\n\n    {example}\n\n{_table(group.keys)}"


def _wrapped(text: str) -> str:
    return textwrap.fill(text, WIDTH, break_long_words=False, break_on_hyphens=False)


def _table(keys: tuple[Key, ...]) -> str:
    return HEAD + "".join(map(_row, keys))


def _row(key: Key) -> str:
    default = key.default or "\N{EN DASH}"
    if default == key.default and "`" not in default and " " not in default:
        default = f"`{default}`"
    cells = (f"`{key.name}`", key.place, key.holds, default, key.meaning)
    return f"| {' | '.join(cells)} |\n"
