"""`retinue run`, with commands that know nothing of it: whole lists collected by other people's clients, unchanged."""

import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import certifi
import pytest
import trustme
from msgspec import Struct

import running
from retinue.faults import Faults
from retinue.intercept.sandbox import fill
from retinue.local import LocalServer
from support.intercepted import NODE, ROOT, WITHOUT_CONFINEMENT, Done, environment, installed, run

SHOWN_OTHER = "https://example.org/"

Rows = list[dict[str, str]]


@pytest.fixture(params=["as the system allows", "best effort"])
def within(request: pytest.FixtureRequest) -> tuple[str, ...]:
    """The command before a run: none, or one that denies all that the kernel has for confinement."""
    return WITHOUT_CONFINEMENT if request.param == "best effort" else ()


class Given(Struct, frozen=True):
    """A server of the test's own, with an account and its whole list as the graph has it."""

    server: LocalServer
    username: str
    rows: Rows

    def run(self, *command: str | Path, within: tuple[str, ...] = (), **variables: str) -> Done:
        """Run a command led to this server."""
        known = {
            "RETINUE_CLIENT_KEY": self.server.client_key,
            "RETINUE_CLIENT_SECRET": self.server.client_secret,
            "RETINUE_SAMPLE_USERNAME": self.username,
        }
        flags = ["--best-effort"] if within else []
        return run(*flags, "--server", self.server.url, "--", *command, within=within, **known, **variables)


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Given]:
    """The server; its list is read from the store."""
    folder = tmp_path_factory.mktemp("given")
    server = LocalServer(folder)
    username = fill(server, folder / "sample")
    printed = running.retinue("following", "--store", server.store, "--format", "jsonl", username)
    rows = [json.loads(line) for line in printed.splitlines()]
    assert len(rows) > 300
    with server.answering():
        yield Given(server, username, [{"display_name": r["display_name"], "username": r["username"]} for r in rows])


@pytest.fixture
def curl() -> str:
    """The program curl."""
    return installed("curl")


@pytest.fixture
def wget() -> str:
    """The program wget."""
    return installed("wget")


def is_allowed(*command: str) -> bool:
    """Whether the system lets a command do what it is for."""
    return not subprocess.run(command, capture_output=True, check=False).returncode


# --- whole lists ------------------------------------------------------------------------------------------------------

COLLECT = """
import json, os
key, secret, username = (os.environ["RETINUE_" + name] for name in ("CLIENT_KEY", "CLIENT_SECRET", "SAMPLE_USERNAME"))
API = "https://open.tiktokapis.com/v2"
FORM = {"client_key": key, "client_secret": secret, "grant_type": "client_credentials"}

def collect(post):
    token = post(API + "/oauth/token/", data=FORM)["access_token"]
    rows, query, more = [], {"username": username, "max_count": 100}, True
    while more:
        headers = {"Authorization": "Bearer " + token}
        page = post(API + "/research/user/following/", json=query, headers=headers)["data"]
        rows += page["user_following"]
        more, query["cursor"] = page["has_more"], page["cursor"]
    print(json.dumps(rows))
"""

AIOHTTP = """
import aiohttp, asyncio
def post(url, **options):
    async def answer():
        async with aiohttp.ClientSession() as session, session.post(url, **options) as response:
            return await response.json()
    return asyncio.run(answer())
collect(post)
"""

URLLIB = """
import urllib.parse, urllib.request
def post(url, data=None, json=None, headers={}):
    body = urllib.parse.urlencode(data) if data else __import__("json").dumps(json)
    with urllib.request.urlopen(urllib.request.Request(url, body.encode(), headers)) as answer:
        return __import__("json").load(answer)
collect(post)
"""

UNTRUSTING = """
import requests
session = requests.Session()
session.trust_env = False
collect(lambda url, **options: session.post(url, **options).json())
"""

HTTPX_ASYNC = """
import asyncio, httpx
def post(url, **options):
    async def answer():
        async with httpx.AsyncClient(trust_env=False) as client:
            return (await client.post(url, **options)).json()
    return asyncio.run(answer())
collect(post)
"""

TIKTOKS_OWN = """
from tiktok_research_api import QueryUserFollowingRequest, TikTokResearchAPI
api = TikTokResearchAPI(key, secret, qps=1000)
print(json.dumps(api.query_user_following(QueryUserFollowingRequest(username, max_count=100), fetch_all_pages=True)[0]))
"""

RESEARCHTIKPY = """
from researchtikpy.get_access_token import get_access_token
from researchtikpy.social_graph import extract_following, iter_following_responses
token = get_access_token(key, secret)["access_token"]
print(json.dumps([row for page in iter_following_responses(token, username) for row in extract_following(page)]))
"""

