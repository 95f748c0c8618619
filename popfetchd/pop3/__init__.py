"""
A POP3 client: an engine that knows no socket, and a session that tells a visit.

Downwards: `session` → `transport` (the only sockets, the only TLS), `protocol` (octets
in, events out), `auth` (who we are, as octets) → `replies` and `listings` (what a server
says, as values), `multiline` (where a message ends), `pace` (how slow is too slow).
Nothing here writes a log: it returns or raises.
"""
