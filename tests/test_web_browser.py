"""
The status page, in a browser: what a person sees and clicks.

Rules of this file: the page is the service's own, over a real socket; the browser is
Debian's, and where there is none nothing of this is checked, which is said.
"""

from __future__ import annotations

import threading

import pytest

from popfetchd.values import NEVER, AccountState
from popfetchd.web import page
from popfetchd.web import server as web
from popfetchd.web.listing import ROWS
from popfetchd.web.page import Refusal
from tests.browser import PATIENCE, browsing


NOW = 1_800_000_000.0
EVIL = "\"'></p><script>window.evil = 1</script><img src=//evil.test/x onerror=evil()>"

FINE = AccountState(
    last_poll=NOW - 40, last_success=NOW - 40, next_poll=NOW + 260, archived=12_345
)
FAILING = AccountState(
    last_poll=NOW - 7200,
    next_poll=NOW + 60,
    consecutive_failures=4,
    reason="auth",
    error=f"the server refused PASS: {EVIL} {'x' * 300}",
    hint="check user & password",
    quarantined=2,
)
LONGEST = "a" * 64
"""The longest name there may be, with no place to break it."""
FEW = {
    "bob": FAILING,
    "alice": FINE,
    "carol": AccountState(next_poll=NEVER),
    LONGEST: FAILING,
}
MANY = {f"user{n:05}.example.net": FINE for n in range(10_000)}
REFUSED = Refusal(NOW - 60, "the configuration was refused", ("a.yaml:1:2: no",), "so")

NAMES = "[...document.querySelectorAll('td.name')].map(cell => cell.innerText)"
WIDTHS = "[document.documentElement, document.querySelector('.wide')]"
TOO_WIDE = f"{WIDTHS}.map(e => e.scrollWidth - e.clientWidth)"
COLOURS = """
    [...document.querySelectorAll('body, .soft, .ok, .failing, a, th, td.what')].map(e => {
        let behind = e, ground = 'rgba(0, 0, 0, 0)';
        while (behind && ground === 'rgba(0, 0, 0, 0)') {
            ground = getComputedStyle(behind).backgroundColor;
            behind = behind.parentElement;
        }
        return [getComputedStyle(e).color, ground];
    })
"""
"""The colour of each text, and that of what it stands on."""


class Served:
    """
    What the page shows, how often it was asked for, and an event to wait for.
    """

    def __init__(self):
        self.accounts, self.refusal = FEW, None
        self.asked_again = threading.Event()

    def states(self):
        self.asked_again.set()
        return self.accounts


@pytest.fixture
def served():
    return Served()


@pytest.fixture
def base(served):
    site = web.Site(
        metrics=lambda: b"popfetchd_up 1\n",
        healthy=lambda: True,
        ready=lambda: True,
        accounts=served.states,
        refusal=lambda: served.refusal,
        clock=lambda: NOW,
    )
    server = web.Server("127.0.0.1", 0, site)
    server.start()
    yield server.url
    server.stop()


@pytest.fixture(scope="module")
def shared():
    with browsing() as browser:
        yield browser


@pytest.fixture
def browser(shared):
    shared.window(1280, 900)
    shared.scheme("light")
    return shared


def luminance(colour):
    """
    Return the relative luminance of *colour*, as `rgb(…)` (WCAG 2.2).
    """
    parts = [int(part) / 255 for part in colour[4:-1].split(", ")]
    linear = [
        p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts
    ]
    return sum(
        weight * p for weight, p in zip((0.2126, 0.7152, 0.0722), linear, strict=True)
    )


def contrast(text, ground):
    """
    Return the contrast of two colours: 1 for the same, 21 for black and white.
    """
    dark, light = sorted([luminance(text), luminance(ground)])
    return (light + 0.05) / (dark + 0.05)


