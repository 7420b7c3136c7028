"""Other people's clients, unmodified, when a server refuses: some repeat requests at once and without end.

Each client runs in a process of its own, which is led to the server under TikTok's name as in
`test_foreign_clients.py` and says as JSON lines what was asked and answered. The audit log has the requests.
"""

import asyncio
import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import trustme

from retinue.model import FollowRecord
from retinue.store.open import open_store
from running import Client, retinue, running_server
from support.frozen_clock import FrozenClock
from support.service import problems_of

NOW = 1_700_000_000
NAMES = [f"f{number}" for number in range(620)]
PAGE, PAGES = 100, 7
ALLOWED, ENOUGH, SECONDS = 2, 500, 120.0
ANSWER = ("endpoint", "status", "code")
SPENT, TOO_FAST, KEPT_OUT = "daily_quota_limit_exceeded", "rate_limit_exceeded", "access_token_invalid"
NO_TOKEN = 'Exception: Failed to obtain access token: {"error":"invalid_client",'
HTTP_401 = "requests.exceptions.HTTPError: 401 Client Error: Unauthorized for url: https://open.tiktokapis.com/"

# The packages are as they are; the name resolution beneath them is ours, and each answer is noted on its way to them.
PREAMBLE = """
import json, socket, sys
from requests.adapters import HTTPAdapter
port, key, secret = sys.argv[1:]
def say(**facts):
    print(json.dumps(facts), flush=True)
def getaddrinfo(host, service, *rest, real=socket.getaddrinfo, **named):
    assert host == "open.tiktokapis.com", f"{host!r} is not to be asked"
    return real("127.0.0.1", int(port), *rest, **named)
def send(adapter, request, *rest, real=HTTPAdapter.send, **named):
    answer = real(adapter, request, *rest, **named)
    error = answer.json().get("error")
    code = error["code"] if isinstance(error, dict) else error
    body = request.body if isinstance(request.body, str) else request.body.decode()
    wait = answer.headers.get("Retry-After")
    say(path=request.path_url, body=body, status=answer.status_code, code=code, wait=wait)
    return answer
socket.getaddrinfo, HTTPAdapter.send = getaddrinfo, send
"""
# ResearchTikPy collects a list for each line that comes, TikTok's wrapper one after the other until it gets none.
RESEARCHTIKPY = """
from researchtikpy import DIRECTION
from researchtikpy.get_access_token import get_access_token

token = get_access_token(key, secret)["access_token"]
for _ in sys.stdin:
    say(rows=list(DIRECTION(["p"], token, verbose=False)["username"]))
"""
GET_FOLLOWERS = RESEARCHTIKPY.replace("DIRECTION", "get_followers")
GET_FOLLOWING = RESEARCHTIKPY.replace("DIRECTION", "get_following")
WRAPPER = """
from tiktok_research_api import QueryUserFollowingRequest, TikTokResearchAPI

api = TikTokResearchAPI(key, secret)
rows = [None]
while rows:
    rows, *rest = api.query_user_following(QueryUserFollowingRequest("p", max_count=100), fetch_all_pages=True)
    say(rows=[row["username"] for row in rows], rest=rest)
"""


@dataclass(frozen=True)
class Child:
    """A process with a foreign client in it, and the files that it writes."""

    client: Client
    process: subprocess.Popen[str]
    output: Path
    errors: Path

    def said(self, fact: str) -> list[dict[str, Any]]:
        """The lines with a fact of that name, up to now."""
        complete = self.output.read_bytes().rpartition(b"\n")[0].splitlines()
        return [line for line in map(json.loads, complete) if fact in line]

    def heard(self, code: str) -> list[dict[str, Any]]:
        """The requests for lists that were answered with that code, up to now."""
        return [line for line in self.said("path") if line["code"] == code]

    def runs(self) -> list[tuple[str, int]]:
        """The codes of the answers with lists or refusals, each with how often it came without another between."""
        codes = [line["code"] for line in self.said("path") if "oauth" not in line["path"]]
        return [(code, len(list(same))) for code, same in groupby(codes)]

    def lists(self) -> list[list[str]]:
        """Return each list that the client collected."""
        return [line["rows"] for line in self.said("rows")]

    def wait_for(self, condition: Callable[[], bool]) -> None:
        """Come back as soon as the condition holds."""
        end = time.monotonic() + SECONDS
        while not condition():
            assert time.monotonic() < end, self.errors.read_text()
            time.sleep(0.02)

    def ask(self) -> None:
        """Have it collect a list."""
        print(file=self.process.stdin, flush=True)

    def collect(self) -> int:
        """Have it collect a list, and wait until it is there; how many it has then."""
        before = len(self.lists())
        self.ask()
        self.wait_for(lambda: len(self.lists()) > before)
        return len(self.lists())

    def ended(self) -> int:
        """Its exit code, when nothing more is asked of it."""
        self.process.communicate(timeout=SECONDS)
        return self.process.returncode


