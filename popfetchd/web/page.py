"""
The status page, and the same for programs.

Rules of this file:

- Each text that is put into the page goes through `escape`, names and our own hints too:
  nobody has to know which of them a stranger can choose (P4).
- No script: sorting, searching and paging are links and one form, and the page asks for
  itself again. The policy allows its own style sheet, by its hash, and nothing else.
- Colour says nothing that a word does not say.
- Pure: `now` is in seconds since 1970.
"""

from __future__ import annotations

import base64
import hashlib
import json

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from html import escape

from popfetchd import __version__
from popfetchd.metrics import Condition
from popfetchd.report import standing
from popfetchd.values import NEVER, AccountName, AccountState
from popfetchd.web.listing import LONGEST_SEARCH, Item, Listing, Sort, View, listing


REFRESH = 60
"""Seconds after which the page asks for itself again: most accounts are visited each few
minutes, and a word that is being typed into the search is lost then."""

STYLE = """
:root { color-scheme: light dark; font: 15px/1.5 system-ui, sans-serif;
  --line: light-dark(#d9dce1, #3a3d42); --soft: light-dark(#5d636d, #a5abb5);
  --raised: light-dark(#f4f5f7, #26282c); --link: light-dark(#1a56b0, #8ab4f8);
  --good: light-dark(#176b2c, #7fd694); --bad: light-dark(#a51d2d, #ff9aa2) }
body { max-width: 90rem; margin: 1.5rem auto; padding: 0 1rem;
  background: light-dark(#fff, #1b1c1f); color: light-dark(#1b1c1f, #e6e7ea) }
a { color: var(--link); text-decoration: none }
a:hover { text-decoration: underline }
header, form, nav { display: flex; flex-wrap: wrap; gap: .4rem .8rem;
  align-items: baseline }
header { justify-content: space-between }
h1 { font-size: 1.4rem; margin: 0 } h1 small, .soft { color: var(--soft) }
h1 small { font-weight: normal; font-size: .9rem }
h1 a { color: inherit }
form, nav { margin: .8rem 0 } form .states { margin-left: auto }
input, button, select { font: inherit; padding: .2rem .6rem; border-radius: .3rem;
  border: 1px solid var(--line); background: var(--raised); color: inherit }
.states a { padding: .2rem .6rem; border-radius: 1rem; border: 1px solid var(--line) }
.states a[aria-current] { background: var(--raised); border-color: currentColor }
.wide { overflow-x: auto }
table { border-collapse: collapse; width: 100% }
th, td { text-align: left; padding: .4rem .7rem; vertical-align: top;
  border-bottom: 1px solid var(--line); white-space: nowrap }
th { background: var(--raised); font-weight: 600 }
td.name { font-weight: 600; white-space: normal; overflow-wrap: break-word;
  max-width: 16rem }
td.what { white-space: normal; overflow-wrap: anywhere; min-width: 20rem; width: 50%;
  font-size: .93rem }
td.what p { margin: 0 0 .3rem } td.what p:last-child { margin: 0 }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums }
td.none { text-align: center; padding: 2rem; color: var(--soft) }
tbody tr:hover { background: var(--raised) }
.ok, .states .ok { color: var(--good) } .pending { color: var(--soft) }
.failing, .states .failing { color: var(--bad); font-weight: 600 }
.alarm { border-left: .3rem solid var(--bad); background: var(--raised);
  padding: .5rem 1rem; margin: 1rem 0; overflow-wrap: anywhere }
.alarm ul { margin: .3rem 0; padding-left: 1.2rem }
nav { justify-content: space-between }
nav span { display: flex; gap: .8rem } footer { margin: 1rem 0 }
@media (max-width: 75rem) {
  table, thead, tbody { display: block } th, td { border: 0; padding: .2rem .5rem }
  tr { display: flex; flex-wrap: wrap; border-bottom: 1px solid var(--line) }
  thead tr { background: var(--raised) } th:last-child { display: none }
  td.n::after { content: " " attr(data-of); color: var(--soft) }
  td.next::before { content: "next "; color: var(--soft) }
  td.name { width: 100%; max-width: none; overflow-wrap: anywhere; padding-top: .5rem }
  td.what { width: 100% } td.what:empty { display: none } br { display: none }
  td.what br { display: inline } }
"""

