"""A sandbox of several processes: faults from its start on or over the management listener, and what is recorded."""

import http.client
import json
import socket
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from retinue.faults import PROFILES, profile
from retinue.store.open import open_store
from running import Client, Session, running_server
from support.commands import retinue
from support.management import asked, token_path
from support.served import connected
from support.waiting import waiting_until_read

FOLLOWING = "/v2/research/user/following/"


def test_faults_are_set_for_all_workers_at_once(list_store: Path, client: Client) -> None:
    """As soon as the call has returned, and they go when they are taken back."""
    with running_server(list_store, "--workers", "3", "--sandbox") as server:
        secret = token_path(list_store).read_text().strip()
        with Session(server.base_url) as session:
            token = session.token(client)

        def statuses() -> set[int]:
            return {asked(server.base_url, FOLLOWING, '{"username":"p"}', token)[0] for _ in range(40)}

        def put(**values: Any) -> Any:
            status, _, answer = asked(server.management_url, "/faults", json.dumps(values), secret, "PUT")
            assert 200 == status
            return answer

        assert {200} == statuses()
        assert (None, 1, 0) == tuple(put(server_errors=1)[key] for key in ("profile", "server_errors", "seed"))
        assert {500} == statuses()
        assert "hostile" == put(profile="hostile", seed=7)["profile"]
        shown = asked(server.management_url, "/faults", token=secret, method="GET")[2]
        assert (0.1, 7, "hostile") == (shown["server_errors"], shown["seed"], shown["profile"])
        assert 7 == put(profile="documented", rate_limits=1)["seed"]
        assert {429} == statuses()
        assert "documented" == put()["profile"]
        assert {200} == statuses()


def test_faults_can_be_set_at_the_start(list_store: Path, client: Client) -> None:
    """As flags say; and those that cost quota are in the audit log as what they cost."""
    flags = ["--workers", "2", "--sandbox", "--fault-seed", "7"]
    with running_server(list_store, *flags, "--faults", "server_errors=1,failures_cost_quota=true") as server:
        secret = token_path(list_store).read_text().strip()
        shown = asked(server.management_url, "/faults", token=secret, method="GET")[2]
        assert (1, True, 7) == (shown["server_errors"], shown["failures_cost_quota"], shown["seed"])
        # No token is granted there, whatever the client does.
        form = f"client_key={client.key}&client_secret={client.secret}&grant_type=client_credentials"
        assert (500, "server_error") == of_token(server.base_url, form)
        asked(server.management_url, "/faults", "{}", secret, "PUT")
        with Session(server.base_url) as session:
            token = session.token(client)
        values = {"server_errors": 1, "failures_cost_quota": True}
        asked(server.management_url, "/faults", json.dumps(values), secret, "PUT")
        status, headers, _ = asked(server.base_url, FOLLOWING, '{"username":"p"}', token)
        assert 500 == status
        used = asked(server.management_url, "/usage", token=secret, method="GET")[2]["clients"][client.key]
        assert (1, 20) == (used["list_calls"], used["list_rows"])
    record = json.loads(retinue("audit", "show", headers["x-tt-logid"], "--store", list_store).stdout)
    assert (200, "ok", 20) == (record["status"], record["code"], record["rows"])


def of_token(url: str, form: str) -> tuple[int, str]:
    """Status and error of an answer of the token endpoint."""
    status, _, answer = asked(url, "/v2/oauth/token/", form)
    return status, answer["error"]


def test_a_connection_closed_on_purpose_is_no_error(
    list_store: Path, client: Client, capfd: pytest.CaptureFixture[str]
) -> None:
    """Nothing is logged, and the next connection is served."""
    with running_server(list_store, "--sandbox") as server:
        secret = token_path(list_store).read_text().strip()
        with Session(server.base_url) as session:
            token = session.token(client)
        for fault in ("closed_connections", "broken_bodies"):
            asked(server.management_url, "/faults", json.dumps({fault: 1}), secret, "PUT")
            for _ in range(3):
                with pytest.raises((http.client.RemoteDisconnected, http.client.IncompleteRead)):
                    asked(server.base_url, FOLLOWING, '{"username":"p"}', token)
            one = f"POST {FOLLOWING} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nContent-Length: 16\r\n\r\n"
            with connected(server) as both_at_once:
                both_at_once.sendall((one + '{"username":"p"}').encode() * 2)
                assert (fault == "broken_bodies") == received(both_at_once).count(b"HTTP/1.1 ")
        asked(server.management_url, "/faults", "{}", secret, "PUT")
        assert 200 == asked(server.base_url, FOLLOWING, '{"username":"p"}', token)[0]
    assert "" == capfd.readouterr().err


