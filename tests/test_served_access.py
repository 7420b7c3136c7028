"""Access of a running server: the audit log through kills and stops, clients, metrics and the clock of operators."""

import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import IO, Any

import pytest

from retinue.store.open import open_store
from running import Client, Server, running_server
from support.commands import retinue
from support.management import asked, token_path
from support.served import (
    answer_on,
    answers,
    audit,
    checkpoint_count,
    connected,
    exchange,
    metrics,
    pages_written,
    posted,
    records,
    token_of,
)
from support.service import FOLLOWING
from support.waiting import waiting_for, waiting_until_read

TOKEN = "/v2/oauth/token/"
REVOKE = "/v2/oauth/revoke/"


def managed(server: Server, store: Path, path: str, body: Any = None, method: str = "POST") -> tuple[int, Any]:
    """Status and JSON of an answer of the management listener, with the token."""
    content = None if body is None else json.dumps(body)
    status, _, answer = asked(server.management_url, path, content, token_path(store).read_text().strip(), method)
    return status, answer


# Audit


def test_a_stop_loses_no_record(list_store: Path, client: Client) -> None:
    """Every answer of every worker, up to the very last, is in the log; `show` finds each by its log_id."""
    with running_server(list_store, "--workers", "3") as server:
        token = token_of(server, client)
        answers = [posted(server, FOLLOWING, '{"username":"p"}', token) for _ in range(300)]
        answers += [exchange(server, b"nonsense\r\n\r\n"), exchange(server, b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n")]

    log_ids = {headers["x-tt-logid"] for _, headers, _ in answers}
    assert log_ids <= {record["log_id"] for record in records(list_store)}
    assert (0, "303 records, as they were written\n") == audit(list_store, "verify")
    for _, headers, body in (answers[0], *answers[-2:]):
        code, shown = audit(list_store, "show", headers["x-tt-logid"])
        assert (0, body["error"]["code"]) == (code, json.loads(shown)["code"])
    code, shown = audit(list_store, "usage", "--json")
    assert [(client.key, 301, 301, 6000), ("", 2, 0, 0)] == sorted(
        ((row["client"], row["requests"], row["answered"], row["rows"]) for row in json.loads(shown)), reverse=True
    )


def test_kills_lose_only_requests_in_flight_and_are_visible(list_store: Path, client: Client) -> None:
    """The chain is whole after kills of workers and coordinator, and has all records written before."""
    with running_server(list_store, "--workers", "2") as server:
        token = token_of(server, client)
        for _ in range(4):
            written = pages_written(list_store)
            for _ in range(60):
                assert 200 == posted(server, FOLLOWING, '{"username":"p"}', token)[0]
            waiting_for(partial(are_written, list_store, written + 60))
            for _ in range(5):  # these may be lost
                assert 200 == posted(server, FOLLOWING, '{"username":"p"}', token)[0]
            for pid, role in server.processes().items():
                if role != "supervisor":
                    os.kill(pid, signal.SIGKILL)
            waiting_for(
                lambda: sorted(server.processes().values()) == ["coordinator", "supervisor", "worker", "worker"]
            )
        waiting_for(lambda: answers(server, token))
    code, told = audit(list_store, "verify")
    assert ((0, 3)["LOST" in told], True) == (code, "as they were written" in told)
    assert 240 <= pages_written(list_store)


def are_written(store: Path, pages: int) -> bool:
    """Whether the log has so many requests for following lists."""
    return pages_written(store) >= pages


SLOW_COORDINATOR = """
import sys, time
if "retinue.serving.coordinator" in sys.orig_argv:
    time.sleep(2)
"""


def test_a_stop_while_the_coordinator_starts_loses_no_record(
    list_store: Path, client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may take longer to start than the server lives; then it takes the records and ends."""
    (tmp_path / "hook").mkdir()
    (tmp_path / "hook" / "sitecustomize.py").write_text(SLOW_COORDINATOR)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "hook"))
    with running_server(list_store) as server:
        assert 200 == posted(server, FOLLOWING, '{"username":"p"}', token_of(server, client))[0]
    assert (0, "2 records, as they were written\n") == audit(list_store, "verify")


def test_a_stop_without_a_coordinator_loses_no_record(list_store: Path, client: Client) -> None:
    """One that ended a few times is waited for a while; there is one at the end all the same."""
    with running_server(list_store) as server:
        token = token_of(server, client)
        for _ in range(5):
            waiting_for(lambda: coordinators_of(server))
            (coordinator,) = coordinators_of(server)
            os.kill(coordinator, signal.SIGKILL)
            waiting_for(partial(is_gone, server, coordinator))
        assert 200 == posted(server, FOLLOWING, '{"username":"p"}', token)[0]
    assert (0, "2 records, as they were written\n") == audit(list_store, "verify")


def is_gone(server: Server, process: int) -> bool:
    """Whether a process of a server has ended and is no child any more."""
    return process not in server.processes()


def coordinators_of(server: Server) -> list[int]:
    """Return the coordinator's process, if there is one."""
    return [pid for pid, role in server.processes().items() if role == "coordinator"]


def test_a_killed_server_is_not_reported_as_tampering(list_store: Path, client: Client) -> None:
    """The log records the kill; a change is still found, and after the next stop the log is closed."""
    with running_server(list_store) as server:
        assert 200 == posted(server, FOLLOWING, '{"username":"p"}', token_of(server, client))[0]
        waiting_for(lambda: checkpoint_count(list_store) == 2)
        for pid in server.processes():
            os.kill(pid, signal.SIGKILL)
    path = next(list_store.with_suffix(".audit").glob("*.jsonl"))
    torn = path.read_bytes() + b'{"n":3,"time":17'
    path.write_bytes(torn)
    code, told = audit(list_store, "verify")
    assert (0, True) == (code, "the last line is unfinished; the server was killed or its disk was full" in told)
    path.write_bytes(torn.replace(b'"rows":20', b'"rows":21'))
    code, told = audit(list_store, "verify")
    assert (1, True) == (code, f"PROBLEM  {path.name}, line 2: record 2 or an earlier one was changed" in told)
    path.write_bytes(torn)

    with running_server(list_store) as server:
        assert 200 == posted(server, FOLLOWING, '{"username":"p"}', token_of(server, client))[0]
    assert (0, "5 records, as they were written\n") == audit(list_store, "verify")
    path.unlink()
    assert 1 == audit(list_store, "verify")[0]


def test_responses_of_a_dying_server_are_recorded(list_store: Path, client: Client) -> None:
    """The coordinator outlives the killed supervisor until the workers have finished."""
    wrong = f"client_key={client.key}&client_secret=wrong&grant_type=client_credentials"
    request = f"POST {TOKEN} HTTP/1.1\r\nContent-Length: {len(wrong)}\r\n\r\n{wrong}".encode()
    with running_server(list_store, "--workers", "2") as server, ExitStack() as opened:
        children = [pid for pid, role in server.processes().items() if role != "supervisor"]
        asking = [opened.enter_context(connected(server)) for _ in range(10)]
        for connection in asking:
            connection.sendall(request)
        for connection in asking:  # the answer to a wrong secret takes longer
            waiting_until_read(connection)
        os.kill(server.pid, signal.SIGKILL)
        answers = [answer_on(connection) for connection in asking]
        waiting_for(lambda: not any(Path(f"/proc/{child}").exists() for child in children))
    assert [401] * 10 == [status for status, _, _ in answers]
    assert {headers["x-tt-logid"] for _, headers, _ in answers} == {record["log_id"] for record in records(list_store)}
    assert (0, "10 records, as they were written\n") == audit(list_store, "verify")


def test_unfinished_requests_are_recorded(list_store: Path, client: Client) -> None:
    """A client that leaves, a broken body, a stop before the body arrives: each has a record or more.

    A list is refused for its missing token before the body arrives.
    """
    head = "POST {} HTTP/1.1\r\nHost: x\r\n{}\r\n\r\n"
    whole = head.format("/nowhere", "Content-Length: 0").encode()
    chunked = head.format(TOKEN, "Transfer-Encoding: chunked").encode() + b"zz\r\n"
    with running_server(list_store) as server:
        for path in (FOLLOWING, TOKEN):
            with connected(server) as connection:
                connection.sendall(head.format(path, "Content-Length: 50").encode() + b"x")
                waiting_until_read(connection)
        with connected(server) as connection:
            connection.sendall(whole)
            first = b""
            while not first.endswith(b"}}"):
                first += connection.recv(65536)
            connection.sendall(chunked)
            second = b"".join(iter(lambda: connection.recv(65536), b""))
        assert (b"HTTP/1.1 404 ", b"HTTP/1.1 400 ") == (first[:13], second[:13])
        with connected(server) as connection:
            connection.sendall(head.format(TOKEN, "Content-Length: 50").encode() + b"x")
            waiting_until_read(connection)
            os.kill(server.pid, signal.SIGTERM)
            stopped = b"".join(iter(lambda: connection.recv(65536), b""))
    assert stopped.startswith(b"HTTP/1.1 503 ")
    found = [(record["endpoint"], record["status"]) for record in records(list_store)]
    assert [("following", 401), ("none", 400), ("none", 404), ("token", 499), ("token", 499), ("token", 503)] == sorted(
        found
    )


def test_audit_commands_report_errors(list_store: Path, tmp_path: Path) -> None:
    """A log_id that is not there, a folder that is none, a store that is none."""
    assert (0, "0 records, as they were written\n") == audit(list_store, "verify")
    assert (2, f"retinue: log_id L: is not in the audit log of {list_store}\n") == audit(list_store, "show", "L")
    assert (2, "retinue: --audit-folder /none: does not exist\n") == audit(
        list_store, "verify", "--audit-folder", "/none"
    )
    assert 2 == audit(tmp_path / "none.db", "usage")[0]


# Management


def test_clients_are_managed_over_the_management_api(list_store: Path) -> None:
    """All that the command line does; the secret is in the answers to create and rotate alone."""
    with running_server(list_store) as server:
        status, made = managed(
            server, list_store, "/clients", {"name": "Lab", "list_calls": 3, "rate": {"calls": 9, "seconds": 5}}
        )
        assert 201 == status
        key, secret = made["client_key"], made.pop("client_secret")
        assert (200, made) == managed(server, list_store, f"/clients/{key}", method="GET")
        assert (200, [made]) == managed(server, list_store, "/clients", method="GET")
        token = token_of(server, Client(key, secret))
        assert 200 == posted(server, FOLLOWING, '{"username":"p"}', token)[0]
        _, usage = managed(server, list_store, "/usage", method="GET")
        assert {key: {"list_calls": 1, "list_rows": 20, "other_calls": 0}} == usage["clients"]
        status, changed = managed(server, list_store, f"/clients/{key}", {"contact": "c", "rate": None}, "PATCH")
        assert (200, "c", None, 3) == (status, changed["contact"], changed["rate"], changed["list_calls"])
        status, rotated = managed(server, list_store, f"/clients/{key}/rotate", {"grace_seconds": 0})
        assert 200 == status
        assert 401 == posted(server, TOKEN, f"client_key={key}&client_secret={secret}&grant_type=client_credentials")[0]
        assert token_of(server, Client(key, rotated["client_secret"]))
        for act, word in (("suspend", "suspended"), ("resume", "active"), ("revoke", "revoked")):
            status, answer = managed(server, list_store, f"/clients/{key}/{act}", {})
            assert (200, word) == (status, answer["status"])
        time.sleep(1)  # the promise
        assert 401 == posted(server, FOLLOWING, '{"username":"p"}', token)[0]
        managed(server, list_store, f"/clients/{secret}/revoke")
    assert not any(secret in json.dumps(record) for record in records(list_store))
    actions = [record["action"] for record in records(list_store) if record["endpoint"] == "management"]
    assert ["POST /clients", f"PATCH /clients/{key}", f"POST /clients/{key}/rotate"] == actions[:3]


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "words"),
    [
        ("POST", "/clients", {}, 400, "name: is missing"),
        ("POST", "/clients", {"name": ""}, 400, "name: is empty"),
        (
            "POST",
            "/clients",
            {"name": "x", "list_calls": "many"},
            400,
            "got `str` - at `$.list_calls`",
        ),
        ("POST", "/clients", {"name": "x", "unknown": 1}, 400, "unknown field `unknown`"),
        ("POST", "/clients", {"name": "x", "rate": {"calls": 0, "seconds": 1}}, 400, "rate: expected 1 to"),
        ("POST", "/clients", {"name": "x", "rate": {"calls": 1, "seconds": 1, "x": 1}}, 400, "unknown field `x`"),
        ("GET", "/clients/", None, 404, "Not Found"),
        ("GET", "/clients/nobody", None, 404, "client nobody: does not exist"),
        ("PATCH", "/clients/nobody", {"name": "x"}, 404, "client nobody: does not exist"),
        ("POST", "/clients/nobody/revoke", None, 404, "client nobody: does not exist"),
        ("DELETE", "/clients", None, 405, "Method Not Allowed"),
        ("POST", "/clock", {"advance": 5}, 404, "only `retinue serve --sandbox` has one to set"),
    ],
)
def test_bad_input_to_the_management_api_is_reported(
    served: tuple[Server, Path], method: str, path: str, body: Any, status: int, words: str
) -> None:
    """In JSON, with a code."""
    found, answer = managed(*served, path, body, method)

    assert status == found
    assert words in answer["error"]["message"]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Path]]:
    """A running server and its store."""
    list_store: Path = tmp_path_factory.mktemp("served") / "graph.db"
    open_store(str(list_store)).create()
    with running_server(list_store) as server:
        yield server, list_store


