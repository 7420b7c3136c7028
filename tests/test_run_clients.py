"""Clients of many kinds collect whole lists under `retinue run`, unchanged."""

import json
import sys
from pathlib import Path

import pytest

from retinue.faults import Faults
from retinue.local import LocalServer
from support.intercepted import NODE, ROOT, installed, run
from support.python_clients import COLLECT, PYTHON_CLIENTS
from support.sample_server import SampleServer, is_allowed


@pytest.fixture
def wget() -> str:
    """The program wget."""
    return installed("wget")


@pytest.mark.parametrize("client", PYTHON_CLIENTS)
def test_python_clients_collect_whole_lists(sample_server: SampleServer, client: str, within: tuple[str, ...]) -> None:
    """Each gets every row once, in order, wherever it looks for proxies and authorities."""
    done = sample_server.run(sys.executable, "-c", COLLECT + PYTHON_CLIENTS[client], within=within)

    assert 0 == done.returncode, done.stderr
    assert sample_server.rows == json.loads(done.stdout)
    assert f"5 requests, 0 refusals, {len(sample_server.rows)} rows" in done.stderr


def in_the_page(language: str) -> str:
    """The script in a language that docs/run.md shows."""
    return (ROOT / "docs" / "run.md").read_text().split(f"```{language}\n")[1].split("```")[0]


def test_the_curl_script_of_the_page(sample_server: SampleServer, curl: str, within: tuple[str, ...]) -> None:
    """The script of docs/run.md prints the whole list, page by page."""
    done = sample_server.run("bash", "-euc", in_the_page("bash"), within=within)

    pages = [json.loads(line) for line in done.stdout.splitlines()]
    assert [100, 100, 100, len(sample_server.rows) - 300] == [len(page["data"]["user_following"]) for page in pages]
    assert sample_server.rows == [row for page in pages for row in page["data"]["user_following"]]


@pytest.mark.skipif(not is_allowed("unshare", "-Urn", "true"), reason="the system allows no network namespace")
def test_programs_with_the_trust_of_the_system_are_intercepted(sample_server: SampleServer, wget: str) -> None:
    """The system's file of authorities includes the one of this run, as R and wget need it."""
    script = f"{wget} -qO- --content-on-error --post-data=x=1 https://open.tiktokapis.com/v2/oauth/token/"
    assert '{"error":"invalid_request"' in sample_server.run("sh", "-c", script).stdout


def test_the_node_script_of_the_page(sample_server: SampleServer, tmp_path: Path, within: tuple[str, ...]) -> None:
    """Node's fetch, which obeys no proxy, gets the whole list too."""
    (tmp_path / "pages.mjs").write_text(in_the_page("js"))

    done = sample_server.run(NODE, tmp_path / "pages.mjs", within=within)

    assert sample_server.rows == [row for line in done.stdout.splitlines() for row in json.loads(line)], done.stderr


@pytest.mark.parametrize(
    "connecting",
    [
        'tls.connect({ host: "open.tiktokapis.com", port: 443 }, report)',
        'tls.connect(443, "platform.tiktokapis.com", { servername: "platform.tiktokapis.com" }, report)',
        'https.get("https://open-platform.tiktokapis.com/v2/", report)',
        'new net.Socket().connect(443, "open.tiktokapis.com", report)',
    ],
)
def test_every_node_client_is_intercepted(sample_server: SampleServer, connecting: str) -> None:
    """All of them end at one method of sockets."""
    script = f"function report() {{ console.log('connected'); process.exit(); }}\n{connecting};"
    assert "connected\n" == sample_server.run(NODE, "-e", script).stdout


def test_plain_proxy_requests_are_refused(sample_server: SampleServer) -> None:
    """As axios asks for https addresses; the connection ends with the answer."""
    script = """
import http.client, os
connection = http.client.HTTPConnection(os.environ["https_proxy"].removeprefix("http://"))
connection.request("POST", "https://open.tiktokapis.com/v2/oauth/token/", b"{}", {"Proxy-Connection": "keep-alive"})
answer = connection.getresponse()
print(answer.status, answer.read().decode(), answer.will_close)
"""
    done = sample_server.run(sys.executable, "-c", script)

    assert done.stdout.startswith('400 {"error":"invalid_request"'), done.stderr
    assert done.stdout.endswith("True\n")


def test_a_sandbox_for_a_command_without_a_server(sample_server: SampleServer) -> None:
    """The command is told whom it accepts; its graph is the same each time."""
    done = run("--", sys.executable, "-c", COLLECT + PYTHON_CLIENTS["requests"])

    assert sample_server.rows == json.loads(done.stdout)
    assert f"RETINUE_SAMPLE_USERNAME={sample_server.username}\n" in done.stderr
    assert 1 == done.stderr.count("RETINUE_CLIENT_KEY=") == done.stderr.count("RETINUE_CLIENT_SECRET=")
    counts = f"retinue run: 5 requests, 0 refusals, {len(sample_server.rows)} rows\n"
    assert done.stderr.endswith(f"{counts}retinue run:   {sample_server.username}: complete\n")


def test_refusals_are_counted(sample_server: SampleServer) -> None:
    """They are answers with an error."""
    script = 'import requests; requests.post("https://open.tiktokapis.com/v2/research/user/following/")'
    assert "1 requests, 1 refusals, 0 rows" in sample_server.run(sys.executable, "-c", script).stderr


def test_refusals_that_come_as_200_are_counted(retinue_server: LocalServer) -> None:
    """Of the token endpoint too, as TikTok's service sent them."""
    script = 'import requests; requests.post("https://open.tiktokapis.com/v2/oauth/token/", data={"client_key": "x"})'
    retinue_server.faults = Faults(token_errors_with_200=True)
    done = run("--server", retinue_server.url, "--", sys.executable, "-c", script)
    assert "1 requests, 1 refusals, 0 rows" in done.stderr
