"""
What bash, zsh and fish offer behind `popfetchd`.

Rules of this file:

- Each script knows the command line by itself and starts popfetchd only for the names of
  accounts (`config names`); where that fails, it offers none.
- Nothing is offered for what cannot be known, such as a unique-id.
"""

from __future__ import annotations

import re

from itertools import groupby

from docs.generate.commands import Argument, Takes, Verb, purposes, verbs, whole


WRITTEN = "Completion for popfetchd(8). Written by `make docs`."


def flags(verb: Verb) -> list[str]:
    """
    Return all flags of *verb*.
    """
    return [flag for option in verb.options for flag in option.flags]


def told(text: str) -> str:
    """
    Return *text* for a line of its own: without what stands in parentheses.
    """
    return re.sub(r" \(.*", "", text)


def first_words(found: tuple[Verb, ...], depth: int) -> list[tuple[str, list[Verb]]]:
    """
    Return each word at *depth*, and the verbs below it.
    """
    by_word = groupby(found, key=lambda verb: verb.words[depth])
    return [(word, list(below)) for word, below in by_word]


# -- bash -----------------------------------------------------------------------------

BASH = r"""# {written}

_popfetchd_accounts() {{
    local i file=()
    for ((i = 1; i < COMP_CWORD; i++)); do
        case ${{COMP_WORDS[i]}} in
            -c | --config) file=(-c "${{COMP_WORDS[i + 1]/#\~\//$HOME/}}") ;;
        esac
    done
    "${{COMP_WORDS[0]}}" config names "${{file[@]}}" 2>/dev/null
}}

_popfetchd() {{
    local word=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD - 1]}}
    local verb=${{COMP_WORDS[1]}} begin=2 i place=0 many=0 options='' operands=() offer=''
    local words='{words}'
    COMPREPLY=()
    case $verb in
        {pairs}) ((COMP_CWORD > 2)) && verb="$verb ${{COMP_WORDS[2]}}" begin=3 ;;
    esac
    if ((COMP_CWORD >= begin)); then
        words=''
        case $verb in
{verbs}
        esac
        # Which of the arguments is to come.
        for ((i = begin; i < COMP_CWORD; i++)); do
            case ${{COMP_WORDS[i]}} in
                {valued}) ((i++)) ;;
                -*) ;;
                *) ((many)) || ((place++)) ;;
            esac
        done
        case $before in
{takes}
            *)
                offer=${{operands[place]}}
                [[ $word == -* ]] && offer='' words=$options
                ;;
        esac
    fi
    case $offer in
        account) words=$(_popfetchd_accounts) ;;
        file) mapfile -t COMPREPLY < <(compgen -f -- "$word") ;;
        directory) mapfile -t COMPREPLY < <(compgen -d -- "$word") ;;
    esac
    [[ $offer == file || $offer == directory ]] && compopt -o filenames 2>/dev/null
    [[ $words ]] && mapfile -t COMPREPLY < <(compgen -W "$words" -- "$word")
}}

complete -F _popfetchd popfetchd
"""


def bash() -> str:
    """
    Return the script for bash 4.4 or later.
    """
    found = verbs()
    levels = first_words(found, 0)
    parts = {word: below for word, below in levels if len(below[0].words) > 1}
    cases = [_bash_verb(verb) for verb in found]
    cases += [
        f"{word}) words='{' '.join(verb.words[1] for verb in below)}' ;;"
        for word, below in parts.items()
    ]
    return BASH.format(
        written=WRITTEN,
        words=" ".join([*(word for word, _ in levels), *flags(whole())]),
        pairs=" | ".join(parts),
        verbs="\n".join(f"            {case}" for case in cases),
        valued=" | ".join(_valued(found)),
        takes="\n".join(
            f"            {flag}) offer={takes} ;;"
            for flag, takes in _valued(found).items()
        ),
    )


def _bash_verb(verb: Verb) -> str:
    name = f"'{' '.join(verb.words)}'" if len(verb.words) > 1 else verb.words[0]
    operands = " ".join(operand.takes for operand in verb.operands)
    many = " many=1" if any(operand.many for operand in verb.operands) else ""
    return f"{name}) options='{' '.join(flags(verb))}' operands=({operands}){many} ;;"


def _valued(found: tuple[Verb, ...]) -> dict[str, Takes]:
    """
    Return what flags are followed by; one flag means the same with each verb.
    """
    return {
        flag: option.takes
        for verb in found
        for option in verb.options
        for flag in option.flags
        if option.takes is not Takes.NOTHING
    }


# -- zsh ------------------------------------------------------------------------------

ZSH = r"""#compdef popfetchd
# {written}

_popfetchd_accounts() {{
    local -a file names
    local -i at=${{words[(I)(-c|--config)]}}
    ((at)) && file=(-c ${{(Q)${{words[at + 1]/#\~\//$HOME/}}}})
    names=(${{(f)"$(popfetchd config names $file 2>/dev/null)"}})
    compadd -a names
}}
{functions}
_popfetchd "$@"
"""

ZSH_LEVEL = r"""
{function}() {{
    local curcontext=$curcontext state line
    local -A opt_args
    local -a words_here=(
{told}
    )
    _arguments -C {options} '1: :->word' '*:: :->rest'
    case $state in
        word) _describe -t commands command words_here ;;
        rest)
            case $words[1] in
{cases}
            esac
            ;;
    esac
}}
"""

