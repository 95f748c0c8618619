"""
The atheris target: libFuzzer looks for octets that break the invariant of target.py.

    make fuzz MINUTES=30

Rules of this file: atheris is no dependency of the project; `make fuzz` sets up an
environment of its own for it. Whatever leaves `one` is a finding: libFuzzer stops there,
and writes the octets to a file named crash-…, which `python -m tests.fuzz.engine FILE`
plays again.
"""

from __future__ import annotations

import sys

from pathlib import Path

import atheris


with atheris.instrument_imports(include=["popfetchd.pop3"]):
    import popfetchd.pop3.session

    from tests.fuzz.target import (
        Story,
        engine,
        exchanges,
        parsers,
        visit,
        write_seeds,
    )

WORDS = (
    "+OK",
    "-ERR",
    "+ ",
    "\\x0d\\x0a",
    "\\x0d\\x0a.\\x0d\\x0a",
    "\\xfe\\xfe",
    "\\xfe\\xfe\\x01",
    "STLS",
    "SASL PLAIN",
    "PIPELINING",
    "[IN-USE]",
    "[SYS/TEMP]",
    "[AUTH]",
    "<1.2@host>",
    "1 120",
    "2 a-unique-id",
    "EXPIRE NEVER",
    "LOGIN-DELAY 60",
    "UTF8 USER",
    "r=nonceX,s=c2FsdA==,i=4096",
    "cj1ub25jZVgscz1jMkZzZEE9PSxpPTQwOTY=",
    "v=abcd",
)
"""What the fuzzer would take long to find by itself, as libFuzzer's dictionary has it."""


def one(octets: bytes) -> None:
    """
    Try one input.
    """
    story = Story.read(octets)
    visit(story)
    engine(story)
    parsers(octets[1:])
    exchanges(octets)


def main(arguments: list[str]) -> None:
    """
    Fuzz from the seeds on; *arguments* are libFuzzer's, the first the corpus's folder.
    """
    if len(arguments) > 1 and not arguments[1].startswith("-"):
        corpus = Path(arguments[1])
        if not corpus.is_file():
            write_seeds(corpus)
            words = corpus.with_suffix(".dict")
            words.write_text("".join(f'"{word}"\n' for word in WORDS))
            arguments.append(f"-dict={words}")
    assert popfetchd.pop3.session
    atheris.Setup(arguments, one)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv)
