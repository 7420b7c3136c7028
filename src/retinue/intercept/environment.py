"""The environment in which programs find and trust the relay.

Hooks inside Python, Node and R serve programs that ignore proxy and certificate variables.
"""

from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct, json

from retinue.intercept.authority import HOSTS, TRUSTSTORE_PASSWORD, Authority
from retinue.settings import environment_name

_PYTHON_HOOK, _NODE_HOOK, _R_HOOK = "sitecustomize.py", "redirect.cjs", "profile.R"
MARK = environment_name("run")  # in the environment of each command, to detect nested runs
LOOPBACK = "127.0.0.1"

_PAST_THE_PROXY = "localhost,127.0.0.1,::1"
_R_PROFILES = ("R_PROFILE_USER", environment_name("r-profile-user"))
_BUNDLES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "DENO_CERT")


class RelayRoute(Struct, frozen=True):
    """The way from a command to the relay. `allow_network`: other hosts may be reached."""

    proxy_port: int
    tls_port: int
    authority: Authority
    folder: Path
    allow_network: bool

    @property
    def hooks(self) -> Path:
        """The folder of the hooks."""
        return self.folder / "hooks"

    @property
    def address(self) -> str:
        """The loopback address of TikTok's names, unique like its port."""
        return f"127.84.{self.tls_port >> 8}.{self.tls_port & 0xFF}"


def write_hooks(route: RelayRoute) -> None:
    """Write the hooks and their settings."""
    route.hooks.mkdir()
    for name in (_PYTHON_HOOK, _NODE_HOOK, _R_HOOK):
        (route.hooks / name).write_bytes((Path(__file__).parent / "hooks" / name).read_bytes())
    settings = {
        "hosts": HOSTS,
        "address": route.address,
        "port": route.tls_port,
        "bundle": str(route.authority.bundle),
        "allow_network": route.allow_network,
    }
    (route.hooks / "redirect.json").write_bytes(json.encode(settings))


def environment_of(original: Mapping[str, str], route: RelayRoute) -> dict[str, str]:
    """Return the environment of the command, based on the original one."""
    proxied = ("https_proxy",) if route.allow_network else ("https_proxy", "http_proxy", "all_proxy")
    proxies = dict.fromkeys([*proxied, *map(str.upper, proxied)], f"http://{LOOPBACK}:{route.proxy_port}")
    exceptions = dict.fromkeys(("no_proxy", "NO_PROXY"), _PAST_THE_PROXY)
    bundles = dict.fromkeys(_BUNDLES, str(route.authority.bundle))
    preload = f'--require "{route.hooks / _NODE_HOOK}"'
    return {
        **original,
        **proxies,
        **exceptions,
        **bundles,
        "NODE_EXTRA_CA_CERTS": str(route.authority.certificate),
        "PYTHONPATH": _joined(str(route.hooks), original.get("PYTHONPATH", ""), ":"),
        "NODE_OPTIONS": _joined(preload, original.get("NODE_OPTIONS", ""), " "),
        "JAVA_TOOL_OPTIONS": _joined(original.get("JAVA_TOOL_OPTIONS", ""), _java_options(route), " "),
        **dict(zip(_R_PROFILES, (str(route.hooks / _R_HOOK), original.get(_R_PROFILES[0], "")), strict=True)),
        MARK: str(route.folder),
    }


def _java_options(route: RelayRoute) -> str:
    properties = {
        "javax.net.ssl.trustStore": str(route.authority.truststore),
        "javax.net.ssl.trustStoreType": "PKCS12",
        "javax.net.ssl.trustStorePassword": TRUSTSTORE_PASSWORD,
    }
    for scheme in ("https",) if route.allow_network else ("https", "http"):
        properties |= {f"{scheme}.proxyHost": LOOPBACK, f"{scheme}.proxyPort": str(route.proxy_port)}
    return " ".join(f'"-D{name}={value}"' for name, value in properties.items())


def _joined(first: str, second: str, separator: str) -> str:
    return separator.join(filter(None, (first, second)))