ZSH_TAKES = {
    Takes.FILE: "_files",
    Takes.DIRECTORY: "_files -/",
    Takes.ACCOUNT: "_popfetchd_accounts",
    Takes.TEXT: " ",
}


def zsh() -> str:
    """
    Return the script for zsh: to be `_popfetchd` in a folder of $fpath.
    """
    functions = _zsh_level("_popfetchd", verbs(), 0)
    return ZSH.format(written=WRITTEN, functions=functions)


def _zsh_level(function: str, found: tuple[Verb, ...], depth: int) -> str:
    levels = first_words(found, depth)
    below = {
        word: f"{function}_{word}" for word, of in levels if of[0].words[depth + 1 :]
    }
    cases = [
        f"{word}) {below[word]} ;;"
        if word in below
        else f"{word}) _arguments {_zsh_verb(of[0])} ;;"
        for word, of in levels
    ]
    level = ZSH_LEVEL.format(
        function=function,
        told="\n".join(
            f"        {_zsh_word(of[0].words[: depth + 1])}" for _, of in levels
        ),
        options=_zsh_verb(whole()) if depth == 0 else "",
        cases="\n".join(f"                {case}" for case in cases),
    ).replace("-C  ", "-C ")
    inner = [
        _zsh_level(below[word], tuple(of), depth + 1)
        for word, of in levels
        if word in below
    ]
    return level + "".join(inner)


def _zsh_word(words: tuple[str, ...]) -> str:
    return _quoted(f"{words[-1]}:{purposes()[words]}")


def _zsh_verb(verb: Verb) -> str:
    options = [
        _zsh_option(option, flag) for option in verb.options for flag in option.flags
    ]
    operands = [
        f"{'*' if operand.many else number}{':' if operand.optional else ''}"
        f":{operand.metavar}:{ZSH_TAKES[operand.takes]}"
        for number, operand in enumerate(verb.operands, 1)
    ]
    return " ".join(map(_quoted, options + operands)).replace("*::", "*:")


def _zsh_option(option: Argument, flag: str) -> str:
    instead = " ".join(option.flags) if len(option.flags) > 1 else ""
    excludes = f"({instead})" if instead else ""
    text = re.sub(r"([\[\]:])", r"\\\1", told(option.help))
    takes = ZSH_TAKES.get(option.takes)
    return f"{excludes}{flag}[{text}]{f':{option.metavar}:{takes}' if takes else ''}"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


# -- fish -----------------------------------------------------------------------------

FISH = r"""# {written}

function __popfetchd_accounts
    set -l words (commandline -opc)
    set -l file
    if set -l at (contains -i -- -c $words; or contains -i -- --config $words)
        set file -c (string replace -r '^~/' "$HOME/" -- $words[(math $at + 1)])
    end
    $words[1] config names $file 2>/dev/null
end

# Whether the words so far begin with these; and whether they are these alone.
function __popfetchd_in
    set -l words (commandline -opc)
    set -e words[1]
    test "$words[1..$(count $argv)]" = "$argv"
end

function __popfetchd_at
    set -l words (commandline -opc)
    set -e words[1]
    test "$words" = "$argv"
end

complete -c popfetchd -f
{lines}
"""

FISH_TAKES = {
    Takes.NOTHING: "",
    Takes.FILE: " -r -F",
    Takes.DIRECTORY: " -x -a '(__fish_complete_directories)'",
    Takes.ACCOUNT: " -x -a '(__popfetchd_accounts)'",
    Takes.TEXT: " -x",
}


def fish() -> str:
    """
    Return the script for fish 3.4 or later.
    """
    found = verbs()
    lines = _fish_words(found, ())
    for verb in found:
        lines += _fish_verb(verb)
    return FISH.format(written=WRITTEN, lines="\n".join(lines))


def _fish_words(found: tuple[Verb, ...], before: tuple[str, ...]) -> list[str]:
    when, told_of = _fish("__popfetchd_at", before), purposes()
    lines = [] if before else [_fish_option(when, option) for option in whole().options]
    for word, below in first_words(found, len(before)):
        lines.append(f"{when} -a {word} -d {_fish_quoted(told_of[(*before, word)])}")
        if below[0].words[len(before) + 1 :]:
            lines += _fish_words(tuple(below), (*before, word))
    return lines


def _fish_verb(verb: Verb) -> list[str]:
    when = _fish("__popfetchd_in", verb.words)
    lines = [_fish_option(when, option) for option in verb.options]
    takes = verb.operands[0].takes if verb.operands else Takes.TEXT
    if takes is Takes.FILE:
        lines.append(f"{when} -F")
    if takes is Takes.ACCOUNT:
        lines.append(f"{when} -a '(__popfetchd_accounts)'")
    return lines


def _fish(condition: str, words: tuple[str, ...]) -> str:
    return f"complete -c popfetchd -n '{' '.join((condition, *words))}'"


def _fish_option(when: str, option: Argument) -> str:
    named = "".join(
        f" -l {flag[2:]}" if flag.startswith("--") else f" -s {flag[1:]}"
        for flag in option.flags
    )
    described = _fish_quoted(told(option.help))
    return f"{when}{named}{FISH_TAKES[option.takes]} -d {described}"


def _fish_quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
