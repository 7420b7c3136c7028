"""The environment in which a command is run, so that what it starts finds the relay and trusts its certificate. Pure.

Proxy and certificate variables serve what obeys them; the hooks serve what does not, inside Python, Node and R.
"""

from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct, json

from retinue.intercept.authority import TRUSTSTORE_PASSWORD, Authority
from retinue.intercept.hosts import HOSTS
from retinue.settings import environment_name

PYTHON_HOOK = "sitecustomize.py"
NODE_HOOK = "redirect.cjs"
R_HOOK = "profile.R"
HOOK_SETTINGS = "redirect.json"
MARK = environment_name("run")  # in the environment of each command, so that runs inside of runs are noticed
LOOPBACK = "127.0.0.1"

_PAST_THE_PROXY = "localhost,127.0.0.1,::1"
_R_PROFILES = ("R_PROFILE_USER", environment_name("r-profile-user"))
_BUNDLES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "DENO_CERT")


class Route(Struct, frozen=True):
    """How a command finds the relay. `others`: it may reach hosts that are not TikTok's."""

    proxy_port: int
    tls_port: int
    authority: Authority
    hooks: Path
    others: bool

    @property
    def bundle(self) -> Path:
        """The file of authorities that the command trusts."""
        return self.authority.bundle

    @property
    def address(self) -> str:
        """The loopback address of TikTok's names. No other run has it, since none has the same port."""
        return f"127.84.{self.tls_port >> 8}.{self.tls_port & 0xFF}"


class HookSettings(Struct, frozen=True):
    """What the hooks in a command's processes have to know; they read it from a file beside them."""

    hosts: tuple[str, ...]
    address: str
    port: int
    bundle: str
    others: bool


def write_hooks(way: Route) -> None:
    """Put the hooks where the environment names them, with their settings."""
    for path in (Path(__file__).parent / "hooks").iterdir():
        if path.name in (PYTHON_HOOK, NODE_HOOK, R_HOOK):
            (way.hooks / path.name).write_bytes(path.read_bytes())
    settings = HookSettings(HOSTS, way.address, way.tls_port, str(way.bundle), way.others)
    (way.hooks / HOOK_SETTINGS).write_bytes(json.encode(settings))


def environment_of(original: Mapping[str, str], way: Route) -> dict[str, str]:
    """The environment of the command, made of the one that it would have had."""
    proxied = ("https_proxy",) if way.others else ("https_proxy", "http_proxy", "all_proxy")
    proxies = dict.fromkeys([*proxied, *map(str.upper, proxied)], f"http://{LOOPBACK}:{way.proxy_port}")
    exceptions = dict.fromkeys(("no_proxy", "NO_PROXY"), _PAST_THE_PROXY)
    bundles = dict.fromkeys(_BUNDLES, str(way.bundle))
    preload = f'--require "{way.hooks / NODE_HOOK}"'
    return {
        **original,
        **proxies,
        **exceptions,
        **bundles,
        "NODE_EXTRA_CA_CERTS": str(way.authority.certificate),
        "PYTHONPATH": _joined(str(way.hooks), original.get("PYTHONPATH", ""), ":"),
        "NODE_OPTIONS": _joined(preload, original.get("NODE_OPTIONS", ""), " "),
        "JAVA_TOOL_OPTIONS": _joined(original.get("JAVA_TOOL_OPTIONS", ""), _java_options(way), " "),
        **dict(zip(_R_PROFILES, (str(way.hooks / R_HOOK), original.get(_R_PROFILES[0], "")), strict=True)),
        MARK: str(way.hooks.parent),
    }


def _java_options(way: Route) -> str:
    """Return properties for a Java machine. They come last, since the last one counts."""
    properties = {
        "javax.net.ssl.trustStore": str(way.authority.truststore),
        "javax.net.ssl.trustStoreType": "PKCS12",
        "javax.net.ssl.trustStorePassword": TRUSTSTORE_PASSWORD,
    }
    for scheme in ("https",) if way.others else ("https", "http"):
        properties |= {f"{scheme}.proxyHost": LOOPBACK, f"{scheme}.proxyPort": str(way.proxy_port)}
    return " ".join(f'"-D{name}={value}"' for name, value in properties.items())


def _joined(first: str, second: str, separator: str) -> str:
    return separator.join(filter(None, (first, second)))