POLICY = (
    "default-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; "
    "style-src 'sha256-"
    + base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
    + "'"
)

MOST_MISTAKES = 20
"""Of a refused configuration, on the page; `?format=json` has them all."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """
    What the last reading of the configuration did not take, since *at*, and why.
    """

    at: float
    what: str
    mistakes: tuple[str, ...]
    hint: str


@dataclass(frozen=True, slots=True)
class Status:
    """
    What there is to show.
    """

    now: float
    accounts: Mapping[AccountName, AccountState]
    refusal: Refusal | None = None


# -- for programs ---------------------------------------------------------------------


def as_json(status: Status) -> str:
    """
    Return all that is remembered of all accounts.
    """
    accounts = {
        name: {"state": Condition.of(state).value, **_fields(state)}
        for name, state in sorted(status.accounts.items())
    }
    page = {
        "version": __version__,
        "time": status.now,
        "refusal": asdict(status.refusal) if status.refusal else None,
        "accounts": accounts,
    }
    return json.dumps(page)  # indented it would take ten times as long


REMEMBERED = tuple(field.name for field in fields(AccountState))


def _fields(state: AccountState) -> dict[str, object]:
    """
    JSON has no infinity: a visit that is not planned is at 0, as for Prometheus.
    """
    found = {name: getattr(state, name) for name in REMEMBERED}
    return found if state.next_poll < NEVER else found | {"next_poll": 0.0}


# -- for people -----------------------------------------------------------------------


def as_html(status: Status, view: View) -> str:
    """
    Return the page that *view* asks for.
    """
    shown = listing(status.accounts, view, status.now)
    return _PAGE.format(
        refresh=REFRESH,
        style=STYLE,
        version=escape(__version__),
        time=_moment(status.now),
        alarm=_alarm(status.refusal) if status.refusal else "",
        form=_form(shown.view, _states(status.accounts, shown.view)),
        headings="".join(_heading(shown.view, *column) for column in COLUMNS),
        rows="\n".join(_row(item, status.now) for item in shown.rows) or _no_rows(view),
        pager=_pager(shown),
    )


_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta http-equiv="refresh" content="{refresh}">
<title>popfetchd</title>
<style>{style}</style>
</head>
<body>
<header>
<h1><a href="/">popfetchd</a> <small>{version}</small></h1>
<span class="soft">as of {time}</span>
</header>
{alarm}
{form}
{pager}
<div class="wide">
<table>
<thead><tr>{headings}<th>what is wrong, and what to do</tr></thead>
<tbody>
{rows}
</tbody>
</table>
</div>
{pager}
<footer class="soft"><a href="/metrics">metrics</a> · <a href="/?format=json">JSON</a>\
</footer>
</body>
</html>
"""


def _alarm(refusal: Refusal) -> str:
    shown, rest = refusal.mistakes[:MOST_MISTAKES], refusal.mistakes[MOST_MISTAKES:]
    more = [f"{len(rest)} more"] if rest else []
    items = "".join(f"<li>{escape(text)}" for text in (*shown, *more))
    return (
        f'<section class="alarm" role="alert"><strong>{escape(refusal.what)}</strong> '
        f'<span class="soft">{_moment(refusal.at)}</span><ul>{items}</ul>'
        f'<span class="soft">{escape(refusal.hint)}</span></section>'
    )


def _form(view: View, states: str) -> str:
    kept = {"state": view.condition or "", "sort": view.order}
    hidden = "".join(
        f'<input type="hidden" name="{key}" value="{escape(value)}">'
        for key, value in kept.items()
        if value
    )
    return (
        '<form method="get" action="/" role="search">'
        f'<input type="search" name="q" value="{escape(view.text)}" '
        f'maxlength="{LONGEST_SEARCH}" placeholder="part of a name" '
        f'aria-label="part of an account\'s name">{hidden}<button>Search</button>'
        f'<span class="states">{states}</span></form>'
    )