class TlsService:
    """A store in which `p` has two lists of the same names, its server, and its clients."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.store, self.port = folder, folder / "graph.db", 0
        pairs = [(number, pair) for number, name in enumerate(NAMES) for pair in (("p", name), (name, "p"))]
        open_store(str(self.store)).create()
        with closing(open_store(str(self.store)).writer(FrozenClock())) as writer:
            asyncio.run(writer.add_follows([FollowRecord(*pair, NOW - number, NOW) for number, pair in pairs]))

    @contextmanager
    def served(self) -> Iterator[None]:
        """Its server runs, with a certificate for TikTok's name; not over midnight, when quotas are whole again."""
        authority, pem = trustme.CA(), self.folder / "server.pem"
        authority.cert_pem.write_to_path(self.folder / "authority.pem")
        authority.issue_cert("open.tiktokapis.com").private_key_and_cert_chain_pem.write_to_path(pem)
        pem.chmod(0o600)
        left = 86_400 - time.time() % 86_400
        time.sleep(left if left < SECONDS else 0)
        with running_server(self.store, "--tls-cert", pem, "--tls-key", pem) as server:
            self.port = urlsplit(server.base_url).port or 0
            yield
        assert problems_of(self.store) == []

    def registered(self, *quota: str) -> Client:
        """A new client."""
        made = json.loads(retinue("client", "create", "--store", self.store, "--name", "n", "--json", *quota))
        return Client(made["client_key"], made["client_secret"])

    def used(self, client: Client) -> tuple[int, int]:
        """The calls for lists and the rows that a client has used today."""
        used = json.loads(retinue("client", "show", client.key, "--store", self.store, "--json"))["used_today"]
        return used["list_calls"], used["list_rows"]

    @contextmanager
    def running(self, script: str, client: Client) -> Iterator[Child]:
        """Run a script that collects a list as a client, until the end of the block."""
        output, errors = (self.folder / f"{client.key}.{name}" for name in ("out", "err"))
        command = [sys.executable, "-c", PREAMBLE + script, str(self.port), client.key, client.secret]
        env = os.environ | {"REQUESTS_CA_BUNDLE": str(self.folder / "authority.pem"), "NO_PROXY": "*"}
        with output.open("wb") as out, errors.open("wb") as err:
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=out, stderr=err, env=env, text=True)
        with process:
            try:
                child = Child(client, process, output, errors)
                child.ask()
                yield child
            finally:
                process.kill()

    def seen(self, *facts: str) -> list[tuple[Any, ...]]:
        """Facts of each request in the audit log, but for those whose client was killed before the answer was there."""
        files = sorted(self.store.with_suffix(".audit").glob("*.jsonl"))
        records = [json.loads(line) for path in files for line in path.read_text().splitlines()]
        requests = [record for record in records if record["code"] != "client_gone"]
        return [tuple(map(each.get, facts or ANSWER)) for each in requests for _ in range(each.get("summed", 1))]


@pytest.fixture
def tls_service(tmp_path: Path) -> TlsService:
    """A service for one test."""
    return TlsService(tmp_path)


@pytest.fixture(scope="module")
def hammering(tmp_path_factory: pytest.TempPathFactory) -> tuple[TlsService, Child, Child]:
    """While a hot client is refused hundreds of times, a calm one collects lists, one after the other."""
    tls_service = TlsService(tmp_path_factory.mktemp("hammering"))
    client, other = tls_service.registered("--list-calls", str(ALLOWED)), tls_service.registered()
    with tls_service.served(), tls_service.running(GET_FOLLOWERS, client) as hot:
        hot.wait_for(lambda: bool(hot.heard(SPENT)))
        with tls_service.running(GET_FOLLOWERS, other) as calm:
            calm.collect()
            enough = len(hot.heard(SPENT)) + ENOUGH
            hot.wait_for(lambda: calm.collect() > 0 and len(hot.heard(SPENT)) >= enough)
            calm.collect()
            assert 0 == calm.ended()
        assert hot.process.poll() is None
    return tls_service, hot, calm


