"""
popfetchd(8) and popfetchd.yaml(5), in roff.

Rules of this file:

- Verbs, options and exit codes come from the code, keys from the models; what no code
  can tell (signals, files, environment) is written here, and a test holds the names in
  it to the code.
- Only the macros of man(7) that groff and mandoc both have. What is not ASCII, and what
  roff would take for its own, is escaped.
- `code` becomes bold, as manuals print what is typed.
"""

from __future__ import annotations

import re

from collections import Counter
from collections.abc import Iterable

from docs.generate import source
from docs.generate.commands import Argument, Takes, Verb, verbs, whole
from docs.generate.configuration import OF_ACCOUNTS, READING
from docs.generate.keys import Group, Key, of_accounts, top
from popfetchd import __version__
from popfetchd.cli.exits import OF_REASON, WORST_FIRST, Exit


OPENING = (
    (
        "popfetchd fetches mail from POP3 accounts on a schedule and archives it as maildir "
        "or mbox. Each message is written, read back and recorded before it may leave the "
        "server, and nothing leaves it unless the configuration says so. What the "
        "configuration holds is in `popfetchd.yaml(5)`."
    ),
    "Data goes to standard output, everything else to standard error.",
)

SIGNALS = {
    "SIGTERM, SIGINT": "End. Visits under way have a second to end with what they "
    "have; the second signal ends popfetchd at once, which does no harm: the next visit "
    "settles what was cut off.",
    "SIGHUP": "`run` reads the configuration again. A valid one takes effect without "
    "dropping a visit; an invalid one changes nothing, is logged, and shows in a metric.",
}

ENVIRONMENT = {
    "POPFETCHD_CONFIG": "The configuration, where `-c` names none.",
    "XDG_CONFIG_HOME, HOME": "Where a user's configuration is sought.",
    "STATE_DIRECTORY, XDG_STATE_HOME": "Where the ledger stands, where the configuration "
    "does not say; systemd sets the first.",
    "CREDENTIALS_DIRECTORY": "Where credentials are read, else `/run/secrets`; systemd "
    "sets it.",
    "NOTIFY_SOCKET, WATCHDOG_USEC, JOURNAL_STREAM": "How systemd is told of life, and "
    "the journal of how severe an event is; systemd sets them.",
    "COLUMNS": "How wide help and tables are, where that is not as the terminal.",
    "NO_COLOR, TERM": "No colours where the first is set, or the second is dumb.",
}

FILES = {
    "/etc/popfetchd/popfetchd.yaml": "The configuration; else "
    "`~/.config/popfetchd/popfetchd.yaml`.",
    "~/.local/state/popfetchd/ledger.db": "The ledger, where neither the configuration "
    "nor the environment says. It and the archives belong together.",
    ".popfetchd-spool/": "Beside an mbox, or the folders of a dated path: messages that "
    "are being archived.",
}


def of_program() -> str:
    """
    Return popfetchd(8).
    """
    return "".join(
        [
            _head("popfetchd", 8, "fetch mail over POP3 and archive it"),
            _section("SYNOPSIS", f"{_bold('popfetchd')} {_italic('VERB')} [...]\n"),
            _section("DESCRIPTION", _paragraphs(OPENING)),
            _section("VERBS", "".join(map(_verb, verbs()))),
            _section("OPTIONS", _items(map(_argument, _everywhere()))),
            _section("EXIT STATUS", _exits()),
            _section("SIGNALS", _told(SIGNALS)),
            _section("ENVIRONMENT", _told(ENVIRONMENT)),
            _section("FILES", _told(FILES)),
            _section("SEE ALSO", _see_also(("popfetchd.yaml", 5), ("systemctl", 1))),
        ]
    )


def of_configuration() -> str:
    """
    Return popfetchd.yaml(5).
    """
    return "".join(
        [
            _head("popfetchd.yaml", 5, "the configuration of popfetchd"),
            _section("DESCRIPTION", _paragraphs(READING)),
            _section("THE WHOLE FILE", _items(map(_key, top()))),
            _section("AN ACCOUNT", _paragraphs([OF_ACCOUNTS])),
            *map(_group, of_accounts()),
            _section("SEE ALSO", _see_also(("popfetchd", 8), ("crontab", 5))),
        ]
    )


# -- the parts of a manual ------------------------------------------------------------


def _verb(verb: Verb) -> str:
    shapes = " ".join(map(_shape, (*verb.options[1:], *verb.operands)))
    usage = f"{_bold(' '.join(verb.words))} {shapes}".rstrip()
    own = [argument for argument in verb.arguments if argument not in _shared()]
    told = [_argument(argument) for argument in own if argument.help]
    inner = f".RS\n{_items(told)}.RE\n" if told else ""
    return f".TP\n{usage}\n{_text(verb.text)}\n{inner}"


