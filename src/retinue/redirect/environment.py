"""The environment in which a command is run, so that what it starts finds the relay and trusts its certificate. Pure.

Proxy and certificate variables serve what obeys them; the hooks serve what does not, inside Python and Node.
"""

from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct, json

from retinue.redirect.hosts import HOSTS

PYTHON_HOOK = "sitecustomize.py"
NODE_HOOK = "redirect.cjs"
HOOK_SETTINGS = "redirect.json"

_LOOPBACK = "localhost,127.0.0.1,::1"
_BUNDLES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "DENO_CERT")


class Way(Struct, frozen=True):
    """How a command finds the relay. `others`: it may reach hosts that are not TikTok's."""

    proxy_port: int
    tls_port: int
    bundle: Path
    certificate: Path
    hooks: Path
    others: bool


class HookSettings(Struct, frozen=True):
    """What the hooks in a command's processes have to know; they read it from a file beside them."""

    hosts: tuple[str, ...]
    port: int
    bundle: str
    others: bool


def write_hooks(way: Way) -> None:
    """Put the hooks where the environment names them, with their settings."""
    for path in (Path(__file__).parent / "hooks").iterdir():
        if path.name in (PYTHON_HOOK, NODE_HOOK):
            (way.hooks / path.name).write_bytes(path.read_bytes())
    settings = HookSettings(HOSTS, way.tls_port, str(way.bundle), way.others)
    (way.hooks / HOOK_SETTINGS).write_bytes(json.encode(settings))


def environment_of(original: Mapping[str, str], way: Way) -> dict[str, str]:
    """The environment of the command, made of the one that it would have had."""
    proxied = ("https_proxy",) if way.others else ("https_proxy", "http_proxy", "all_proxy")
    proxies = dict.fromkeys([*proxied, *map(str.upper, proxied)], f"http://127.0.0.1:{way.proxy_port}")
    exceptions = dict.fromkeys(("no_proxy", "NO_PROXY"), _LOOPBACK)
    bundles = dict.fromkeys(_BUNDLES, str(way.bundle))
    preload = f'--require "{way.hooks / NODE_HOOK}"'
    return {
        **original,
        **proxies,
        **exceptions,
        **bundles,
        "NODE_EXTRA_CA_CERTS": str(way.certificate),
        "PYTHONPATH": _first(str(way.hooks), original.get("PYTHONPATH", ""), ":"),
        "NODE_OPTIONS": _first(preload, original.get("NODE_OPTIONS", ""), " "),
    }


def _first(ours: str, others: str, separator: str) -> str:
    return f"{ours}{separator}{others}" if others else ours
