"""
What the operator writes: from YAML to plain values, or to a list of mistakes.

- `find`      which file, and where the ledger stands when nobody says
- `document`  one YAML file as texts, mappings and lists that know their places
- `scalars`   durations, sizes and numbers; `templates`: `{account}` in a path
- `model`     every key, what it may hold and what it means (pydantic)
- `rules`     what the keys of one account must be to each other
- `mistakes`  from a fault and its path to a sentence with file, line and column
- `load`      the files of a configuration, all at once
- `plain`     the values that the rest of popfetchd works with
- `show`      the effective configuration without its secrets; the JSON schema

Nothing is imported here: `healthcheck` must not pay for pydantic.
"""
