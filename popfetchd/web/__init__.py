"""
What is served over HTTP: metrics, health, and a status page.
"""

from popfetchd.web.address import parse_listen
from popfetchd.web.guard import Access, Guard, tls_context
from popfetchd.web.page import Refusal
from popfetchd.web.server import Server, Site


__all__ = [
    "Access",
    "Guard",
    "Refusal",
    "Server",
    "Site",
    "parse_listen",
    "tls_context",
]