def test_a_spent_quota_gives_its_pages_and_then_refusals_alone(hammering: tuple[TlsService, Child, Child]) -> None:
    """`get_followers` gets exactly as many pages as its quota has calls, then 429 without end."""
    _, hot, _ = hammering
    answered, (code, refusals) = hot.runs()

    assert (("ok", ALLOWED), SPENT) == (answered, code)
    assert refusals >= ENOUGH
    assert {(429, None)} == {(line["status"], line["wait"]) for line in hot.heard(SPENT)}


def test_the_same_request_is_repeated(hammering: tuple[TlsService, Child, Child]) -> None:
    """`get_followers` sends what was refused again and again: same endpoint, same body."""
    _, hot, _ = hammering
    [(path, body)] = {(line["path"], line["body"]) for line in hot.heard(SPENT)}

    assert "/v2/research/user/followers/" == path
    assert {"username": "p", "max_count": PAGE, "cursor": NOW - ALLOWED * PAGE} == json.loads(body)


def test_the_audit_log_has_every_refusal(hammering: tuple[TlsService, Child, Child]) -> None:
    """The server saw what the client sent, and recorded each refusal with its client and without a row."""
    tls_service, hot, _ = hammering
    seen, key = Counter(tls_service.seen("client", "endpoint", "code", "rows")), hot.client.key
    refusals = seen.pop((key, "followers", SPENT, None))

    assert refusals - len(hot.heard(SPENT)) in {0, 1}  # the client may have been killed before it said the last
    others = {facts: count for facts, count in seen.items() if facts[0] == key}
    assert {(key, "token", "ok", None): 1, (key, "followers", "ok", PAGE): ALLOWED} == others


def test_refusals_are_not_counted(hammering: tuple[TlsService, Child, Child]) -> None:
    """After hundreds of refusals the client has used the calls and rows that it was given, and no more."""
    tls_service, hot, _ = hammering
    usage = json.loads(retinue("audit", "usage", "--store", tls_service.store, "--json"))
    answered = {line["client"]: (line["answered"], line["rows"]) for line in usage}

    assert (ALLOWED, ALLOWED * PAGE) == tls_service.used(hot.client)
    assert (1 + ALLOWED, ALLOWED * PAGE) == answered[hot.client.key]  # a token, too, is an answer


def test_another_client_is_answered_meanwhile(hammering: tuple[TlsService, Child, Child]) -> None:
    """Between hundreds of refusals of the one, the other gets 200 for every request and complete lists."""
    tls_service, hot, calm = hammering
    lists, seen = calm.lists(), tls_service.seen("client", "status", "code", "time", "since")
    assert [NAMES] * len(lists) == lists
    assert [("ok", PAGES * len(lists))] == calm.runs()

    answers = [each for each in seen if each[0] == calm.client.key]
    assert {(calm.client.key, 200, "ok")} == {each[:3] for each in answers}
    first, last = answers[0][3], answers[-1][3]
    refusals = [each for each in seen if each[:3] == (hot.client.key, 429, SPENT)]
    assert ENOUGH <= sum(first <= time and (since or time) <= last for *_, time, since in refusals)


def test_a_suspended_client_goes_on_when_it_is_resumed(tls_service: TlsService) -> None:
    """`get_followers` hears 401 alone while it is kept out; let in again, the same process completes its list."""
    client = tls_service.registered("--list-calls", str(ALLOWED))
    with tls_service.served(), tls_service.running(GET_FOLLOWERS, client) as child:
        child.wait_for(lambda: bool(child.heard(SPENT)))
        retinue("client", "suspend", client.key, "--store", tls_service.store)
        child.wait_for(lambda: len(child.heard(KEPT_OUT)) >= ENOUGH)
        retinue("client", "change", client.key, "--store", tls_service.store, "--list-calls", "none")
        retinue("client", "resume", client.key, "--store", tls_service.store)
        assert 0 == child.ended()

    first, spent, kept_out, rest = child.runs()
    assert (("ok", ALLOWED), SPENT, KEPT_OUT, ("ok", PAGES - ALLOWED)) == (first, spent[0], kept_out[0], rest)
    assert [NAMES] == child.lists()
    assert {(401, None)} == {(line["status"], line["wait"]) for line in child.heard(KEPT_OUT)}
    assert len(child.heard(KEPT_OUT)) == tls_service.seen().count(("followers", 401, KEPT_OUT))
    assert (PAGES, len(NAMES)) == tls_service.used(client)


