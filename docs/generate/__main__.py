"""
`python -m docs.generate`: writes every document that is made from the code.
"""

from __future__ import annotations

from docs.generate import documents


if __name__ == "__main__":
    for path, text in documents().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
