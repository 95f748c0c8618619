"""
The mechanisms of AUTH (RFC 4422), as octets: challenge in, answer out.

    exchange   what a mechanism is, and base64 on the line
    simple     PLAIN, LOGIN, CRAM-MD5, EXTERNAL
    scram      SCRAM-SHA-1, SCRAM-SHA-256
    bearer     XOAUTH2, OAUTHBEARER
    prep       SASLprep; loaded when a credential needs it, for it has large tables
"""

from popfetchd.pop3.sasl.bearer import OAuthBearer, XOAuth2
from popfetchd.pop3.sasl.exchange import (
    CANCEL,
    MOST_CHALLENGES,
    SaslMechanism,
    decode,
    encode,
    encode_initial,
)
from popfetchd.pop3.sasl.scram import Scram
from popfetchd.pop3.sasl.simple import CramMd5, External, Login, Plain


__all__ = [
    "CANCEL",
    "MOST_CHALLENGES",
    "CramMd5",
    "External",
    "Login",
    "OAuthBearer",
    "Plain",
    "SaslMechanism",
    "Scram",
    "XOAuth2",
    "decode",
    "encode",
    "encode_initial",
]
