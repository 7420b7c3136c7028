"""`retinue run` keeps a command from other hosts, and tells why a server cannot be reached."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import certifi
import pytest
import trustme

import running
from retinue.local import LocalServer
from support.intercepted import NODE, environment, run
from support.python_clients import AIOHTTP
from support.sample_server import SampleServer, is_allowed

OTHER_URL = "https://example.org/"


def test_tls_failures_are_counted(sample_server: SampleServer, curl: str) -> None:
    """By the proxy and without it."""
    for more in ("", "--noproxy '*'"):
        done = sample_server.run("sh", "-c", f"curl -sS {more} --cacert {certifi.where()} https://open.tiktokapis.com/")
        assert "1 did not trust the certificate" in done.stderr


OTHERS = {
    "curl": ["curl", "-sS", OTHER_URL],
    "requests": [sys.executable, "-c", f"import requests; requests.get('{OTHER_URL}')"],
    "aiohttp": [
        sys.executable,
        "-c",
        f"{AIOHTTP.replace('collect(post)', '')}\npost('{OTHER_URL}')",
    ],
    "an address": [sys.executable, "-c", "import socket; socket.create_connection(('192.0.2.1', 443))"],
    "node": [str(NODE), "-e", f"fetch('{OTHER_URL}').catch((error) => {{ console.error(error); process.exit(1); }})"],
}


@pytest.mark.parametrize("client", OTHERS)
def test_other_hosts_are_refused(sample_server: SampleServer, curl: str, client: str, within: tuple[str, ...]) -> None:
    """Whichever way a client looks for them, and it hears why."""
    done = sample_server.run(*OTHERS[client], within=within)

    assert 0 != done.returncode
    assert re.search("response 403|Tunnel connection failed: 403|is blocked by retinue run", done.stderr)


def test_plain_http_to_tiktok_is_told_to_use_https(sample_server: SampleServer, curl: str) -> None:
    """And not to let the command reach TikTok itself, which would get the secret in clear text."""
    done = sample_server.run(curl, "-sS", "http://open.tiktokapis.com/v2/oauth/token/", "-d", "client_secret=x")

    assert "open.tiktokapis.com is blocked by retinue run; only https leads to the server" in done.stdout


@pytest.mark.skipif(not is_allowed("unshare", "-Urn", "true"), reason="the system allows no network namespace")
def test_a_command_runs_in_its_own_network(sample_server: SampleServer, curl: str) -> None:
    """Without variables and hooks nothing is reached either, but for TikTok's names; the user is the same."""
    script = f"""
unset http_proxy https_proxy all_proxy HTTP_PROXY HTTPS_PROXY ALL_PROXY
curl -sS {OTHER_URL} || echo no other
curl -sS {sample_server.server.url} || echo no loopback
curl -sS https://open.tiktokapis.com/v2/ && id -u
"""
    done = sample_server.run("sh", "-c", script)

    assert "other hosts are blocked: the command has a network of its own" in done.stderr
    assert ["no other", "no loopback"] == done.stdout.splitlines()[:2]
    assert done.stdout.endswith(f"}}{os.getuid()}\n")


def test_other_hosts_can_be_allowed(sample_server: SampleServer, curl: str, tmp_path: Path) -> None:
    """Then the proxy lets tunnels through, and the bundle has the authorities of this machine too."""
    script = f"""
curl -sS -p -x "$https_proxy" --noproxy "" {sample_server.server.url}/v2/
curl -sS https://open.tiktokapis.com/v2/
echo
grep -c BEGIN "$SSL_CERT_FILE"
"""
    known = str(other_authority(tmp_path))
    done = run("--allow-network", "--server", sample_server.server.url, "--", "sh", "-c", script, SSL_CERT_FILE=known)

    assert 2 == done.stdout.count("unsupported_path"), done.stderr
    assert done.stdout.endswith("\n2\n")
    assert "other hosts may be reached" in done.stderr


def test_a_client_that_does_not_trust_the_authority(sample_server: SampleServer, curl: str, tmp_path: Path) -> None:
    """Fails as it should, and the summary says what may be the matter."""
    done = sample_server.run(curl, "-sS", "--cacert", other_authority(tmp_path), "https://open.tiktokapis.com/v2/")

    assert 60 == done.returncode
    assert "1 did not trust the certificate" in done.stderr


def other_authority(folder: Path) -> Path:
    """The certificate of another authority."""
    trustme.CA().cert_pem.write_to_path(folder / "other.pem")
    return folder / "other.pem"


def test_a_server_behind_tls(sample_server: SampleServer, tmp_path: Path) -> None:
    """A certificate that this machine trusts is enough; with another one the client hears what is wrong."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "authority.pem")
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(tmp_path / "server.pem")
    (tmp_path / "server.pem").chmod(0o600)
    tls = ("--tls-cert", tmp_path / "server.pem", "--tls-key", tmp_path / "server.pem")
    script = "import requests; print(requests.get('https://open.tiktokapis.com/v2/').text)"
    with running.running_server(sample_server.server.store, *tls) as server:
        url = server.base_url.replace("127.0.0.1", "localhost")
        command = ("--server", url, "--", sys.executable, "-c", script)
        trusted, distrusted = run(*command, SSL_CERT_FILE=str(tmp_path / "authority.pem")), run(*command)

    assert "unsupported_path" in trusted.stdout
    assert "retinue run: the server cannot be reached: [SSL: CERTIFICATE_VERIFY_FAILED]" in distrusted.stdout


def test_a_server_that_goes_away(tmp_path: Path) -> None:
    """A client hears that it cannot be reached, instead of nothing."""
    server = LocalServer(tmp_path)
    script = (
        "import sys, requests; print('ready', flush=True); sys.stdin.readline()\n"
        "print(requests.get('https://open.tiktokapis.com/v2/').text)"
    )
    streams: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with server.answering():
        command = running.command_of("run", "--server", server.url, "--", sys.executable, "-c", script)
        process = subprocess.Popen(command, env=environment(), text=True, **streams)
        assert process.stdout is not None
        assert "ready\n" == process.stdout.readline()
    server_gone, _ = process.communicate("go on\n")

    assert server_gone.startswith("retinue run: the server cannot be reached:")