def _shared() -> tuple[Argument, ...]:
    # What several verbs have is told once.
    verbs_with = Counter(argument for verb in verbs() for argument in verb.arguments)
    return tuple(a for a, count in verbs_with.items() if count > 1 and a.help)


def _everywhere() -> list[Argument]:
    return list(dict.fromkeys((*whole().options, *_shared())))


def _shape(argument: Argument) -> str:
    name = _italic(argument.metavar)
    if argument.flags:
        value = "" if argument.takes is Takes.NOTHING else f" {name}"
        return f"[{_bold(argument.flags[0])}{value}]"
    return f"[{name}{'...' if argument.many else ''}]" if argument.optional else name


def _argument(argument: Argument) -> tuple[str, str]:
    value = "" if argument.takes is Takes.NOTHING else f" {_italic(argument.metavar)}"
    flags = ", ".join(_bold(flag) + value for flag in argument.flags)
    return flags or _italic(argument.metavar), _text(_sentence(argument.help))


def _exits() -> str:
    meanings = source.of_class(Exit)
    codes = [(str(int(code)), _text(_exit(code, meanings[code.name]))) for code in Exit]
    worst = ", ".join(str(int(code)) for code in WORST_FIRST[1:-1])
    told = (
        f"Of several accounts, the first of {worst} that occurred. Behind a colon stand "
        "the reasons of failures, as the log and `popfetchd status` tell them."
    )
    return _paragraphs([told]) + _items(codes)


def _exit(code: Exit, meaning: str) -> str:
    reasons = [f"`{reason}`" for reason, exit_ in OF_REASON.items() if exit_ is code]
    return _sentence(f"{meaning}: {', '.join(reasons)}" if reasons else meaning)


def _group(group: Group) -> str:
    example = "\n".join(map(_escaped, group.example.split("\n")))
    return (
        f".SS {_escaped(group.title)}\n{_text(group.text)}\n"
        f".PP\n.RS 4\n.EX\n{example}\n.EE\n.RE\n{_items(map(_key, group.keys))}"
    )


def _key(key: Key) -> tuple[str, str]:
    told = [_sentence(key.meaning), f"Holds {key.holds}."]
    if key.default:
        told.append(f"Default: {key.default}.")
    if key.place == "account":
        told.append("Not in `defaults`.")
    return _bold(key.name), _text(" ".join(told))


def _told(named: dict[str, str]) -> str:
    return _items((_bold(name), _text(text)) for name, text in named.items())


# -- roff -----------------------------------------------------------------------------


def _head(name: str, section: int, purpose: str) -> str:
    of = f"popfetchd {__version__}"
    return (
        '.\\" Written by `make docs`.\n'
        f'.TH {name} {section} "" "{_escaped(of)}"\n'
        f".SH NAME\n{_escaped(name)} \\- {_escaped(purpose)}\n"
    )


def _section(title: str, body: str) -> str:
    return f".SH {title}\n{body}"


def _items(items: Iterable[tuple[str, str]]) -> str:
    return "".join(f".TP\n{tag}\n{text}\n" for tag, text in items)


def _paragraphs(texts: Iterable[str]) -> str:
    return "\n.PP\n".join(map(_text, texts)) + "\n"


def _see_also(*pages: tuple[str, int]) -> str:
    return ", ".join(f"{_bold(name)}({section})" for name, section in pages) + "\n"


def _sentence(text: str) -> str:
    # A word in quotes or one that is typed keeps its first letter.
    text = text if text.endswith(".") else f"{text}."
    return text if re.match(r"\W|[a-z]+[:/\d]", text) else text[0].upper() + text[1:]


def _text(text: str) -> str:
    parts = re.split("`([^`]*)`", text)
    return "".join(
        _bold(part) if number % 2 else _escaped(part)
        for number, part in enumerate(parts)
    )


def _bold(text: str) -> str:
    return f"\\fB{_escaped(text)}\\fR"


def _italic(text: str) -> str:
    return f"\\fI{_escaped(text)}\\fR"


ESCAPES = {
    "\\": "\\e",
    "-": "\\-",
    "'": "\\(aq",
    "`": "\\(ga",
    "~": "\\(ti",
    "^": "\\(ha",
    "\u2026": "...",
}
"""What roff would read or print as something else (man-pages(7))."""


def _escaped(text: str) -> str:
    text = re.sub(
        "|".join(map(re.escape, ESCAPES)), lambda found: ESCAPES[found[0]], text
    )
    # At the start of a line it would be a request.
    text = re.sub(r"^\.", r"\\&.", text)
    return re.sub(r"[^\x00-\x7f]", lambda found: f"\\[u{ord(found[0]):04X}]", text)
