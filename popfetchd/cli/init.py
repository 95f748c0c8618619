"""
`popfetchd init`: from nothing to an account that works, by five questions.

Rules of this file:

- Nothing is written before all is answered; who gives up (Ctrl-C, Ctrl-D) leaves nothing
  behind. No file is ever overwritten.
- The login is tested as `popfetchd check` tests it. One that fails leaves the files in
  place: one line of them is to be corrected, and which one is told.
"""

from __future__ import annotations

import os
import shlex
import signal
import sys

from argparse import Namespace
from pathlib import Path

from popfetchd.cli import check
from popfetchd.cli.conversation import Conversation, on_terminal
from popfetchd.cli.exits import Exit
from popfetchd.cli.opened import loaded
from popfetchd.cli.questions import Questions
from popfetchd.config import first
from popfetchd.config.first import First
from popfetchd.credentials import read
from popfetchd.logs import clean
from popfetchd.values import Secret, SecretFile


HERE = Path("popfetchd.yaml")
"""What is written where no file is named."""

NEXT = {
    "fetch": "one visit, now",
    "run": "the service; it shows itself at http://127.0.0.1:10995/",
}

TO_CORRECT = {
    Exit.NO_PERMISSION: "correct `user` in {path}, or the password in {secret}",
    Exit.UNAVAILABLE: "correct host, port or `tls` in {path}",
    Exit.TRY_AGAIN: "nothing needs to be corrected: the server wants you to wait",
}


def run(arguments: Namespace) -> int:
    """
    Write the configuration and test its login; exit as `check` does.
    """
    path = Path(os.path.abspath(arguments.config or HERE))  # noqa: PTH100 -- follow no link
    first.refuse_taken(path)
    made, password = _asked(arguments, path)
    if password is None:
        read(SecretFile(Path(made.password_file)), environ=os.environ)
    first.put(path, made, password, os.environ)
    _tell(path, made, password)
    written = Namespace(config=path, accounts=[], json=False)
    if arguments.no_check:
        loaded(written)  # it tells what is seldom meant, as `check` does
        code = Exit.OK
    else:
        code = Exit(check.run(written))
    return _ended(code, path, made)


def _asked(arguments: Namespace, path: Path) -> tuple[First, Secret | None]:
    if not on_terminal():
        return Questions(arguments, None).first(path.parent)
    # A parent may have had it ignored; who answers must be able to stop as well.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        talk = Conversation(idle=lambda: None)
        return Questions(arguments, talk).first(path.parent)
    except (EOFError, KeyboardInterrupt):
        print("\npopfetchd: nothing was written", file=sys.stderr)
        raise KeyboardInterrupt from None


def _tell(path: Path, made: First, password: Secret | None) -> None:
    print(clean(f"{path}: written; nobody else may read it"))
    if password is not None:
        print(clean(f"{path.parent / made.password_file}: the password, likewise"))
    sys.stdout.flush()


def _ended(code: Exit, path: Path, made: First) -> Exit:
    file = shlex.quote(str(path))
    if code is Exit.OK:
        print("Next:")
        for verb, does in NEXT.items():
            print(clean(f"  popfetchd {verb} -c {file}  # {does}"))
        return code
    correct = TO_CORRECT.get(code, "correct {path}")
    secret = path.parent / made.password_file
    print("popfetchd: the login failed; the files stay", file=sys.stderr)
    hint = (
        f"{correct.format(path=path, secret=secret)}; then: popfetchd check -c {file}"
    )
    print(clean(f"  hint: {hint}"), file=sys.stderr)
    return code
