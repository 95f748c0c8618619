"""
What the operator writes: from YAML to plain values, or to a list of mistakes.

- `find`      which file, and where the ledger stands when nobody says
- `source`    a file as text; `document`: its texts, mappings and lists, with places
- `files`     which further files are taken in; the accounts' names
- `readers`   from what is written to what is meant; `scalars`: durations, sizes;
              `templates`: `{account}` in a path
- `model`     every key and what it means (pydantic); `kinds`: what it may hold
- `rules`     what the keys of one account must be to each other
- `mistakes`  from a fault and its path to a sentence with file, line and column
- `load`      the files of a configuration, all at once
- `apart`     the same in a process of its own, for who waits
- `plain`     the values that the rest of popfetchd works with
- `show`      the effective configuration without its secrets

Nothing is imported here: `healthcheck` must not pay for pydantic.
"""
