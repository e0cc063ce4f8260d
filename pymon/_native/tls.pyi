"""What Python's ssl leaves out: taking any client certificate, for Python to judge when TLS has proven its key."""

def accept_any_certificate(context: object, *, max_chain_bytes: int) -> None:
    """Let a server's ssl.SSLContext take whatever certificate a client shows, or none.

    Possession of the certificate's key is still proven in the handshake; nothing else is looked at, so whoever reads
    `getpeercert(True)` must judge it. A certificate message over `max_chain_bytes` ends the handshake. Sessions are
    resumed by tickets alone: OpenSSL's cache of sessions, which would hold the chains of 20,000 strangers, is off.
    RuntimeError with one line where this Python's ssl cannot be reached.
    """