@pytest.mark.parametrize("path", ["/clients", "/clients/x", "/usage", "/metrics", "/clock"])
def test_management_requests_without_the_token_are_refused(served: tuple[Server, Path], path: str) -> None:
    """The public port does not serve these paths either."""
    server, list_store = served
    token = token_path(list_store).read_text().strip()

    assert 401 == asked(server.management_url, path, method="GET")[0]
    assert 401 == asked(server.management_url, path, token=token[:-1], method="GET")[0]
    assert 404 == asked(server.base_url, path, token=token, method="GET")[0]


def test_metrics_add_up_over_all_workers(list_store: Path) -> None:
    """Requests by endpoint and code, durations, rows, refusals for quotas, the store's size, the lag of events."""
    made = json.loads(
        retinue("client", "create", "--store", list_store, "--name", "x", "--list-calls", "5", "--json").stdout
    )
    with running_server(list_store, "--workers", "2") as server:
        token = token_of(server, Client(made["client_key"], made["client_secret"]))
        for _ in range(8):
            posted(server, FOLLOWING, '{"username":"p"}', token)
        posted(server, FOLLOWING, "", "nonsense")
        event = {"event": "follow", "follower": "x", "followee": "y", "at": int(time.time()) - 100}
        managed(server, list_store, "/events", event)
        spent = 'retinue_quota_refusals_total{code="daily_quota_limit_exceeded",endpoint="following"}'
        waiting_for(lambda: metrics(server, list_store).get(spent) == 3)
        found = metrics(server, list_store)
    assert 5 == found['retinue_requests_total{code="ok",endpoint="following"}']
    assert 1 == found['retinue_requests_total{code="access_token_invalid",endpoint="following"}']
    assert 100 == found['retinue_rows_total{endpoint="following"}']
    assert 9 == found['retinue_request_duration_seconds_count{endpoint="following"}']
    assert 9 == found['retinue_request_duration_seconds_bucket{endpoint="following",le="+Inf"}']
    assert 0 < found['retinue_request_duration_seconds_sum{endpoint="following"}'] < 5
    assert found['retinue_store_bytes{file="graph.db"}'] == list_store.stat().st_size
    assert 100 <= found["retinue_apply_lag_seconds"] < 110
    assert 11 <= found["retinue_audit_records"]


