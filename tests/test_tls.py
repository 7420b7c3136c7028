"""TLS on the public listener, as OpenSSL's own client sees it."""

import os
import re
import signal
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)
from trustme import KeyType

from retinue.errors import InputError, StoreError
from retinue.key_pair import KeyPair, read_key_pair
from retinue.store.cassandra import session
from retinue.store.cassandra.location import parse
from retinue.store.open import open_store
from running import Failed, Server, retinue, running_server
from support.waiting import waiting_for

AUTHORITY = trustme.CA()
SUITES = {
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-CHACHA20-POLY1305",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "ECDHE-RSA-CHACHA20-POLY1305",
}


@dataclass(frozen=True)
class Files:
    """A certificate and its key, in files of their own."""

    certificate: Path
    key: Path

    def issue(self, kind: KeyType = KeyType.ECDSA) -> trustme.LeafCert:
        """Replace both by a new pair."""
        issued = AUTHORITY.issue_cert("retinue.example", key_type=kind)
        self.certificate.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        self.key.touch(mode=0o600)
        self.key.write_bytes(issued.private_key_pem.bytes())
        return issued

    @property
    def flags(self) -> tuple[str | Path, ...]:
        """How `serve` is told."""
        return ("--tls-cert", self.certificate, "--tls-key", self.key)


def serial_of(issued: trustme.LeafCert) -> int:
    """The serial number of a certificate."""
    return x509.load_pem_x509_certificate(issued.cert_chain_pems[0].bytes()).serial_number


@pytest.fixture
def files(tmp_path: Path) -> Files:
    """A pair with an ECDSA key."""
    made = Files(tmp_path / "server.pem", tmp_path / "server.key")
    made.issue()
    return made


def openssl(server: Server, *flags: str, send: bytes = b"") -> str:
    """Return the output of `openssl s_client` for one connection."""
    address = urlsplit(server.base_url).netloc
    done = subprocess.run(
        ["openssl", "s_client", "-connect", address, *flags], input=send, capture_output=True, check=False, timeout=60
    )
    return (done.stdout + done.stderr).decode(errors="replace")


def offered(server: Server, *flags: str) -> str:
    """The suite that a connection gets; empty if it gets none."""
    found = re.search(r"Cipher is (\S+)", openssl(server, *flags))
    return "" if found is None or found[1] == "(NONE)" else found[1]


