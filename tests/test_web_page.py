"""
The status page: what it says, and that nothing in it is markup but ours.
"""

from __future__ import annotations

import json
import re
import time

from dataclasses import replace
from html import unescape
from html.parser import HTMLParser

import pytest

from popfetchd.metrics import Condition
from popfetchd.values import NEVER, AccountState
from popfetchd.web import page
from popfetchd.web.listing import ROWS, View
from popfetchd.web.page import Refusal, Status


NOW = 1_800_000_000.0
EVIL = "\"'><script>alert(1)</script>&amp;"

ALICE = AccountState(
    last_poll=NOW - 40,
    last_success=NOW - 40,
    next_poll=NOW + 260,
    archived=12345,
    waiting=3,
)
BOB = AccountState(
    last_poll=NOW - 7200,
    next_poll=NOW - 1,
    consecutive_failures=4,
    reason="auth",
    error="the server refused PASS",
    hint="check user & password",
    quarantined=2,
    too_large=7,
    removals_paused=True,
)
CAROL = AccountState(next_poll=NEVER)
STATUS = Status(NOW, {"alice": ALICE, "bob": BOB, "carol": CAROL})
MANY = Status(NOW, {f"a{n:05}": ALICE if n % 9 else BOB for n in range(10_000)})
REFUSAL = Refusal(NOW - 60, "refused", ("x.yaml:1:2: no", "y.yaml:3:4: no"), "mend")


