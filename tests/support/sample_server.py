"""A server of the sample graph, and `retinue run` with commands that ask it."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec import Struct

import running
from retinue.intercept.sandbox import fill
from retinue.local import LocalServer
from support.intercepted import WITHOUT_CONFINEMENT, Done, installed, run

Rows = list[dict[str, str]]


@pytest.fixture(params=["as the system allows", "best effort"])
def within(request: pytest.FixtureRequest) -> tuple[str, ...]:
    """The command before a run: none, or one that takes away the kernel's means of confinement."""
    return WITHOUT_CONFINEMENT if request.param == "best effort" else ()


class SampleServer(Struct, frozen=True):
    """A running server, an account of its graph, and the whole list of that account."""

    server: LocalServer
    username: str
    rows: Rows

    def run(self, *command: str | Path, within: tuple[str, ...] = (), **variables: str) -> Done:
        """Run a command whose requests reach this server."""
        variables_of_client = {
            "RETINUE_CLIENT_KEY": self.server.client_key,
            "RETINUE_CLIENT_SECRET": self.server.client_secret,
            "RETINUE_SAMPLE_USERNAME": self.username,
        }
        flags = ["--best-effort"] if within else []
        return run(
            *flags, "--server", self.server.url, "--", *command, within=within, **variables_of_client, **variables
        )


@pytest.fixture(scope="session")
def sample_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SampleServer]:
    """A server of the sample graph; the list is read from its store."""
    folder = tmp_path_factory.mktemp("sample")
    server = LocalServer(folder)
    username = fill(server, folder / "sample")
    printed = running.retinue("following", "--store", server.store, "--format", "jsonl", username)
    rows = [json.loads(line) for line in printed.splitlines()]
    assert len(rows) > 300
    with server.answering():
        yield SampleServer(
            server, username, [{"display_name": r["display_name"], "username": r["username"]} for r in rows]
        )


@pytest.fixture
def curl() -> str:
    """The program curl."""
    return installed("curl")


def is_allowed(*command: str) -> bool:
    """Return whether the system lets a command succeed."""
    return not subprocess.run(command, capture_output=True, check=False).returncode
