"""
The command line as data: each verb with what may be typed behind it.

Rules of this file:

- Everything is read off the parser. A shell is told what to offer by the type and the
  metavar that the parser has for a person.
"""

from __future__ import annotations

import argparse

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from pathlib import Path

from popfetchd.cli import build_parser


class Takes(StrEnum):
    """
    What an option or argument is followed by.
    """

    NOTHING = "nothing"
    FILE = "file"
    DIRECTORY = "directory"
    ACCOUNT = "account"
    TEXT = "text"


@dataclass(frozen=True, slots=True)
class Argument:
    """
    An option with its *flags*, or an argument without; *many*: any number of it.
    """

    flags: tuple[str, ...]
    metavar: str
    takes: Takes
    many: bool
    optional: bool
    help: str


@dataclass(frozen=True, slots=True)
class Verb:
    """
    One verb: its *words*, in one line what it does, and its arguments.
    """

    words: tuple[str, ...]
    help: str
    text: str
    arguments: tuple[Argument, ...]

    @property
    def options(self) -> tuple[Argument, ...]:
        """
        Those that begin with a dash.
        """
        return tuple(argument for argument in self.arguments if argument.flags)

    @property
    def operands(self) -> tuple[Argument, ...]:
        """
        Those that stand by their place.
        """
        return tuple(argument for argument in self.arguments if not argument.flags)


def whole() -> Verb:
    """
    Return what may be typed before any verb.
    """
    parser = build_parser()
    return Verb((), "", parser.description or "", _arguments(parser))


@cache
def verbs() -> tuple[Verb, ...]:
    """
    Return every verb in the order of `--help`; a verb of parts is left to its parts.
    """
    return tuple(_verbs(build_parser()))


@cache
def purposes() -> dict[tuple[str, ...], str]:
    """
    Return what each verb does, in a line; also those that have parts.
    """
    return {words: help_ for words, help_, _ in _words(build_parser(), ())}


def _verbs(parser: argparse.ArgumentParser) -> Iterator[Verb]:
    for words, help_, verb in _words(parser, ()):
        if not _below(verb):
            yield Verb(words, help_, verb.description or "", _arguments(verb))


def _words(
    parser: argparse.ArgumentParser, before: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], str, argparse.ArgumentParser]]:
    for below in _below(parser):
        helps = {choice.dest: choice.help or "" for choice in below._choices_actions}  # noqa: SLF001
        for word, verb in below.choices.items():
            yield (*before, word), helps[word], verb
            yield from _words(verb, (*before, word))


Below = argparse._SubParsersAction  # noqa: SLF001 -- argparse gives it no public name


def _below(parser: argparse.ArgumentParser) -> list[Below[argparse.ArgumentParser]]:
    return [action for action in parser._actions if isinstance(action, Below)]  # noqa: SLF001


def _arguments(parser: argparse.ArgumentParser) -> tuple[Argument, ...]:
    return tuple(
        Argument(
            tuple(action.option_strings),
            str(action.metavar or action.dest.upper()),
            _takes(action),
            many=action.nargs in {"*", "+"},
            optional=action.nargs in {"*", "?"},
            help=action.help or "",
        )
        for action in parser._actions  # noqa: SLF001
        if not isinstance(action, Below)
    )


def _takes(action: argparse.Action) -> Takes:
    if action.nargs == 0:
        return Takes.NOTHING
    if action.type is Path:
        return Takes.DIRECTORY if action.metavar == "DIR" else Takes.FILE
    return Takes.ACCOUNT if action.metavar == "ACCOUNT" else Takes.TEXT