class Elements(HTMLParser):
    """
    Collects what a browser makes of a page.
    """

    def __init__(self, text):
        super().__init__()
        self.tags, self.links, self.text = set(), [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.links += [
            value for key, value in attrs if key in {"href", "src", "action"}
        ]

    def handle_data(self, data):
        self.text += data


OURS = Elements(
    page.as_html(replace(MANY, refusal=REFUSAL), View("a", Condition.FAILING))
).tags


def names(text):
    return re.findall(r'<td class="name">([^<]+)', text)


def test_every_account_stands_there_with_what_concerns_it():
    """
    State, visits, counts, errors and hints; failing accounts first.
    """
    text = page.as_html(STATUS, View())
    assert ["bob", "alice", "carol"] == names(text)
    told = unescape(Elements(text).text)
    for words in (
        *("40 s ago", "in 4 min", "2 h ago", "now", "never", "not planned", "12,345"),
        *("all 3", "ok 1", "failing 1", "pending 1", "failing 4 in a row"),
        *("auth: the server refused PASS", "check user & password"),
        *("messages in quarantine: 2", "too large: 7", "removals are paused"),
    ):
        assert words in told


def test_the_page_asks_for_itself_again():
    """
    It refreshes what it shows, view and all: no address is named.
    """
    text = page.as_html(STATUS, View("a"))
    assert f'<meta http-equiv="refresh" content="{page.REFRESH}">' in text


def test_nothing_is_loaded_from_elsewhere():
    """
    Each address on the page is a path of this service.
    """
    links = Elements(page.as_html(MANY, View("a"))).links
    assert links
    assert [] == [link for link in links if not re.match("/(?!/)", link)]


SINKS = {
    "name": (Status(NOW, {EVIL: ALICE}), View()),
    "reason": (Status(NOW, {"a": replace(BOB, reason=EVIL)}), View()),
    "error": (Status(NOW, {"a": replace(BOB, error=EVIL)}), View()),
    "hint": (Status(NOW, {"a": replace(BOB, hint=EVIL)}), View()),
    "search": (STATUS, View(EVIL)),
    "pager": (Status(NOW, {f"{EVIL}{n}": ALICE for n in range(300)}), View(EVIL)),
    "mistake": (replace(STATUS, refusal=replace(REFUSAL, mistakes=(EVIL,))), View()),
    "refusal": (replace(STATUS, refusal=replace(REFUSAL, what=EVIL)), View()),
    "remedy": (replace(STATUS, refusal=replace(REFUSAL, hint=EVIL)), View()),
}


@pytest.mark.parametrize("sink", SINKS)
def test_no_text_becomes_markup(sink):
    """
    Wherever a text is put, it adds no element, and is read as it was written.
    """
    text = page.as_html(*SINKS[sink])
    assert set() == Elements(text).tags - OURS
    assert "<script" not in text
    assert EVIL in unescape(text)


def test_a_refused_configuration_is_shown():
    """
    That the files and the service differ, since when, each mistake, and what to do.
    """
    text = page.as_html(replace(STATUS, refusal=REFUSAL), View())
    for words in ("refused", "2027-01-15 07:59:00 UTC", "x.yaml:1:2: no", "mend"):
        assert words in text
    assert "alarm" not in page.as_html(STATUS, View()).partition("</style>")[2]


def test_a_thousand_mistakes_do_not_hide_the_accounts():
    """
    MOST_MISTAKES are shown, the others counted; JSON has all.
    """
    refusal = replace(REFUSAL, mistakes=tuple(f"x:{n}" for n in range(1000)))
    text = page.as_html(replace(STATUS, refusal=refusal), View())
    assert page.MOST_MISTAKES == text.count("<li>x:")
    assert "<li>980 more" in text
    told = json.loads(page.as_json(replace(STATUS, refusal=refusal)))
    assert 1000 == len(told["refusal"]["mistakes"])


def test_headings_lead_to_the_other_order():
    """
    The column that is sorted by says so, also to who cannot see the arrow.
    """
    text = page.as_html(STATUS, View().by(page.Sort.ARCHIVED))
    assert 'aria-sort="descending"><a href="/?sort=archived">archived</a> ↓' in text
    text = page.as_html(STATUS, View())
    assert 'aria-sort="ascending"><a href="/?sort=-state">state</a> ↑' in text


def test_the_form_keeps_order_and_state():
    """
    Searching does not change what else was chosen; the search stands there again.
    """
    view = View("b", Condition.FAILING, page.Sort.NAME, descending=True)
    text = page.as_html(STATUS, view)
    assert '<input type="hidden" name="state" value="failing">' in text
    assert '<input type="hidden" name="sort" value="-name">' in text
    assert 'name="q" value="b"' in text


def test_pages_lead_to_their_neighbours():
    """
    First, previous, next and last, where they are other pages; and which this is.
    """
    middle = page.as_html(MANY, View(page=3))
    for word, address in (
        ("first", "/"),
        ("previous", "/?page=2"),
        ("next", "/?page=4"),
        ("last", "/?page=100"),
    ):
        assert f'<a href="{address}">{word}</a>' in middle
    assert "201 to 300 of 10,000, page 3 of 100" in middle
    first = page.as_html(MANY, View())
    assert '<span class="soft">previous</span>' in first
    assert '<span class="soft">next</span>' in page.as_html(MANY, View(page=100))
    assert "<nav" not in page.as_html(STATUS, View())


@pytest.mark.parametrize(
    ("status", "view", "told"),
    [
        (STATUS, View("x"), 'no account fits: <a href="/">show all</a>'),
        (
            Status(NOW, {}),
            View(),
            "no account is configured</tr>".removesuffix("</tr>"),
        ),
    ],
)
def test_an_empty_table_says_why(status, view, told):
    """
    Nothing found, or nothing configured.
    """
    assert told in page.as_html(status, view)


@pytest.mark.parametrize("sort", list(page.Sort))
def test_ten_thousand_accounts_are_quick(sort):
    """
    A page of them takes less than half a second of CPU, however sorted.
    """
    begun = time.thread_time()
    text = page.as_html(MANY, View(sort=sort))
    assert 0.5 > time.thread_time() - begun
    assert ROWS == len(names(text))


def test_json_has_all_accounts():
    """
    All that is remembered of each, however many there are, and no infinity.
    """
    told = json.loads(page.as_json(MANY))
    assert 10_000 == len(told["accounts"])
    told = json.loads(page.as_json(STATUS))
    assert ["alice", "bob", "carol"] == list(told["accounts"])
    assert "failing" == told["accounts"]["bob"]["state"]
    assert 7 == told["accounts"]["bob"]["too_large"]
    assert 0 == told["accounts"]["carol"]["next_poll"]
    assert None is told["refusal"]


def test_spans_are_told_in_their_largest_unit():
    """
    Ages read as a person says them; a clock that was put back gives no negative one.
    """
    spans = [page._span(seconds) for seconds in (-5, 0, 59, 60, 3600, 90000)]
    expected = ["0 s", "0 s", "59 s", "1 min", "1 h", "1 d"]
    assert expected == spans