RESEARCHTIKPYS_FRAME = """
from researchtikpy import get_following
from researchtikpy.get_access_token import get_access_token
frame = get_following([username], get_access_token(key, secret)["access_token"], verbose=False)
print(json.dumps(frame[["display_name", "username"]].to_dict("records")))
"""

PYTHON_CLIENTS = {
    "requests": "import requests\ncollect(lambda url, **options: requests.post(url, **options).json())",
    "requests without trust_env": UNTRUSTING,
    "requests that pins certifi": (
        "import certifi, requests\n"
        "collect(lambda url, **options: requests.post(url, verify=certifi.where(), **options).json())"
    ),
    "httpx": "import httpx\ncollect(lambda url, **options: httpx.post(url, **options).json())",
    "httpx without trust_env": (
        "import httpx\ncollect(lambda url, **options: httpx.post(url, trust_env=False, **options).json())"
    ),
    "httpx's asynchronous client without trust_env": HTTPX_ASYNC,
    "urllib": URLLIB,
    "aiohttp": AIOHTTP,
    "TikTok's own wrapper": TIKTOKS_OWN,
    "ResearchTikPy": RESEARCHTIKPY,
    "ResearchTikPy's data frame": RESEARCHTIKPYS_FRAME,
}


@pytest.mark.parametrize("client", PYTHON_CLIENTS)
def test_python_clients_collect_whole_lists(given: Given, client: str, within: tuple[str, ...]) -> None:
    """Each gets every row once, in order, wherever it looks for proxies and authorities."""
    done = given.run(sys.executable, "-c", COLLECT + PYTHON_CLIENTS[client], within=within)

    assert 0 == done.returncode, done.stderr
    assert given.rows == json.loads(done.stdout)
    assert f"5 requests, 0 refusals, {len(given.rows)} rows" in done.stderr


def in_the_page(language: str) -> str:
    """The script in a language that docs/run.md shows."""
    return (ROOT / "docs" / "run.md").read_text().split(f"```{language}\n")[1].split("```")[0]


def test_the_curl_script_of_the_page(given: Given, curl: str, within: tuple[str, ...]) -> None:
    """The script of docs/run.md prints the whole list, page by page."""
    done = given.run("bash", "-euc", in_the_page("bash"), within=within)

    pages = [json.loads(line) for line in done.stdout.splitlines()]
    assert [100, 100, 100, len(given.rows) - 300] == [len(page["data"]["user_following"]) for page in pages]
    assert given.rows == [row for page in pages for row in page["data"]["user_following"]]


@pytest.mark.skipif(not is_allowed("unshare", "-Urn", "true"), reason="the system allows no network namespace")
def test_programs_with_the_trust_of_the_system_are_intercepted(given: Given, wget: str) -> None:
    """The system's file of authorities includes the one of this run, as R and wget need it."""
    script = f"{wget} -qO- --content-on-error --post-data=x=1 https://open.tiktokapis.com/v2/oauth/token/"
    assert '{"error":"invalid_request"' in given.run("sh", "-c", script).stdout


def test_the_node_script_of_the_page(given: Given, tmp_path: Path, within: tuple[str, ...]) -> None:
    """Node's fetch, which obeys no proxy, gets the whole list too."""
    (tmp_path / "pages.mjs").write_text(in_the_page("js"))

    done = given.run(NODE, tmp_path / "pages.mjs", within=within)

    assert given.rows == [row for line in done.stdout.splitlines() for row in json.loads(line)], done.stderr


@pytest.mark.parametrize(
    "connecting",
    [
        'tls.connect({ host: "open.tiktokapis.com", port: 443 }, report)',
        'tls.connect(443, "platform.tiktokapis.com", { servername: "platform.tiktokapis.com" }, report)',
        'https.get("https://open-platform.tiktokapis.com/v2/", report)',
        'new net.Socket().connect(443, "open.tiktokapis.com", report)',
    ],
)
def test_every_node_client_is_intercepted(given: Given, connecting: str) -> None:
    """All of them end at one method of sockets."""
    script = f"function report() {{ console.log('connected'); process.exit(); }}\n{connecting};"
    assert "connected\n" == given.run(NODE, "-e", script).stdout