def test_ready_says_why_a_server_cannot_answer(list_store: Path) -> None:
    """A server whose store cannot be read is not ready."""
    with running_server(list_store) as server:
        assert 200 == asked(server.management_url, "/ready", method="GET")[0]
        hidden = list_store.rename(list_store.with_name("hidden.db"))
        status, _, answer = asked(server.management_url, "/ready", method="GET")
        assert (503, True) == (status, "there is no follow graph here" in answer["status"])
        assert 200 == asked(server.management_url, "/health", method="GET")[0]
        hidden.rename(list_store)
        assert 200 == asked(server.management_url, "/ready", method="GET")[0]


# The virtual clock


def test_a_sandbox_advances_the_clock_of_all_workers(list_store: Path) -> None:
    """Tokens expire, days begin, windows end, in every worker as soon as the call has returned."""
    now = int(time.time())
    flags = ["--list-calls", "2", "--not-after", str(now + 200_000)]
    made = json.loads(retinue("client", "create", "--store", list_store, "--name", "x", *flags, "--json").stdout)
    client = Client(made["client_key"], made["client_secret"])

    def statuses(token: str) -> set[int]:
        return {posted(server, FOLLOWING, '{"username":"p"}', token)[0] for _ in range(12)}

    with running_server(list_store, "--workers", "3", "--sandbox") as server:
        status, clock = managed(server, list_store, "/clock", method="GET")
        assert (200, True) == (status, clock["is_virtual"])
        token = token_of(server, client)
        assert {200, 429} == statuses(token)
        assert 200 == managed(server, list_store, "/clock", {"advance": 7200})[0]
        assert {401} == statuses(token)
        _, clock = managed(server, list_store, "/clock", method="GET")
        midnight = clock["now"] - clock["now"] % 86_400 + 86_400
        assert midnight <= managed(server, list_store, "/clock", {"now": midnight})[1]["now"] <= midnight + 2
        token = token_of(server, client)
        status, headers, _ = posted(server, FOLLOWING, '{"username":"p"}', token)
        assert (200, time.strftime("%Y%m%d", time.gmtime(midnight))) == (status, headers["x-tt-logid"][:8])
        managed(server, list_store, "/clock", {"now": now + 200_000})
        assert {401} == statuses(token)
        for body in ({"now": now}, {"advance": -1}, {}, {"now": 1, "advance": 1}, {"now": 10**15}, {"now": "x"}):
            assert 400 == managed(server, list_store, "/clock", body)[0]
    assert midnight <= max(record["time"] for record in records(list_store))