def served_serial(server: Server, *flags: str) -> int:
    """The serial number of the certificate that a new connection is shown."""
    text = openssl(server, *flags)
    pem = re.search(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", text, re.DOTALL)
    assert pem is not None, text
    return x509.load_pem_x509_certificate(pem[0].encode()).serial_number


@pytest.fixture(scope="module", params=[KeyType.ECDSA, KeyType.RSA], ids=["ecdsa", "rsa"])
def secured(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with TLS."""
    folder = tmp_path_factory.mktemp("tls")
    pair = Files(folder / "server.pem", folder / "server.key")
    pair.issue(request.param)
    open_store(str(folder / "graph.db")).create()
    with running_server(folder / "graph.db", *pair.flags) as server:
        yield server


def test_tls_1_2_has_forward_secret_authenticated_suites_alone(secured: Server) -> None:
    """A client that offers all others that OpenSSL knows gets none of them."""
    others = ":".join(["ALL", "COMPLEMENTOFALL", *(f"!{suite}" for suite in SUITES), "@SECLEVEL=0"])

    assert 3 == len({suite for suite in SUITES if suite == offered(secured, "-tls1_2", "-cipher", suite)})
    assert "" == offered(secured, "-tls1_2", "-cipher", others)


def test_tls_1_3_is_spoken_and_nothing_below_1_2(secured: Server) -> None:
    """Each version is asked for alone."""
    assert offered(secured, "-tls1_3").startswith("TLS_")
    assert offered(secured, "-tls1_2") in SUITES
    for version in ("-tls1", "-tls1_1"):
        assert "" == offered(secured, version, "-cipher", "ALL:@SECLEVEL=0")


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_tls_extensions_are_fixed(secured: Server, version: str) -> None:
    """ALPN says http/1.1, also to a client that would rather have HTTP/2; nothing is compressed; no tickets."""
    text = openssl(secured, version, "-alpn", "h2,http/1.1", "-status")

    assert "ALPN protocol: http/1.1" in text
    assert "No ALPN negotiated" in openssl(secured, version, "-alpn", "h2")
    assert "Compression: NONE" in text
    assert "session ticket" not in text.lower()


def test_a_client_cannot_renegotiate(secured: Server) -> None:
    """`R` makes OpenSSL's client ask for it; the connection has no second handshake."""
    text = openssl(secured, "-tls1_2", "-legacy_renegotiation", send=b"R\n")

    assert "RENEGOTIATING" in text
    assert re.search(r"no renegotiation|unexpected message|handshake failure", text), text


def test_an_odd_server_name_leaves_nothing_in_the_log(
    store_path: Path, files: Files, capfd: pytest.CaptureFixture[str]
) -> None:
    """Any client can send one; the connection is served like every other."""
    open_store(str(store_path)).create()
    with running_server(store_path, *files.flags) as server:
        for name in ("\xff\xfe", "a" * 250, "xn--\u00e9", "."):
            assert "Cipher is (NONE)" not in openssl(server, "-servername", name)
    assert "" == capfd.readouterr().err


def test_a_new_pair_is_used_after_sighup(store_path: Path, files: Files) -> None:
    """Of another kind of key, too, with or without a server name, by each of two workers; open connections stay."""
    open_store(str(store_path)).create()
    with running_server(store_path, *files.flags, "--workers", "2") as server:
        parts = urlsplit(server.base_url)
        assert parts.hostname is not None
        trusting = ssl.create_default_context()
        AUTHORITY.configure_trust(trusting)
        with (
            socket.create_connection((parts.hostname, parts.port or 0), timeout=60) as plain,
            trusting.wrap_socket(plain, server_hostname="retinue.example") as before,
        ):
            new = serial_of(files.issue(KeyType.RSA))
            os.kill(server.pid, signal.SIGHUP)
            waiting_for(lambda: all(served_serial(server) == new for _ in range(20)))

            assert {new} == {served_serial(server, "-noservername", "-tls1_2") for _ in range(5)}
            assert {new} == {served_serial(server, "-servername", "retinue.example") for _ in range(5)}
            assert "" == offered(server, "-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-GCM-SHA256")  # the old key's
            before.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert before.recv(100).startswith(b"HTTP/1.1 404 ")


def test_a_broken_pair_is_not_loaded(
    store_path: Path, files: Files, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The old pair stays in all workers, and the log has one line for each attempt."""
    open_store(str(store_path)).create()
    log: list[str] = []

    def has_logged(words: str, lines: int) -> bool:
        log.append(capfd.readouterr().err)
        return words in "".join(log) and "".join(log).count("\n") == lines

    with running_server(store_path, *files.flags) as server:
        old = served_serial(server)
        Files(files.certificate, tmp_path / "other.key").issue()  # it does not belong to the key any more
        os.kill(server.pid, signal.SIGHUP)
        waiting_for(lambda: has_logged("does not belong to the first certificate", 1))
        assert old == served_serial(server)

        files.key.chmod(0o644)
        os.kill(server.pid, signal.SIGHUP)
        waiting_for(lambda: has_logged("chmod 600", 2))

        (worker,) = (process for process, role in server.processes().items() if role == "worker")
        os.kill(worker, signal.SIGKILL)
        waiting_for(lambda: "worker" in {role for process, role in server.processes().items() if process != worker})
        assert old == served_serial(server)


@pytest.mark.parametrize("bit", [0o040, 0o020, 0o010, 0o004, 0o002, 0o001])
def test_a_key_that_others_may_use_is_refused(files: Files, bit: int, tmp_path: Path) -> None:
    """By each way of access, through a link too; the message has the remedy."""
    link = tmp_path / "link.key"
    link.symlink_to(files.key)
    files.key.chmod(0o600 | bit)
    for path in (files.key, link):
        with pytest.raises(InputError, match=rf"mode 0{0o600 | bit:o}\); run `chmod 600 {path}`"):
            read_key_pair(files.certificate, path)

    files.key.chmod(0o600)
    assert read_key_pair(files.certificate, link).key == files.key.read_bytes()


@pytest.mark.parametrize(
    ("mode", "owner", "user", "is_accepted"),
    [
        (0o640, 0, 1000, True),  # root hands a key over to a service's group
        (0o644, 0, 1000, False),
        (0o660, 0, 1000, False),
        (0o640, 0, 0, False),
        (0o640, 1000, 1000, False),
        (0o640, 1001, 1000, False),
        (0o400, 1000, 1000, True),
    ],
)
def test_only_a_key_of_root_may_be_readable_by_the_group(
    files: Files, mode: int, owner: int, user: int, is_accepted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As PostgreSQL has it: distributions keep keys so in a folder for a group."""
    files.key.chmod(mode)
    status = files.key.stat()
    monkeypatch.setattr(os, "geteuid", lambda: user)
    monkeypatch.setattr(os, "fstat", lambda _descriptor: os.stat_result((*status[:4], owner, *status[5:])))
    if is_accepted:
        read_key_pair(files.certificate, files.key)
    else:
        with pytest.raises(InputError, match="other users may use"):
            read_key_pair(files.certificate, files.key)


def weak(files: Files) -> None:
    """Replace both by a pair with a key of 1024 bits."""
    flags = ("-newkey", "rsa:1024", "-nodes", "-subj", "/CN=weak", "-keyout", files.key, "-out", files.certificate)
    subprocess.run(["openssl", "req", "-x509", *flags], capture_output=True, check=True)


def encrypted(files: Files) -> None:
    """Encrypt the key."""
    key = load_pem_private_key(files.key.read_bytes(), None)
    files.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")))


def a_folder(files: Files) -> None:
    """Put a folder in the key's place."""
    files.key.unlink()
    files.key.mkdir()


def endless(files: Files) -> None:
    """Put a device that never ends in the certificate's place."""
    files.certificate.unlink()
    files.certificate.symlink_to("/dev/zero")


NOT_ITS_KEY = "does not belong to the first certificate in"
BROKEN: dict[str, tuple[Callable[[Files], object], str]] = {
    "no certificate": (lambda files: files.certificate.unlink(), "the certificate cannot be read: No such file"),
    "no key": (lambda files: files.key.unlink(), "the private key cannot be read: No such file"),
    "a folder": (a_folder, "the private key cannot be read: Is a dir"),
    "not PEM": (lambda files: files.certificate.write_bytes(b"\0" * 100), "holds no certificate: expected PEM"),
    "no key in it": (lambda files: files.key.write_bytes(files.certificate.read_bytes()), "holds no private key"),
    "endless": (endless, "holds no certificate: expected PEM of at most"),
    "cut": (lambda files: files.key.write_bytes(files.key.read_bytes()[:60]), "unusable for TLS: "),
    "weak": (weak, "unusable for TLS: [SSL: EE_KEY_TOO_SMALL]"),
    "encrypted": (encrypted, "the private key is encrypted; decrypt it with `openssl pkey`"),
    "another's key": (lambda files: Files(files.key.with_name("x"), files.key).issue(), NOT_ITS_KEY),
    "another kind of key": (lambda files: Files(files.key.with_name("x"), files.key).issue(KeyType.RSA), NOT_ITS_KEY),
}


@pytest.mark.parametrize("name", BROKEN)
def test_an_unusable_pair_is_refused_in_one_line(name: str, store_path: Path, files: Files) -> None:
    """It is named, nothing is asked for on the terminal, and the exit code is 2."""
    open_store(str(store_path)).create()
    spoil, words = BROKEN[name]
    spoil(files)
    with pytest.raises(Failed) as refused:
        retinue("serve", "--store", store_path, "--port", "0", "--management-port", "0", *files.flags)

    _, code, said = str(refused.value).split("\n", 2)
    assert "ended with exit code 2" == code
    assert said.startswith("retinue: --tls-cert and --tls-key: ")
    assert words in said
    assert 1 == said.count("\n")


def test_a_client_key_of_a_cluster_follows_the_same_rules(files: Files) -> None:
    """`tls_key` of a store's location is a private key like any other."""
    authority = files.certificate.with_name("ca.pem")
    AUTHORITY.cert_pem.write_to_path(str(authority))
    files.key.chmod(0o640)
    location = f"cassandra://127.0.0.1:1/k?tls_ca={authority}&tls_cert={files.certificate}&tls_key={files.key}"
    with pytest.raises(StoreError, match=r"mode 0640\); run `chmod 600"):
        session.Session(parse(location))


def test_a_key_is_not_shown(files: Files) -> None:
    """Not where a pair is printed for an error."""
    assert "PRIVATE" not in repr(read_key_pair(files.certificate, files.key))
    assert KeyPair(b"", b"secret") == KeyPair(b"", b"secret")
