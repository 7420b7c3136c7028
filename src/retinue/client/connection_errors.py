"""Exceptions of the HTTP library as reasons with remedies."""

import asyncio
import os
import re
import ssl
from urllib.parse import urlsplit

import aiohttp

from retinue.client.protocol import NoResponse

# Before the first response: waiting does not cure a wrong setting, but the server may be starting.
_ONCE = 1
_FEW = 4

_PROXY_LOGIN = 407
_NO_PROXY = (404, 405, 501)  # web servers' answers to CONNECT
_NO_TLS = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "UNKNOWN_PROTOCOL", "PACKET_LENGTH_TOO_LONG")
_EXPIRED, _HOST_MISMATCH, _ADDRESS_MISMATCH = 10, 62, 64  # OpenSSL's X509_V_ERR_...
_PROBE_SECONDS = 5
_LOGIN = re.compile(r"(?<=//)[^/\s]*@")  # in a proxy's URL, which the library's errors contain


def no_response(error: Exception, url: str) -> NoResponse:
    """Explain why a request got no response."""
    message = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    remedy, max_attempts = _remedy(error, url)
    return NoResponse(_LOGIN.sub("", f"{message}; {remedy}" if remedy else message), max_attempts)


def needs_tls(url: str) -> NoResponse:
    """Explain that the port of a plain URL speaks TLS."""
    return NoResponse(f"the port of {url} speaks TLS; use {url.replace('http:', 'https:', 1)}", _ONCE)


async def speaks_tls(url: str) -> bool:
    """Return whether the port of a URL speaks TLS."""
    parts = urlsplit(url)
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # nothing is sent
    try:
        async with asyncio.timeout(_PROBE_SECONDS):
            _, writer = await asyncio.open_connection(parts.hostname, parts.port or 80, ssl=context)
    except (OSError, ValueError):
        return False
    writer.transport.abort()
    return True


def _remedy(error: Exception, url: str) -> tuple[str, int | None]:
    remedy, max_attempts = "", None
    match error:
        case aiohttp.ClientHttpProxyError(status=status) if status == _PROXY_LOGIN:
            remedy, max_attempts = (
                "the proxy requires a login: set https_proxy to http://USER:PASSWORD@HOST:PORT",
                _ONCE,
            )
        case aiohttp.ClientHttpProxyError(status=status) if status in _NO_PROXY:
            remedy, max_attempts = "the server that https_proxy names is not a proxy", _ONCE
        case aiohttp.ClientConnectorCertificateError():
            remedy, max_attempts = _certificate(error.certificate_error), _ONCE
        case aiohttp.ClientConnectorSSLError(os_error=cause):
            if getattr(cause, "reason", "") in _NO_TLS:
                plain = url.replace("https:", "http:", 1)
                remedy, max_attempts = f"the port of {url} does not speak TLS; use {plain}", _ONCE
        case aiohttp.ClientProxyConnectionError():
            remedy, max_attempts = "the proxy that the environment names does not answer", _FEW
        case aiohttp.ClientConnectorError() | aiohttp.ConnectionTimeoutError():
            remedy, max_attempts = f"is there a service at {url}?", _FEW
        case aiohttp.InvalidURL() | UnicodeError():
            remedy, max_attempts = f"{url} is not the address of a service", _ONCE
    return remedy, max_attempts


def _certificate(error: Exception) -> str:
    code = getattr(error, "verify_code", None)
    if code == _EXPIRED:
        return "the certificate of the service has expired, or the clock of this machine is wrong"
    if code in (_HOST_MISMATCH, _ADDRESS_MISMATCH):
        return "the certificate is for another host"
    if named := os.environ.get("SSL_CERT_FILE"):
        return f"the authority of the service is not in {named}, which SSL_CERT_FILE names"
    return "if you trust the authority of the service, name its certificate in SSL_CERT_FILE"
