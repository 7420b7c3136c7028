"""TikTok's hosts, and a certificate authority for one run.

The authority's key is never written to disk.
"""

import re
import ssl
from contextlib import suppress
from pathlib import Path
from warnings import catch_warnings, simplefilter

import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import PrivateFormat, pkcs12
from cryptography.utils import CryptographyDeprecationWarning
from msgspec import Struct

# The only names that are intercepted.
HOSTS = ("open.tiktokapis.com", "open-platform.tiktokapis.com", "platform.tiktokapis.com")
HTTPS = 443

_SYSTEM_BUNDLES = (  # of Linux distributions
    "/etc/ssl/certs/ca-certificates.crt",  # Debian, Arch
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",  # Fedora, RHEL
    "/etc/ssl/ca-bundle.pem",  # openSUSE
    "/etc/ssl/cert.pem",  # Alpine
)
_CERTIFICATE = re.compile("-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)

HTTP2 = "h2"
TRUSTSTORE_PASSWORD = "changeit"  # noqa: S105 - Java's own default; there is nothing secret in certificates


class Authority(Struct, frozen=True):
    """The files and the TLS context of an authority.

    `bundle` has the `certificate` and maybe the machine's authorities; `truststore` is the same for Java.
    """

    certificate: Path
    bundle: Path
    truststore: Path
    tls: ssl.SSLContext


def make_authority(folder: Path, *, trust_others: bool) -> Authority:
    """Create an authority in a folder. `trust_others` adds the machine's authorities to the bundle."""
    authority = trustme.CA(organization_name="Retinue, for one run")
    certificate, bundle, truststore = folder / "authority.pem", folder / "bundle.pem", folder / "truststore.p12"
    pem = authority.cert_pem.bytes().decode()
    trusted = pem + (_trusted_here() if trust_others else "")
    certificate.write_text(pem)
    bundle.write_text(trusted)
    truststore.write_bytes(_truststore(trusted))
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    # HTTP/2 is chosen only if a client offers nothing else; the relay then refuses it.
    tls.set_alpn_protocols(["http/1.1", HTTP2])
    authority.issue_cert(*HOSTS).configure_cert(tls)
    return Authority(certificate, bundle, truststore, tls)


def is_tiktok(host: str, port: int) -> bool:
    """Return whether a connection is to TikTok's Research API."""
    return port == HTTPS and is_tiktok_host(host)


def is_tiktok_host(host: str) -> bool:
    """Return whether a host is TikTok's, on any port."""
    return host.lower().rstrip(".") in HOSTS


def system_bundles() -> list[str]:
    """Return this machine's files of authorities, each once."""
    return sorted({str(Path(name).resolve()) for name in _SYSTEM_BUNDLES if Path(name).is_file()})


def _trusted_here() -> str:
    paths = ssl.get_default_verify_paths()
    files = [Path(paths.cafile)] if paths.cafile else sorted(Path(paths.capath or "/dev/null").glob("*.0"))
    return "\n" + "\n".join(file.read_text("utf-8", "replace") for file in files)


def _truststore(bundle: str) -> bytes:
    """Return a bundle as a truststore that every Java version reads."""
    authorities = []
    with catch_warnings():
        simplefilter("ignore", CryptographyDeprecationWarning)  # a few old certificates violate the standard
        for number, pem in enumerate(_CERTIFICATE.findall(bundle)):
            with suppress(ValueError):
                certificate = x509.load_pem_x509_certificate(pem.encode())
                authorities.append(pkcs12.PKCS12Certificate(certificate, f"authority-{number}".encode()))
    # Java 8 does not support newer algorithms.
    encryption = (
        PrivateFormat.PKCS12.encryption_builder()
        .key_cert_algorithm(pkcs12.PBES.PBESv1SHA1And3KeyTripleDESCBC)
        .hmac_hash(hashes.SHA1())  # noqa: S303 - certificates are public
        .build(TRUSTSTORE_PASSWORD.encode())
    )
    return pkcs12.serialize_java_truststore(authorities, encryption)
