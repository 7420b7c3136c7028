"""TLS on the public listener, stated by us: versions, cipher suites, extensions, and the certificate in use."""

import ssl

from retinue.key_pair import KeyPair

# TLS 1.2: forward secrecy and authenticated encryption only. TLS 1.3 has no others.
CIPHERS = "@SECLEVEL=2:ECDHE+AESGCM:ECDHE+CHACHA20"
ALPN = ["http/1.1"]


class ListenerTls:
    """A context for a listener, whose certificate can be replaced while it listens."""

    def __init__(self, pair: KeyPair) -> None:
        self.context = _server_context(pair)  # for the next connection

    def replace(self, pair: KeyPair) -> None:
        """Use another pair from the next connection on."""
        # Loading a pair into a context would leave its certificate for another kind of key there.
        self.context = _server_context(pair)


def _server_context(pair: KeyPair) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    context.set_alpn_protocols(ALPN)
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    # No session tickets: their key would open recorded TLS 1.2 connections for as long as the process lives. Each
    # worker has a key of its own anyway, so few tickets would be of use.
    context.options |= ssl.OP_NO_TICKET
    context.num_tickets = 0
    pair.load_into(context)
    return context