def test_get_following_sleeps_when_it_is_refused(tls_service: TlsService) -> None:
    """`get_following` sends one request after its quota is spent, and seconds later it still sleeps."""
    client = tls_service.registered("--list-calls", str(ALLOWED))
    with tls_service.served(), tls_service.running(GET_FOLLOWING, client) as child:
        child.wait_for(lambda: bool(child.heard(SPENT)))
        with pytest.raises(subprocess.TimeoutExpired):
            child.process.wait(3)

    assert [
        ("token", 200, "ok"),
        *[("following", 200, "ok")] * ALLOWED,
        ("following", 429, SPENT),
    ] == tls_service.seen()


def test_the_short_term_limit_says_how_long_to_wait(tls_service: TlsService) -> None:
    """Five calls a minute are answered, more get 429 with a Retry-After of 1 to 60, which `get_followers` ignores."""
    client = tls_service.registered("--rate", "5/60")
    with tls_service.served(), tls_service.running(GET_FOLLOWERS, client) as child:
        child.wait_for(lambda: len(child.heard(TOO_FAST)) >= 100)

    answered, (code, _) = child.runs()
    assert (("ok", 5), TOO_FAST) == (answered, code)
    assert all(line["status"] == 429 and 1 <= int(line["wait"]) <= 60 for line in child.heard(TOO_FAST))
    assert (5, 5 * PAGE) == tls_service.used(client)


def given_up(child: Child, code: str) -> None:
    """The wrapper got whole lists, then one refusal, for which it gave an empty result and logged the code."""
    assert 0 == child.ended()
    (answered, pages), refused = child.runs()
    assert ("ok", (code, 1)) == (answered, refused)
    assert [*[NAMES] * (pages // PAGES), []] == child.lists()
    assert [None, False] == child.said("rows")[-1]["rest"]
    assert f"API call error: {code}: " in child.errors.read_text()


def test_tiktoks_wrapper_gives_up_when_the_quota_is_spent(tls_service: TlsService) -> None:
    """Its second list ends with one refused request, and the pages of it are lost."""
    client = tls_service.registered("--list-calls", str(PAGES + 2))
    with tls_service.served(), tls_service.running(WRAPPER, client) as child:
        given_up(child, SPENT)

    assert [
        ("token", 200, "ok"),
        *[("following", 200, "ok")] * (PAGES + 2),
        ("following", 429, SPENT),
    ] == tls_service.seen()


def test_tiktoks_wrapper_gives_up_when_suspended(tls_service: TlsService) -> None:
    """Suspended, it makes one request that is refused, and fetches no other token."""
    client = tls_service.registered()
    with tls_service.served(), tls_service.running(WRAPPER, client) as child:
        child.wait_for(lambda: bool(child.said("rows")))
        retinue("client", "suspend", client.key, "--store", tls_service.store)
        given_up(child, KEPT_OUT)

    token, *pages, last = tls_service.seen()
    assert (("token", 200, "ok"), ("following", 401, KEPT_OUT)) == (token, last)
    assert {("following", 200, "ok")} == set(pages)


@pytest.mark.parametrize(("script", "words"), [(GET_FOLLOWERS, NO_TOKEN), (WRAPPER, HTTP_401)], ids=["RTP", "wrapper"])
def test_a_wrong_secret_ends_either_client(tls_service: TlsService, script: str, words: str) -> None:
    """Both raise at the one token request that they make, ResearchTikPy with our words, the wrapper with the status."""
    client = tls_service.registered()
    with tls_service.served(), tls_service.running(script, Client(client.key, "wrong")) as child:
        assert 1 == child.ended()

    assert child.errors.read_text().splitlines()[-1].startswith(words)
    assert [("token", 401, "invalid_client")] == tls_service.seen()
