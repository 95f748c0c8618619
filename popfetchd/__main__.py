"""
`python -m popfetchd`, and what the console script calls.
"""

from __future__ import annotations

import sys

from popfetchd.cli import main


if __name__ == "__main__":
    sys.exit(main())
