"""A cluster that asks who we are: a password, and certificates on both sides."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import trustme
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from running import Failed, retinue, running_server
from support.backends import CLUSTER_SECONDS
from support.cassandra_jars import missing
from support.cassandra_node import Setting, free_port, running
from support.requirements import require

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(CLUSTER_SECONDS)]  # a node has to start

CONFIGURATION = """
authenticator: PasswordAuthenticator
client_encryption_options:
  enabled: true
  optional: false
  require_client_auth: true
  keystore: {folder}/node.pem
  truststore: {folder}/ca.pem
  ssl_context_factory:
    class_name: org.apache.cassandra.security.PEMBasedSslContextFactory
"""


@dataclass(frozen=True)
class Secured:
    """A node, and the folder with our certificate, its key, and the authority of both."""

    port: int
    folder: Path

    def store(self, account: str = "cassandra:cassandra", *, tls: str = "ca.pem", cert: str = "client") -> str:
        """Return the value of `--store`."""
        options = {"tls_ca": tls, "tls_cert": f"{cert}.pem", "tls_key": f"{cert}.key"} if cert else {"tls_ca": tls}
        named = "&".join(f"{name}={self.folder / file}" for name, file in options.items())
        return f"cassandra://{account}@127.0.0.1:{self.port}/secured" + (f"?{named}" if tls else "")


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    """A node that accepts only these authenticator."""
    require(missing())
    folder = tmp_path_factory.mktemp("secured")
    authority, stranger = trustme.CA(), trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    stranger.cert_pem.write_to_path(folder / "stranger-ca.pem")
    for name, certificate in (
        ("node", authority.issue_cert("127.0.0.1")),
        ("client", authority.issue_cert("retinue.example")),
        ("stranger", stranger.issue_cert("retinue.example")),
    ):
        key = load_pem_private_key(certificate.private_key_pem.bytes(), None)
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())  # the form that Java reads
        chain = b"".join(blob.bytes() for blob in certificate.cert_chain_pems)
        (folder / f"{name}.key").touch(mode=0o600)
        (folder / f"{name}.key").write_bytes(pem)
        (folder / f"{name}.pem").write_bytes(pem + chain if name == "node" else chain)
    port = free_port()
    with running(1, port, Setting(more=CONFIGURATION.format(folder=folder))):
        secured = Secured(port, folder)
        for attempt in range(30, 0, -1):  # a new node makes its first user a while after it answers
            try:
                retinue("store", "init", "--store", secured.store(), "--replication", "1")
                break
            except Failed:
                if attempt == 1:
                    raise
                time.sleep(0.5)
        yield secured


def test_complete_credentials_are_accepted(secured: Secured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every command works as without."""
    monkeypatch.chdir(tmp_path)
    follows = tmp_path / "follows.csv"
    follows.write_text("follower,followee,followed_at\na,b,100\n")
    store = secured.store()
    retinue("import", "--store", store, follows)

    assert "b" in retinue("following", "a", "--store", store)
    assert "every invariant holds" in retinue("check", "--store", store)


def test_the_version_endpoint_does_not_contain_the_password(
    secured: Secured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is open to every user of the machine, so it shows the location without user and options."""
    monkeypatch.chdir(tmp_path)
    with running_server(secured.store()) as server:
        version = httpx.get(f"{server.management_url}/version", timeout=60).json()  # a busy cluster may take long

    assert f"cassandra://127.0.0.1:{secured.port}/secured" == version["store"]


@pytest.mark.parametrize(
    ("account", "tls", "cert", "reason"),
    [
        ("cassandra:wrong", "ca.pem", "client", "Provided username cassandra and/or password are incorrect"),
        ("cassandra:cassandra", "ca.pem", "", "no node can be reached"),
        ("cassandra:cassandra", "ca.pem", "stranger", "no node can be reached"),
        ("cassandra:cassandra", "stranger-ca.pem", "client", "certificate verify failed"),
        ("cassandra:cassandra", "", "", "no node can be reached"),
        ("cassandra:cassandra", "nothing.pem", "client", "the certificates cannot be read"),
    ],
)
def test_missing_credentials_are_reported(secured: Secured, account: str, tls: str, cert: str, reason: str) -> None:
    """In one sentence, which never has the password in it."""
    with pytest.raises(Failed) as refusal:
        retinue("check", "--store", secured.store(account, tls=tls, cert=cert))
    said = str(refusal.value).splitlines()[2:]
    assert len(said) == 1
    assert reason in said[0]
    assert account.partition(":")[2] not in said[0].replace("cassandra://", "").replace("/secured", "")
