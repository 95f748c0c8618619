"""
The mechanisms that take an access token (RFC 6750): OAUTHBEARER and XOAUTH2.

Rules of this file:

- As in `exchange`. A token and a user name hold no control character: ^A divides fields.
- Always in two steps: Exchange takes the token in the line of AUTH for a protocol error,
  and the line would be too long in most cases (RFC 5034 §4).
- A challenge after the token says why it is refused. It is kept for the operator, and
  answered, whereupon the server says -ERR (RFC 7628 §3.2.3).
"""

from __future__ import annotations

from typing import ClassVar

from popfetchd.pop3.sasl.exchange import SaslMechanism


class _Bearer(SaslMechanism):
    """
    What the two have in common. *regret* answers the challenge that says no.
    """

    ahead = False
    regret: ClassVar[bytes]

    def __init__(self, *fields: bytes) -> None:
        self._message = b"".join(field + b"\1" for field in (*fields, b""))
        self._refused = False

    def initial(self) -> bytes:
        """
        Return the whole message.
        """
        return self._message

    def respond(self, challenge: bytes) -> bytes:
        """
        Keep why the token is refused. Raises ProtocolViolation for a second challenge.
        """
        if self._refused:
            raise self.nonsense("a second challenge, where {} has one", challenge)
        self._refused = True
        self.told = challenge
        return self.regret

    def finish(self) -> None:
        """
        Raises ProtocolViolation when the token was refused, and then taken.
        """
        if self._refused:
            raise self.nonsense("+OK behind a refusal in {}", self.told)


class OAuthBearer(_Bearer):
    """
    OAUTHBEARER (RFC 7628 §3.1). *user* is a saslname: `=` and `,` are escaped in it.
    """

    name = "OAUTHBEARER"
    regret = b"\1"

    def __init__(self, user: bytes, token: bytes, host: bytes, port: int) -> None:
        super().__init__(
            b"n,a=" + saslname(user) + b",",
            b"host=" + host,
            b"port=%d" % port,
            b"auth=Bearer " + token,
        )


class XOAuth2(_Bearer):
    """
    XOAUTH2, as Google and Microsoft describe it.
    """

    name = "XOAUTH2"
    regret = b""

    def __init__(self, user: bytes, token: bytes) -> None:
        super().__init__(b"user=" + user, b"auth=Bearer " + token)


def saslname(user: bytes) -> bytes:
    """
    Return *user* with `=` and `,` escaped (RFC 5801 §4, RFC 5802 §5.1).
    """
    return user.replace(b"=", b"=3D").replace(b",", b"=2C")
