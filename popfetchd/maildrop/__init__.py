"""
A small POP3 server that speaks the truth, for `popfetchd demo` and for the tests.

Rules of this package:

- It knows nothing of `popfetchd.pop3`: one misreading of the RFC must not stand on
  both sides of the wire. It sits the same exam as Dovecot (tests/conformance).
- Byte-true: real sockets, real TLS, CRLF, byte-stuffing. What a client receives,
  unstuffed, is `Message.octets` to the octet.
- Loopback only. It is no mail server: maildrops live in memory, and end with it.
- Everything ends: each line is bounded, each wait has a limit, `close` joins.

::

    drop (messages) ← dialogue (octets → octets) ← server (sockets, TLS, threads)
    letters (what to deliver)   certificate (what to show)
"""