def test_only_the_page_itself_is_asked_for(browser, served, base):
    """
    The page wants nothing from anywhere, its console is empty, and no text of a server
    became a script.
    """
    served.refusal = REFUSED
    browser.open(base)
    assert [base] == browser.asked
    assert [] == browser.said
    assert "undefined" == browser.ask("typeof window.evil")
    assert EVIL in browser.ask("document.querySelector('td.what').innerText")


def test_the_style_is_taken(browser, base):
    """
    The policy admits the page's own style sheet, and nothing that is put in later.
    """
    browser.open(base)
    assert "rgb(27, 28, 31)" == browser.ask("getComputedStyle(document.body).color")
    browser.ask("document.head.append(document.createElement('style'))")
    browser.ask("document.head.lastChild.append('body { color: red }')")
    assert "rgb(27, 28, 31)" == browser.ask("getComputedStyle(document.body).color")


def test_a_name_is_searched_for(browser, base):
    """
    What is typed into the search and ended with Enter leaves the accounts that fit.
    """
    browser.open(base)
    browser.click("input[type=search]")
    browser.leading_to_a_page(lambda: browser.type("AR"))
    assert ["carol"] == browser.ask(NAMES)
    assert "AR" == browser.ask("document.querySelector('input[type=search]').value")


def test_a_heading_sorts(browser, base):
    """
    A click on a heading sorts by it, a second click the other way round.
    """
    browser.open(base)
    name = "th:first-child a"
    browser.leading_to_a_page(lambda: browser.click(name))
    assert [LONGEST, "alice", "bob", "carol"] == browser.ask(NAMES)
    browser.leading_to_a_page(lambda: browser.click(name))
    assert ["carol", "bob", "alice", LONGEST] == browser.ask(NAMES)


def test_a_state_is_chosen(browser, base):
    """
    A click on `failing` leaves what fails.
    """
    browser.open(base)
    browser.leading_to_a_page(lambda: browser.click(".states .failing"))
    assert [LONGEST, "bob"] == browser.ask(NAMES)


def test_ten_thousand_accounts_are_paged(browser, served, base):
    """
    Of ten thousand accounts a page shows the first hundred, and leads to the next.
    """
    served.accounts = MANY
    browser.open(base)
    assert sorted(MANY)[:ROWS] == browser.ask(NAMES)
    browser.leading_to_a_page(lambda: browser.click("nav a"))
    assert sorted(MANY)[ROWS : 2 * ROWS] == browser.ask(NAMES)


@pytest.mark.parametrize("accounts", [FEW, MANY], ids=["few", "many"])
@pytest.mark.parametrize("width", [360, 768, 1024, 1200, 1280, 1920])
def test_nothing_is_wider_than_the_window(browser, served, base, width, accounts):
    """
    From a phone to a large screen, nobody has to scroll sideways.
    """
    served.accounts, served.refusal = accounts, REFUSED
    browser.window(width, 900)
    browser.open(base)
    assert [0, 0] == browser.ask(TOO_WIDE)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_both_schemes_can_be_read(browser, served, base, scheme):
    """
    The page follows the browser's scheme, and each text stands out (WCAG 2.2, AA: 4.5).
    """
    served.refusal = REFUSED
    browser.scheme(scheme)
    browser.open(base)
    pairs = browser.ask(COLOURS)
    assert {"light"} == {
        "light" if (luminance(ground) > 0.5) == (scheme == "light") else "wrong"
        for _, ground in pairs
    }
    assert 4.5 <= min(contrast(*pair) for pair in pairs)


def test_the_page_asks_for_itself_again(browser, served, base, monkeypatch):
    """
    A page that is left open comes again, as the view that it was.
    """
    monkeypatch.setattr(page, "REFRESH", 1)
    browser.open(f"{base}?q=bob")
    served.asked_again.clear()
    browser.forget()
    browser.event("Page.loadEventFired")
    assert served.asked_again.wait(PATIENCE)
    assert ["bob"] == browser.ask(NAMES)