def _states(accounts: Mapping[AccountName, AccountState], view: View) -> str:
    counts = Counter(Condition.of(state) for state in accounts.values())
    choices = ((None, len(accounts)), *((c, counts[c]) for c in Condition))
    return " ".join(
        f'<a class="{condition or "all"}" href="{escape(view.of(condition).address)}"'
        f"{' aria-current=true' if condition is view.condition else ''}>"
        f"{condition or 'all'} {count:,}</a>"
        for condition, count in choices
    )


COLUMNS = (
    (Sort.NAME, "account", ""),
    (Sort.STATE, "state", ""),
    (Sort.LAST, "last visit", ""),
    (Sort.NEXT, "next visit", ""),
    (Sort.ARCHIVED, "archived", "n"),
    (Sort.WAITING, "waiting", "n"),
    (Sort.QUARANTINED, "quarantined", "n"),
)
"""What each is sorted by, its heading, and its class."""


def _heading(view: View, sort: Sort, text: str, kind: str) -> str:
    now, arrow = "none", ""
    if sort is view.sort:
        now, arrow = ("descending", " ↓") if view.descending else ("ascending", " ↑")
    address = escape(view.by(sort).address)
    return f'<th class="{kind}" aria-sort="{now}"><a href="{address}">{text}</a>{arrow}'


def _row(item: Item, now: float) -> str:
    name, state = item
    cells = [
        f'<td class="name">{escape(name)}',
        f'<td class="{Condition.of(state)}">{_condition(state)}',
        f"<td>{_titled(ago(state.last_poll, now), state.last_poll)}",
        f'<td class="next">{_titled(until(state.next_poll, now), state.next_poll)}',
        f'<td class="n" data-of="archived">{state.archived:,}',
        f'<td class="n" data-of="waiting">{state.waiting:,}',
        f'<td class="n" data-of="quarantined">{state.quarantined:,}',
        f'<td class="what">{_trouble(state, now)}',
    ]
    return f"<tr>{''.join(cells)}</tr>"


def _condition(state: AccountState) -> str:
    times = f" <br>{state.consecutive_failures} in a row" if state.reason else ""
    return f"{Condition.of(state)}{times}"


def _trouble(state: AccountState, now: float) -> str:
    return "".join(
        f'<p>{escape(what)}<br><span class="soft">{escape(hint)}</span></p>'
        for what, hint in standing(state, now)
    )


def _no_rows(view: View) -> str:
    asked = view.text or view.condition
    told = "no account fits" if asked else "no account is configured"
    link = ': <a href="/">show all</a>' if asked else ""
    return f'<tr><td class="none" colspan="{len(COLUMNS) + 1}">{told}{link}</tr>'


def _pager(shown: Listing) -> str:
    if shown.pages == 1:
        return ""
    page, last = shown.view.page, shown.pages
    steps = (("first", 1), ("previous", page - 1), ("next", page + 1), ("last", last))
    links = "".join(_step(shown, text, number) for text, number in steps)
    end = shown.first + len(shown.rows) - 1
    return (
        f'<nav aria-label="pages"><span>{shown.first:,} to {end:,} of {shown.found:,}, '
        f"page {page:,} of {last:,}</span><span>{links}</span></nav>"
    )


def _step(shown: Listing, text: str, page: int) -> str:
    if page == shown.view.page or not 1 <= page <= shown.pages:
        return f'<span class="soft">{text}</span>'
    return f'<a href="{escape(shown.view.at(page).address)}">{text}</a>'


# -- times ----------------------------------------------------------------------------


def ago(moment: float, now: float) -> str:
    """
    Return how long ago *moment* is, as a person says it; 0 is never.
    """
    return f"{_span(now - moment)} ago" if moment else "never"


def until(moment: float, now: float) -> str:
    """
    Return how long it is until *moment*; what is not planned is 0 or NEVER.
    """
    if not 0 < moment < NEVER:
        return "not planned"
    return "now" if moment <= now else f"in {_span(moment - now)}"


def _titled(text: str, moment: float) -> str:
    if not 0 < moment < NEVER or text == "now":
        return text
    return f'<span title="{_moment(moment)}">{text}</span>'


def _span(seconds: float) -> str:
    """
    Return a span as a person says it, in its largest unit.
    """
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