def test_plain_proxy_requests_are_refused(given: Given) -> None:
    """As axios asks for https addresses; the connection ends with the answer."""
    script = """
import http.client, os
connection = http.client.HTTPConnection(os.environ["https_proxy"].removeprefix("http://"))
connection.request("POST", "https://open.tiktokapis.com/v2/oauth/token/", b"{}", {"Proxy-Connection": "keep-alive"})
answer = connection.getresponse()
print(answer.status, answer.read().decode(), answer.will_close)
"""
    done = given.run(sys.executable, "-c", script)

    assert done.stdout.startswith('400 {"error":"invalid_request"'), done.stderr
    assert done.stdout.endswith("True\n")


# --- the sandbox ------------------------------------------------------------------------------------------------------


def test_a_sandbox_for_a_command_without_a_server(given: Given) -> None:
    """The command is told whom it accepts; its graph is the same each time."""
    done = run("--", sys.executable, "-c", COLLECT + PYTHON_CLIENTS["requests"])

    assert given.rows == json.loads(done.stdout)
    assert f"RETINUE_SAMPLE_USERNAME={given.username}\n" in done.stderr
    assert 1 == done.stderr.count("RETINUE_CLIENT_KEY=") == done.stderr.count("RETINUE_CLIENT_SECRET=")
    counts = f"retinue run: 5 requests, 0 refusals, {len(given.rows)} rows\n"
    assert done.stderr.endswith(f"{counts}retinue run:   {given.username}: complete\n")


def test_refusals_are_counted(given: Given) -> None:
    """They are answers with an error."""
    script = 'import requests; requests.post("https://open.tiktokapis.com/v2/research/user/following/")'
    assert "1 requests, 1 refusals, 0 rows" in given.run(sys.executable, "-c", script).stderr


def test_refusals_that_come_as_200_are_counted(retinue_server: LocalServer) -> None:
    """Of the token endpoint too, as TikTok's service sent them."""
    script = 'import requests; requests.post("https://open.tiktokapis.com/v2/oauth/token/", data={"client_key": "x"})'
    retinue_server.faults = Faults(token_errors_with_200=True)
    done = run("--server", retinue_server.url, "--", sys.executable, "-c", script)
    assert "1 requests, 1 refusals, 0 rows" in done.stderr


def test_tls_failures_are_counted(given: Given, curl: str) -> None:
    """By the proxy and without it."""
    for more in ("", "--noproxy '*'"):
        done = given.run("sh", "-c", f"curl -sS {more} --cacert {certifi.where()} https://open.tiktokapis.com/")
        assert "1 did not trust the certificate" in done.stderr


def test_a_script_that_ends_suddenly_is_not_reported(given: Given) -> None:
    """Its connections are closed without a word."""
    script = (
        "import os, requests\n"
        "requests.Session().post('https://open.tiktokapis.com/v2/oauth/token/', data={})\n"
        "os._exit(3)"
    )
    for _ in range(5):
        done = given.run(sys.executable, "-c", script)
        assert (done.returncode, "Traceback" in done.stderr) == (3, False), done.stderr


def test_a_run_leaves_no_files(given: Given, tmp_path: Path) -> None:
    """Neither authority nor graph outlives the run."""
    done = run("--", "sh", "-c", 'dirname "$SSL_CERT_FILE"', TMPDIR=str(tmp_path))

    assert str(tmp_path) == str(Path(done.stdout.strip()).parent)
    assert [] == list(tmp_path.iterdir())


# --- other hosts ------------------------------------------------------------------------------------------------------

OTHERS = {
    "curl": ["curl", "-sS", SHOWN_OTHER],
    "requests": [sys.executable, "-c", f"import requests; requests.get('{SHOWN_OTHER}')"],
    "aiohttp": [
        sys.executable,
        "-c",
        f"{AIOHTTP.replace('collect(post)', '')}\npost('{SHOWN_OTHER}')",
    ],
    "an address": [sys.executable, "-c", "import socket; socket.create_connection(('192.0.2.1', 443))"],
    "node": [str(NODE), "-e", f"fetch('{SHOWN_OTHER}').catch((error) => {{ console.error(error); process.exit(1); }})"],
}


@pytest.mark.parametrize("client", OTHERS)
def test_other_hosts_are_refused(given: Given, curl: str, client: str, within: tuple[str, ...]) -> None:
    """Whichever way a client looks for them, and it hears why."""
    done = given.run(*OTHERS[client], within=within)

    assert 0 != done.returncode
    assert re.search("response 403|Tunnel connection failed: 403|is blocked by retinue run", done.stderr)


def test_plain_http_to_tiktok_is_told_to_use_https(given: Given, curl: str) -> None:
    """And not to let the command reach TikTok itself, which would get the secret in clear text."""
    done = given.run(curl, "-sS", "http://open.tiktokapis.com/v2/oauth/token/", "-d", "client_secret=x")

    assert "open.tiktokapis.com is blocked by retinue run; only https leads to the server" in done.stdout


