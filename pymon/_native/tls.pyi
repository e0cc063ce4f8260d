"""Accepts any client certificate in a TLS handshake, which Python's ssl module cannot do. The caller verifies it."""

def accept_any_certificate(context: object, *, max_chain_bytes: int) -> None:
    """Make a server's ssl.SSLContext accept any client certificate, or none.

    The handshake still proves that the client holds the certificate's key. It checks nothing else, so the reader of
    `getpeercert(True)` must verify the certificate. A certificate message larger than `max_chain_bytes` ends the
    handshake. Sessions are resumed by tickets only. OpenSSL's session cache is off, because it would keep the
    certificate chains of up to 20,000 unauthenticated clients. Raises RuntimeError with a one-line text when the
    structures of this Python's ssl module cannot be reached.
    """
