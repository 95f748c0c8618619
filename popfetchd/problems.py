"""
What the system or OpenSSL said, as an operator is told it.

Rules of this file:

- A word stands for itself unless it names nothing that an operator knows.
- Nothing that a peer sent is repeated: these are the system's own sentences.
"""

from __future__ import annotations

import re
import ssl


PLACE = re.compile(r"^\[\S+\] | \(_ssl\.c:\d+\)$")
"""Where in OpenSSL and in Python an error arose: for neither has an operator a use."""

OPENSSL_PROBLEMS = {
    "pem lib": "no key that can be read stands in it",
    "key values mismatch": "it is the key of another certificate",
    "no certificate or crl found": "no certificate stands in it",
}
"""OpenSSL's reasons that name nothing an operator knows, in words."""


def problem(error: Exception) -> str:
    """
    Say what the system or OpenSSL said, without the place in its source.
    """
    if isinstance(error, ssl.SSLError):
        words = PLACE.sub("", error.reason or str(error)).lower().replace("_", " ")
        return OPENSSL_PROBLEMS.get(words, words) or type(error).__name__
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
