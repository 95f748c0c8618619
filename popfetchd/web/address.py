"""
Addresses: where the service listens, and for which host a request was meant.
"""

from __future__ import annotations

import ipaddress


def parse_listen(text: str) -> tuple[str, int]:
    """
    Return host and port of "host:port" or "[v6]:port"; port 0 lets the system choose.

    Raises ValueError with a sentence for the operator.
    """
    host, colon, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError(f"{text!r}: an IPv6 address stands in brackets: [::1]:10995")
    if not (colon and host and port.isascii() and port.isdigit()):
        raise ValueError(
            f"{text!r} is no address; write 127.0.0.1:10995 or [::1]:10995"
        )
    if int(port) > 65535:
        raise ValueError(f"{text!r}: a port is at most 65535")
    return host, int(port)


def is_loopback(host: str) -> bool:
    """
    Tell whether *host*, a name or an address, means this machine to itself.
    """
    if host.lower().rstrip(".") == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def host_of(header: str) -> str:
    """
    Return the host of a Host header, without port and brackets (RFC 9110 §7.2).
    """
    if header.startswith("["):
        return header[1:].partition("]")[0]
    return header.partition(":")[0]
