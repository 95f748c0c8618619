"""
To the maildrop and its listing: by the short way where the last visit showed one.

Rules of this file:

- The short way leaves out what the last visit has learnt, and sends login and listing at
  once where the server takes that (docs/adr/0012-the-short-way.md). It needs a
  recollection of this very configuration, not too old, by which nothing went wrong.
- What may come of the short way is met by the usual one, once, in the same visit, and is
  told; and the short way is not tried again until the recollection has come of age.
- A server that sets a floor between logins is never visited by the short way: a second
  login could not follow the first.
- Only a session that ends with QUIT leaves something to the next one; but that the short
  way failed stays known, however this visit and the next ones end.
- Where a glance is enough (`glancing`), it goes with the login in the listing's place.
"""

from __future__ import annotations

from contextlib import ExitStack

from popfetchd.errors import NetworkError, RemoteError
from popfetchd.pop3.replies import Capabilities
from popfetchd.pop3.session import LISTING, Session, glancing
from popfetchd.values import (
    AccountState,
    Announced,
    DropListing,
    Habits,
    Listing,
    MessageNumber,
    Recollection,
    Secret,
    Stage,
    Standstill,
)
from popfetchd.visit.course import Course


REMEMBERED = 7 * 86_400.0
"""
Seconds for which what a server announced counts: a week, after which a mechanism that it
has learnt meanwhile is found, and a short way that failed is tried again.
"""

Arrival = tuple[Session, Listing | None]
"""
A session, logged in, and what it lists; None where a glance tells that nothing is new.
Whoever has it closes the session.
"""


class _Untimely(Exception):
    """
    What happened may come of the short way. Never leaves this file.
    """


def recall(course: Course, state: AccountState) -> None:
    """
    Begin from what the last visit of the account has left, by which it was in *state*.

    An account that was never visited begins from what another one of its server has
    learnt: what is said before a login is said to all.
    """
    account, means = course.account, course.means
    course.recollection = means.ledger.recollection(account.name)
    other = means.acquaintances.get(account.server)
    if other and not state.last_poll and not account.habits.login_floor:
        facts = (other.announced, other.learnt, other.trusted)
        course.recollection = Recollection(account.digest, *facts)


def arrive(course: Course, still: Standstill | None = None) -> Arrival:
    """
    Connect, log in and list, unless the maildrop is what it was when it stood *still*.

    Raises what `Session` raises, and SecretUnavailable.
    """
    secret = course.means.secret(course.account.login.secret)
    left = _still_true(course)
    if left is not None and left.trusted:
        try:
            arrival = _arrived(course, secret, still, left.announced)
            return _leaving(course, arrival, left.learnt, trusted=True)
        except _Untimely as surprise:
            course.tally.surprise = str(surprise.__cause__)
            left = _distrusted(course, left)
    learnt, trusted = (
        (left.learnt, left.trusted) if left else (course.means.now(), True)
    )
    return _leaving(course, _arrived(course, secret, still), learnt, trusted=trusted)


def _still_true(course: Course) -> Recollection | None:
    left, course.recollection = course.recollection, None
    if left is None or left.account != course.account.digest:
        return None
    age = course.means.now() - left.learnt
    if not 0 <= age < REMEMBERED:
        return None
    course.recollection = left.warning
    return left


def _distrusted(course: Course, left: Recollection) -> Recollection:
    # Now, and not when this visit ends: it may end badly because of that.
    account, now = course.account, course.means.now()
    left = Recollection(account.digest, left.announced, now, trusted=False)
    course.recollection = course.means.acquaintances[account.server] = left
    return left


def _leaving(
    course: Course, arrival: Arrival, learnt: float, *, trusted: bool
) -> Arrival:
    announced = arrival[0].announced_in_all
    if announced is not None and not course.habits.login_floor:
        digest, server = course.account.digest, course.account.server
        course.recollection = Recollection(digest, announced, learnt, trusted)
        course.means.acquaintances[server] = course.recollection
    return arrival


def _arrived(
    course: Course,
    secret: Secret,
    still: Standstill | None,
    expected: Announced | None = None,
) -> Arrival:
    means, account = course.means, course.account
    with course.stage(Stage.CONNECT):
        session = means.connect(account.server, course.deadline, expected)
    with ExitStack() as until_listed:  # leaving it early sends nothing more
        until_listed.enter_context(session)
        course.tally.channel = session.channel
        try:
            _log_in(course, session, secret, still)
            unchanged = still is not None and _stands(course, session, still)
            if unchanged:
                listing = None
            else:
                course.read_ahead()
                listing = listed(course, session)
        except (NetworkError, RemoteError) as error:
            if session.may_be_untimely(error) and not course.stop.is_set():
                raise _Untimely from error
            raise
        until_listed.pop_all()
    return session, listing


def _log_in(
    course: Course, session: Session, secret: Secret, still: Standstill | None
) -> None:
    login, tally = course.account.login, course.tally
    question = glancing(MessageNumber(still.messages)) if still else LISTING
    with course.stage(Stage.LOGIN):
        tally.logged_in = course.means.now()
        session.login(login.user, secret, login.mechanism, question=question)
        # From here the server counts its delay (RFC 2449 section 6.5).
        tally.logged_in = course.means.now()
    _heed(course, session.capabilities)


def _stands(course: Course, session: Session, still: Standstill) -> bool:
    with course.stage(Stage.LIST):
        drop, last = session.glance(MessageNumber(still.messages))
    _heed(course, session.capabilities)
    if drop != DropListing(still.messages, still.octets) or last != still.last:
        return False
    course.tally.drop, course.tally.unchanged = drop, True
    return True


def listed(course: Course, session: Session) -> Listing:
    """
    Return what *session* lists, without unique-ids that say nothing.
    """
    with course.stage(Stage.LIST):
        try:
            listing = session.listing().named
        finally:  # a login that was of no use counts too
            _heed(course, session.capabilities)
    course.tally.drop = listing.drop
    return listing


def _heed(course: Course, announced: Capabilities) -> None:
    # They may change with the login, and be heard of with the listing only.
    course.tally.login_delay = announced.login_delay
    course.habits = habits_of(course.account.habits, announced)


def habits_of(known: Habits, announced: Capabilities) -> Habits:
    """
    Return the habits that are *known* of a server, and those that it has announced.
    """
    # EXPIRE 0: the server removes at QUIT what was retrieved (RFC 2449 section 6.7).
    return Habits(
        login_floor=max(known.login_floor, announced.login_delay or 0.0),
        hides_retrieved=known.hides_retrieved or announced.expire == 0,
        lists_partly=known.lists_partly,
    )