@pytest.mark.skipif(not is_allowed("unshare", "-Urn", "true"), reason="the system allows no network namespace")
def test_a_command_runs_in_its_own_network(given: Given, curl: str) -> None:
    """Without variables and hooks nothing is reached either, but for TikTok's names; the user is the same."""
    script = f"""
unset http_proxy https_proxy all_proxy HTTP_PROXY HTTPS_PROXY ALL_PROXY
curl -sS {SHOWN_OTHER} || echo no other
curl -sS {given.server.url} || echo no loopback
curl -sS https://open.tiktokapis.com/v2/ && id -u
"""
    done = given.run("sh", "-c", script)

    assert "other hosts are blocked: the command has a network of its own" in done.stderr
    assert ["no other", "no loopback"] == done.stdout.splitlines()[:2]
    assert done.stdout.endswith(f"}}{os.getuid()}\n")


def test_other_hosts_can_be_allowed(given: Given, curl: str, tmp_path: Path) -> None:
    """Then the proxy lets tunnels through, and the bundle has the authorities of this machine too."""
    script = f"""
curl -sS -p -x "$https_proxy" --noproxy "" {given.server.url}/v2/
curl -sS https://open.tiktokapis.com/v2/
echo
grep -c BEGIN "$SSL_CERT_FILE"
"""
    known = str(given_authority(tmp_path))
    done = run("--allow-network", "--server", given.server.url, "--", "sh", "-c", script, SSL_CERT_FILE=known)

    assert 2 == done.stdout.count("unsupported_path"), done.stderr
    assert done.stdout.endswith("\n2\n")
    assert "other hosts may be reached" in done.stderr


def test_a_client_that_does_not_trust_the_authority(given: Given, curl: str, tmp_path: Path) -> None:
    """Fails as it should, and the summary says what may be the matter."""
    done = given.run(curl, "-sS", "--cacert", given_authority(tmp_path), "https://open.tiktokapis.com/v2/")

    assert 60 == done.returncode
    assert "1 did not trust the certificate" in done.stderr


def given_authority(folder: Path) -> Path:
    """The certificate of another authority."""
    trustme.CA().cert_pem.write_to_path(folder / "other.pem")
    return folder / "other.pem"


# --- the command ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "code"),
    [("exit 0", 0), ("exit 7", 7), ("kill -KILL $$", 128 + 9), ("kill -TERM $$", 128 + 15), ("kill -INT $$", 130)],
)
def test_exit_codes_are_passed_on(given: Given, command: str, code: int, within: tuple[str, ...]) -> None:
    """As a shell would see them."""
    assert code == given.run("sh", "-c", command, within=within).returncode


def test_commands_that_cannot_be_run(given: Given, tmp_path: Path) -> None:
    """127 for one that is not there, 126 for one that is no program, with a sentence."""
    (tmp_path / "text").write_text("no program")
    absent, text = given.run("no-such-command"), given.run(tmp_path / "text")

    assert (127, 126) == (absent.returncode, text.returncode)
    assert "retinue run: no-such-command: cannot be run: No such file or directory\n" in absent.stderr
    assert f"retinue run: {tmp_path}/text: cannot be run: Permission denied\n" in text.stderr
    nameless = given.run("")
    assert (127, "Traceback" in nameless.stderr) == (nameless.returncode, False)
    assert "retinue run: : cannot be run: a program has a name\n" in nameless.stderr


@pytest.mark.parametrize("errors", ["2>/dev/full", "2> >(head -c 1 >/dev/null)", "2>&-"])
def test_an_unread_runner_output_stops_nothing(given: Given, errors: str) -> None:
    """The command runs, and its exit code is passed on."""
    shown = " ".join(running.command_of("run", "--server", given.server.url, "--", "sh", "-c", "'sleep 0.5; exit 7'"))
    done = subprocess.run(["bash", "-c", f"{shown} {errors}"], env=environment(), check=False)

    assert 7 == done.returncode


