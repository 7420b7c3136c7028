"""A server whose quota counters are lost or damaged grants no quota again."""

import itertools
import json
import os
import signal
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from retinue.quota.counter_file import RECORD_BYTES
from running import Client as ApiClient
from running import Server, running_server
from support.commands import retinue
from support.counter_files import CALLS, overwrite
from support.served import pages_written, posted, token_of
from support.service import FOLLOWING
from support.waiting import waiting_for


@pytest.fixture
def store(store_path: Path, tmp_path: Path) -> Path:
    """A store with one list."""
    follows = tmp_path / "follows.csv"
    follows.write_text("follower,followee,followed_at\np,f,1000000\n")
    assert 0 == retinue("import", "--store", store_path, follows).returncode
    return store_path


@pytest.fixture
def client(store: Path) -> ApiClient:
    """A client with few calls a day."""
    options = ("--name", "x", "--json", "--list-calls", str(CALLS))
    made = json.loads(retinue("client", "create", "--store", store, *options).stdout)
    return ApiClient(made["client_key"], made["client_secret"])


def statuses(server: Server, token: str) -> Iterator[int]:
    """Yield the statuses of answers without end; refusals for the moment are waited out."""
    while True:
        status = posted(server, FOLLOWING, '{"username":"p"}', token)[0]
        if status != 503:
            yield status


def removed(path: Path) -> None:
    """No file."""
    path.unlink()


def empty(path: Path) -> None:
    """A file of no bytes."""
    path.write_bytes(b"")


def in_debt(path: Path) -> None:
    """A count below nothing for the first client."""
    overwrite(path, RECORD_BYTES + 16, struct.pack("<q", -(10**9)))


def test_an_older_copy_of_the_counters_grants_no_quota_again(store: Path, client: ApiClient) -> None:
    """A copy of a running server's counters, put back after the stop or a kill, has what the log has."""
    quotas = store.with_suffix(".quotas")
    with running_server(store) as server:
        token = token_of(server, client)
        older = quotas.read_bytes()
        assert [200] * 3 == list(itertools.islice(statuses(server, token), 3))
    quotas.write_bytes(older)
    with running_server(store) as server:
        answered = statuses(server, token_of(server, client))
        assert [200, 200, 429] == list(itertools.islice(answered, 3))
        waiting_for(lambda: pages_written(store) == 6)
        for pid in server.processes():
            os.kill(pid, signal.SIGKILL)
    quotas.write_bytes(older)
    with running_server(store) as server:
        assert 429 == next(statuses(server, token_of(server, client)))


@pytest.mark.parametrize("damage", [removed, empty, in_debt])
def test_a_restart_grants_no_quota_again(store: Path, client: ApiClient, damage: Callable[[Path], None]) -> None:
    """Exactly five calls of five a day are answered, whatever happens to the counters."""
    with running_server(store) as server:
        assert [200] * 3 == list(itertools.islice(statuses(server, token_of(server, client)), 3))
    damage(store.with_suffix(".quotas"))

    with running_server(store) as server:
        answered = statuses(server, token_of(server, client))
        assert [200, 200, 429, 429] == list(itertools.islice(answered, 4))


def test_an_unknown_use_counts_as_a_spent_quota(store: Path, client: ApiClient) -> None:
    """Without counters and with an audit log that was changed, all calls of the day are refused."""
    with running_server(store) as server:
        assert 200 == next(statuses(server, token_of(server, client)))
    removed(store.with_suffix(".quotas"))
    (log,) = store.with_suffix(".audit").glob("*.jsonl")
    log.write_bytes(log.read_bytes().replace(b'"status":200', b'"status":201'))

    with running_server(store) as server:
        assert 429 == next(statuses(server, token_of(server, client)))


@pytest.mark.parametrize("workers", [1, 2])
def test_damage_while_a_server_runs_grants_no_quota_again(store: Path, client: ApiClient, workers: int) -> None:
    """The client is refused for a moment, and then has what is left."""
    with running_server(store, "--workers", str(workers)) as server:
        token = token_of(server, client)
        answered = statuses(server, token)
        assert [200] * 3 == list(itertools.islice(answered, 3))
        waiting_for(lambda: pages_written(store) == 3)
        in_debt(store.with_suffix(".quotas"))
        assert 503 == posted(server, FOLLOWING, '{"username":"p"}', token)[0]
        assert [200, 200, 429] == list(itertools.islice(answered, 3))


def test_removed_counters_are_not_recreated_while_a_server_runs(store: Path, client: ApiClient) -> None:
    """The workers that have them open count on in them."""
    with running_server(store) as server:
        answered = statuses(server, token_of(server, client))
        assert [200] * 3 == list(itertools.islice(answered, 3))
        removed(store.with_suffix(".quotas"))
        assert [200, 200, 429] == list(itertools.islice(answered, 3))
        assert not store.with_suffix(".quotas").exists()


def test_commands_report_missing_counters(store: Path, client: ApiClient) -> None:
    """They show no use, say why, and make no file."""
    with running_server(store) as server:
        assert 200 == next(statuses(server, token_of(server, client)))
    removed(store.with_suffix(".quotas"))

    done = retinue("client", "list", "--store", store)

    assert (0, True) == (done.returncode, "graph.quotas is missing: today's usage is not known" in done.stderr)
    assert not store.with_suffix(".quotas").exists()


def test_usage_of_a_changed_log_fails(store: Path, client: ApiClient) -> None:
    """It says that it leaves out what was changed."""
    with running_server(store) as server:
        assert 200 == next(statuses(server, token_of(server, client)))
    (log,) = store.with_suffix(".audit").glob("*.jsonl")
    log.write_bytes(log.read_bytes().replace(b'"status":200', b'"status":201'))

    done = retinue("audit", "usage", "--store", store)

    assert (1, True) == (done.returncode, "changed records are not counted" in done.stderr)
