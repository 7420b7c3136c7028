"""A certificate authority that lives as long as one run, and its certificate for TikTok's hosts.

The authority's key is never written down, and nobody is asked to trust it but the command that is run.
"""

import ssl
from pathlib import Path

import trustme
from msgspec import Struct

from retinue.redirect.hosts import HOSTS

# Where the distributions of Linux keep the authorities that they trust.
_SYSTEM_BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian, Arch
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",  # Fedora, RHEL
    "/etc/ssl/ca-bundle.pem",  # openSUSE
    "/etc/ssl/cert.pem",  # Alpine
)


class Authority(Struct, frozen=True):
    """The authority's certificate, alone and behind those that this machine trusts; and how its hosts speak TLS."""

    certificate: Path
    bundle: Path
    tls: ssl.SSLContext


def make_authority(folder: Path, *, trust_others: bool) -> Authority:
    """A new authority, with its files in a folder. `trust_others`: its bundle has this machine's authorities too."""
    made = trustme.CA(organization_name="Retinue, for one run")
    certificate, bundle = folder / "authority.pem", folder / "bundle.pem"
    pem = made.cert_pem.bytes().decode()
    certificate.write_text(pem)
    bundle.write_text(pem + (_trusted_here() if trust_others else ""))
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.set_alpn_protocols(["http/1.1"])
    made.issue_cert(*HOSTS).configure_cert(tls)
    return Authority(certificate, bundle, tls)


def system_bundles() -> list[str]:
    """The files with authorities that this machine has, each once."""
    return sorted({str(Path(name).resolve()) for name in _SYSTEM_BUNDLES if Path(name).is_file()})


def _trusted_here() -> str:
    """The authorities that this machine trusts, in one file or in a folder with one for each."""
    paths = ssl.get_default_verify_paths()
    files = [Path(paths.cafile)] if paths.cafile else sorted(Path(paths.capath or "/dev/null").glob("*.0"))
    return "\n" + "\n".join(file.read_text("utf-8", "replace") for file in files)