def test_ctrl_c_before_the_command_begins_is_no_traceback(given: Given) -> None:
    """Whenever it comes: to the launcher and to the runner."""
    for step in range(12):
        command = running.command_of("run", "--server", given.server.url, "--", "sleep", "5")
        with subprocess.Popen(
            command, env=environment(), stderr=subprocess.PIPE, text=True, process_group=0
        ) as process:
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
            while not children.read_text():
                time.sleep(0.001)
            time.sleep(0.008 * step)
            os.killpg(process.pid, signal.SIGINT)
            assert process.stderr is not None
            said = process.stderr.read()
        assert (130, "") == (process.returncode, said if "Traceback" in said else "")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ([], "Missing argument 'COMMAND...'"),
        (
            ["--server", "http://127.0.0.1:1", "true"],
            "--server (or RETINUE_SERVER) http://127.0.0.1:1: cannot be reached: Connection refused",
        ),
        (["--server", "here", "true"], "--server here: expected http://HOST:PORT or https://HOST:PORT"),
        (["--server", "http://a/v2", "true"], "--server http://a/v2: expected http"),
        (["--server", "http://a:b", "true"], "--server http://a:b: expected http"),
    ],
)
def test_impossible_runs_are_reported(arguments: list[str], reason: str) -> None:
    """In a line, with exit code 2."""
    done = run(*arguments)

    assert 2 == done.returncode
    assert reason in done.stderr


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1])
def test_signals_are_passed_on(given: Given, sent: signal.Signals) -> None:
    """A command may end in its own way."""
    script = "trap 'echo heard; exit 3' TERM INT HUP USR1; echo ready; while :; do sleep 0.05; done"
    command = running.command_of("run", "--server", given.server.url, "--", "sh", "-c", script)
    with subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert "ready\n" == process.stdout.readline()
        process.send_signal(sent)

        assert "heard\n" == process.stdout.read()
    assert 3 == process.returncode


def test_no_thread_of_the_runner_takes_signals() -> None:
    """One that did, of whatever library, would now and then end the runner in the command's place."""
    # The first thread waits for them, and so does not count.
    script = "for each in /proc/$PPID/task/*; do [ ${each##*/} = $PPID ] || grep SigBlk $each/status; done"
    masks = [int(line.split()[1], 16) for line in run("--", "sh", "-c", script).stdout.splitlines()]

    held = sum(1 << each - 1 for each in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1))
    assert masks
    assert {held} == {mask & held for mask in masks}


def test_terminal_signals_arrive_once(given: Given) -> None:
    """Ctrl-C goes to the command and to its runner; only the first counts."""
    script = "trap 'echo heard' INT; echo ready; for _ in 1 2 3 4 5 6 7 8 9 10; do sleep 0.1; done; echo done"
    command = running.command_of("run", "--server", given.server.url, "--", "sh", "-c", script)
    terminal, its = pty.openpty()
    streams: dict[str, Any] = {"stdin": its, "stdout": its, "stderr": its}
    shown = b""
    with subprocess.Popen(["setsid", "--ctty", *command], env=environment(), **streams) as process:
        os.close(its)
        with suppress(OSError):  # how a terminal ends that nobody else has open any more
            while b"ready" not in shown:
                shown += os.read(terminal, 1000)
            os.write(terminal, b"\x03")
            while True:
                shown += os.read(terminal, 1000)
    os.close(terminal)

    assert (0, 1) == (process.returncode, shown.count(b"heard")), shown


def test_the_streams_are_the_commands_own(given: Given) -> None:
    """Input goes in, output comes out as it is, also to descriptors that a shell has opened."""
    done = run("--server", given.server.url, "cat", given_input="\0 as\tit is\n")
    assert "\0 as\tit is\n" == done.stdout

    command = " ".join(running.command_of("run", "--server", given.server.url, "--", "cat", "<(echo opened)"))
    shown = subprocess.run(["bash", "-c", command], env=environment(), capture_output=True, text=True, check=False)
    assert "opened\n" == shown.stdout


def test_existing_hooks_still_run(given: Given, tmp_path: Path) -> None:
    """A `sitecustomize`, and what Node was to load."""
    (tmp_path / "sitecustomize.py").write_text("print('mine')")
    (tmp_path / "mine.cjs").write_text("console.log('mine')")
    path = f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"
    script = "import sitecustomize as mine; print(mine.__file__)"

    python = given.run(sys.executable, "-c", script, PYTHONPATH=path)
    node = given.run(NODE, "-e", "0", NODE_OPTIONS=f"--require {tmp_path}/mine.cjs")

    assert python.stdout.endswith(f"mine\n{tmp_path}/sitecustomize.py\n")
    assert "mine\n" == node.stdout


def test_a_server_behind_tls(given: Given, tmp_path: Path) -> None:
    """A certificate that this machine trusts is enough; with another one the client hears what is wrong."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "authority.pem")
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(tmp_path / "server.pem")
    (tmp_path / "server.pem").chmod(0o600)
    tls = ("--tls-cert", tmp_path / "server.pem", "--tls-key", tmp_path / "server.pem")
    script = "import requests; print(requests.get('https://open.tiktokapis.com/v2/').text)"
    with running.running_server(given.server.store, *tls) as server:
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