def received(connection: socket.socket) -> bytes:
    """All that comes until the connection is closed."""
    found = b""
    while packet := connection.recv(65536):
        found += packet
    return found


def test_a_stopping_server_ends_injected_delays(list_store: Path) -> None:
    """Delayed clients get their response at once."""
    with ExitStack() as opened:
        with running_server(list_store, "--sandbox") as server:
            secret = token_path(list_store).read_text().strip()
            asked(server.management_url, "/faults", '{"delay_seconds": 600}', secret, "PUT")
            waiting = opened.enter_context(connected(server))
            waiting.sendall(f"POST {FOLLOWING} HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{{}}".encode())
            waiting_until_read(waiting)
        assert b"HTTP/1.1 503 " == received(waiting)[:13]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("[]", "faults: expected a JSON object"),
        ("{", "faults: expected a JSON object"),
        ('{"profile":"x"}', "profile 'x' does not exist"),
        ('{"profile":7}', "profile '7' does not exist"),
        ('{"server_errors":"0.1"}', "server_errors: expected a share from 0 to 1, not 0.1"),
        ('{"server_errors":2}', "server_errors: expected a share from 0 to 1, not 2"),
        ('{"delay":1}', "'delay' does not exist"),
        ('{"server_errors":1,"rate_limits":1}', "expected shares of at most 1 together"),
    ],
)
def test_invalid_faults_are_refused_and_change_nothing(list_store: Path, body: str, reason: str) -> None:
    """400 with the fault and what was expected."""
    with running_server(list_store, "--sandbox", "--faults", "hostile") as server:
        secret = token_path(list_store).read_text().strip()
        status, _, answer = asked(server.management_url, "/faults", body, secret, "PUT")
        assert (400, "invalid_params") == (status, answer["error"]["code"])
        assert reason in answer["error"]["message"]
        assert "hostile" == asked(server.management_url, "/faults", token=secret, method="GET")[2]["profile"]


def test_only_a_sandbox_has_faults(list_store: Path) -> None:
    """Other servers have no faults to set, and faults need the token."""
    with running_server(list_store) as server:
        secret = token_path(list_store).read_text().strip()
        for method in ("GET", "PUT"):
            status, _, answer = asked(server.management_url, "/faults", "{}", secret, method)
            assert (404, True) == (status, "start the server with --sandbox" in answer["error"]["message"])
            assert 401 == asked(server.management_url, "/faults", "{}", None, method)[0]


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (["--faults", "hostile"], "--faults, --fault-seed: only with --sandbox"),
        (["--fault-seed", "7"], "--faults, --fault-seed: only with --sandbox"),
        (["--sandbox", "--faults", "wild"], "faults: profile 'wild' does not exist"),
        (["--sandbox", "--faults", "server_errors=7"], "faults: server_errors: expected a share from 0 to 1"),
        (["--sandbox", "--fault-seed", "-1"], "faults: seed: expected a number from 0"),
    ],
)
def test_bad_flags_are_refused_before_anything_runs(store_path: Path, flags: list[str], reason: str) -> None:
    """With one line that says why."""
    open_store(str(store_path)).create()
    done = retinue("serve", "--store", store_path, "--port", "0", "--management-port", "0", *flags)

    assert (2, 1) == (done.returncode, done.stderr.count("\n"))
    assert reason in done.stderr


def test_the_page_has_every_fault_with_its_values() -> None:
    """The table of docs/sandbox.md is what the profiles are."""
    text = (Path(__file__).parent.parent / "docs" / "sandbox.md").read_text()
    rows = [
        [cell.strip(" `") for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("| `")
    ]
    told = {row[0]: row[2:5] for row in rows if len(row) == 5}
    faults = [name for name in PROFILES["hostile"].__struct_fields__ if name != "seed"]

    assert faults == list(told)
    for column, name in enumerate(PROFILES):
        values = {fault: getattr(profile(name), fault) for fault in faults}
        assert {fault: shown(value) for fault, value in values.items()} == {
            fault: cells[column] for fault, cells in told.items()
        }


def shown(value: Any) -> str:
    """A value of a fault as the table has it: nothing where it is off."""
    if value is True:
        return "true"
    return f"{value:g}" if value else ""