# Secrets


def test_no_secret_is_written_to_any_file(list_store: Path, client: Client, tmp_path: Path) -> None:
    """Secrets and tokens, right and wrong, in every place of a request, at the most talkative level: in no file."""
    log = tmp_path / "log.txt"
    wrong, misplaced = "wrong-secret-5f3a", "clt.misplaced-token-77"
    proof = f"client_key={client.key}&client_secret={client.secret}"
    with (
        log.open("wb") as file,
        errors_in(file),
        running_server(list_store, "--workers", "2", "--log-level", "debug") as server,
    ):
        token = token_of(server, client)
        management = token_path(list_store).read_text().strip()
        posted(server, TOKEN, f"client_key={client.key}&client_secret={wrong}&grant_type=client_credentials")
        posted(server, TOKEN, f"client_key={misplaced}&client_secret={wrong}")
        posted(server, f"{FOLLOWING}?access_token={token}", '{"username":"p"}', token)
        posted(server, FOLLOWING, '{"username":"' + misplaced + '"}', token)
        posted(server, FOLLOWING, '{"username":"p"}', misplaced)
        posted(server, REVOKE, f"{proof}&token={misplaced}")
        exchange(server, f"{token} nonsense\r\n\r\n".encode())
        _, rotated = managed(server, list_store, f"/clients/{client.key}/rotate", {})
        asked(server.management_url, "/clients", token=management[:-1] + "x", method="GET")
        page = json.dumps([metrics(server, list_store), managed(server, list_store, "/clients", method="GET")])
        posted(server, REVOKE, f"{proof}&token={token}")
    paths = [log, *list_store.parent.rglob("graph.*/*"), *list_store.parent.glob("graph.*")]
    written = {path: path.read_bytes() for path in paths if path.is_file() and path != token_path(list_store)}
    assert len(written) >= 5
    secrets = (client.secret, rotated["client_secret"], token, wrong, misplaced, management)
    found = [
        (path.name, secret) for path, content in written.items() for secret in secrets if secret.encode() in content
    ]
    assert [] == found
    assert [] == [secret for secret in secrets if secret in page]
    assert b"log_id=" in written[log]


@contextmanager
def errors_in(file: IO[bytes]) -> Iterator[None]:
    """Standard error of programs that are started meanwhile goes to a file."""
    before = os.dup(2)
    os.dup2(file.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(before, 2)
        os.close(before)
