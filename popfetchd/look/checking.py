"""
What a server shows of itself: channel, capabilities, logins, maildrop, quirks.

Rules of this file:

- A login that is refused, or a maildrop that cannot be listed, is part of what is told:
  whoever types `check` wants to know what came before it.
- At most one message is asked for, with TOP 0.
- It says QUIT itself: how that is answered is looked at too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from popfetchd.errors import PopfetchdError, ServerRefusal
from popfetchd.look.quirks import Quirk, Seen, quirks
from popfetchd.pop3.protocol import State
from popfetchd.pop3.session import Occasion, Session
from popfetchd.values import (
    Account,
    Channel,
    DropListing,
    Mechanism,
    MessageNumber,
)


@dataclass(frozen=True, slots=True)
class Connected:
    """
    What was seen before the login.

    *mechanisms* are what the server offers: those of SASL, USER, and APOP by its greeting.
    """

    channel: Channel
    greeting: str
    mechanisms: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Checked:
    """
    What `check` saw.

    *announced* are the lines of CAPA each time it was asked, None where it was refused.
    *mechanism* is how we tried to log in, *why* the reason in a few words. *failure* is
    what ended the look early: what came after it is not known.
    """

    connected: Connected
    announced: Mapping[Occasion, tuple[str, ...] | None]
    mechanism: Mechanism | None
    why: str
    drop: DropListing | None
    quirks: tuple[Quirk, ...]
    failure: PopfetchdError | None = None


def check(
    session: Session,
    account: Account,
    log_in: Callable[[Session, Account], None],
    now: float,
) -> Checked:
    """
    Look at all that *session*, which is new, shows; *now* is seconds since 1970.
    """
    connected = Connected(session.channel, session.greeting.text, _mechanisms(session))
    look = Look(session, account)
    failure: PopfetchdError | None = None
    try:
        log_in(session, account)
        look.at_the_maildrop()
    except PopfetchdError as error:
        failure = error
    look.leave()
    return Checked(
        connected,
        {
            when: None if said is None else said.lines
            for when, said in session.announced.items()
        },
        session.tried,
        _why(account.login.mechanism, session.tried),
        look.seen.stat,
        tuple(quirks(look.seen, now)),
        failure,
    )


def _mechanisms(session: Session) -> tuple[str, ...]:
    said = session.capabilities
    plain = ["USER"] if said.has("USER") else []
    apop = ["APOP"] if session.greeting.timestamp else []
    return (*sorted(said.sasl), *plain, *apop)


def _why(configured: Mechanism, tried: Mechanism | None) -> str:
    if tried is None:
        return ""
    if configured is not Mechanism.AUTO:
        return f"as `auth: {configured}` says"
    return f"chosen by `auth: auto`: {REASONS[tried]}"


WITHOUT_PASSWORD = "the strongest that is offered, and it does not send the password"  # noqa: S105

REASONS = {
    Mechanism.SCRAM_SHA_256: WITHOUT_PASSWORD,
    Mechanism.SCRAM_SHA_1: WITHOUT_PASSWORD,
    Mechanism.CRAM_MD5: WITHOUT_PASSWORD,
    Mechanism.PLAIN: "nothing stronger that would work is offered",
    Mechanism.LOGIN: "nothing stronger that would work is offered",
    Mechanism.USER: "CAPA lists nothing else that popfetchd knows",
    Mechanism.OAUTHBEARER: "an access token is configured",
    Mechanism.XOAUTH2: "an access token is configured, and OAUTHBEARER is not offered",
}
"""Why `pop3.auth` takes what it takes."""


@dataclass
class Look:
    """
    A look under way; *seen* fills as far as it comes.
    """

    session: Session
    account: Account
    seen: Seen = field(init=False)

    def __post_init__(self) -> None:
        self.seen = Seen(self.account.server.tls.mode, self.session.announced)

    def at_the_maildrop(self) -> None:
        """
        Ask STAT, UIDL and LIST, and TOP of the newest message.
        """
        self.seen.stat = self.session.stat()
        listing = self.seen.listing = self.session.listing()
        if listing.numbers:
            self._try_top(listing.numbers[-1])

    def _try_top(self, number: MessageNumber) -> None:
        for _, answer in self.session.top([number], 0):
            self.seen.top = answer

    def leave(self) -> None:
        """
        Say QUIT where that can be said; a -ERR to it is but a quirk.
        """
        if self.session.state in {State.CLOSED, State.BROKEN}:
            return
        try:
            self.session.quit()
        except ServerRefusal as refusal:
            self.seen.quit = refusal
