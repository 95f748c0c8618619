"""
The documents that are made from the code: what they are, and where they stand.

Rules of this package:

- What the code knows is not told a second time: a document that could be wrong about
  the command line or a key is made here, and `tests/test_generated.py` compares.
- Same code, same octets: no date, no width of a terminal, nothing of this machine.
- popfetchd itself does not need it, so it is no part of the wheel; what it writes is.
"""

from __future__ import annotations

from pathlib import Path

from docs.generate import completions, configuration, manual, schema


ROOT = Path(__file__).parent.parent.parent


def documents() -> dict[Path, str]:
    """
    Return path → text of each document.
    """
    return {
        ROOT / "docs/configuration.md": configuration.page(),
        ROOT / "docs/man/popfetchd.8": manual.of_program(),
        ROOT / "docs/man/popfetchd.yaml.5": manual.of_configuration(),
        ROOT / "deploy/completions/popfetchd.bash": completions.bash(),
        ROOT / "deploy/completions/_popfetchd": completions.zsh(),
        ROOT / "deploy/completions/popfetchd.fish": completions.fish(),
        ROOT / "popfetchd/config/popfetchd.schema.json": schema.text(),
    }
