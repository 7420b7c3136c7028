"""Addresses of services and proxies, checked before anything is sent."""

from urllib.parse import SplitResult, urljoin, urlsplit
from urllib.request import getproxies, proxy_bypass

from retinue.errors import InputError

_API_ROOT = "/v2/"  # the beginning of every path of the API


def check_address(url: str) -> None:
    """Raise `InputError` if a URL is not the address of a service."""
    scheme, separator, place = url.partition("://")
    parts = _parts_of(url)
    is_address = parts is not None and parts.scheme in ("http", "https") and not (parts.query or parts.fragment)
    if not is_address or "@" in place or any(each.isspace() for each in url):
        shown = f"{scheme}{separator}{place.rpartition('@')[2]}"
        raise InputError(f"{shown!r} is not the address of a service; expected https://host[:port]")


def proxy_of(url: str) -> str | None:
    """Return the environment's proxy for a URL. Raises `InputError`."""
    parts = urlsplit(url)
    proxies = getproxies()
    variable = next((f"{scheme}_proxy" for scheme in (parts.scheme, "all") if proxies.get(scheme)), None)
    if variable is None or proxy_bypass(parts.netloc):
        return None
    named = proxies[variable.removesuffix("_proxy")]
    proxy = named if "://" in named else f"http://{named}"
    proxy_parts = _parts_of(proxy)
    if proxy_parts is None:
        raise InputError(f"{variable} in the environment is not the address of a proxy")
    if proxy_parts.scheme not in ("http", "https"):
        raise InputError(
            f"{variable} in the environment names a {proxy_parts.scheme} proxy, and only HTTP proxies can be used;"
            f" name one in {parts.scheme}_proxy, or list {parts.hostname} in no_proxy"
        )
    return proxy


def moved_to(url: str, location: str) -> str:
    """Return a message for a redirect, with the address to use."""
    target = urljoin(url, location)
    root, separator, _ = target.rpartition(_API_ROOT)
    return f"redirected to {target}; use {root if separator else 'the address of the service itself'}"


def not_an_api(url: str) -> str:
    """Return a message for a URL outside the API."""
    root, _, _ = url.rpartition(_API_ROOT)
    path = urlsplit(root).path
    hint = f", without {path}" if path else ""
    return f"{url} is not part of the API; expected the address of a service as https://host[:port]{hint}"


def _parts_of(url: str) -> SplitResult | None:
    try:
        parts = urlsplit(url)
        is_url = bool(parts.hostname) and parts.port != 0
    except ValueError:  # such as a port that is not a number
        return None
    return parts if is_url else None
