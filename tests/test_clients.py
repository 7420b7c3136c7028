"""Clients in the hands of an operator: the rules of the register, and the command line on top of it."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import pytest

from retinue.errors import InputError, InvalidClient, NoSuchClient, WrongSecret
from retinue.model import ClientChange, Quota, RateLimit, RegisteredClient
from retinue.store.open import open_store
from support.commands import retinue
from support.service import Service

T = TypeVar("T")


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """The result of an async call."""
    return asyncio.run(coroutine)


# The register


def test_all_fields_of_a_client_are_stored(service: Service) -> None:
    """And what is not said has its default."""
    plain = run(service.clients.create(ClientChange(name="Plain"))).client
    assert (frozenset({"research.data.basic"}), Quota(), "", "") == (
        plain.scopes,
        plain.quota,
        plain.contact,
        plain.notes,
    )
    assert service.clock.now() == plain.created_at
    wanted = ClientChange("N", "c@x", "line\nline", frozenset({"a", "b"}), 5, 6, 1, None, 0, RateLimit(1, 60))
    made = run(service.clients.create(wanted)).client
    assert made == run(service.clients.get(made.key))
    expected = RegisteredClient(
        made.key,
        "N",
        frozenset({"a", "b"}),
        service.clock.now(),
        made.id,
        "c@x",
        "line\nline",
        5,
        6,
        Quota(1, None, 0, RateLimit(1, 60)),
    )
    assert expected == made


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (ClientChange(name=" "), "name: is empty"),
        (ClientChange(name="x" * 201), "name: has more than 200 characters"),
        (ClientChange(name="a\x1b[2J"), "name: has characters that cannot be printed"),
        (ClientChange(contact="a\nb"), "contact: has characters that cannot be printed"),
        (ClientChange(notes="x" * 5001), "notes: has more than 5000 characters"),
        (ClientChange(scopes=frozenset({"a b"})), "scopes: 'a b' is not a scope"),
        (ClientChange(scopes=frozenset({""})), "scopes: '' is not a scope"),
        (ClientChange(not_before=-1), "not_before: expected a Unix second from 0"),
        (ClientChange(not_after=10**12), "not_after: expected a Unix second from 0"),
        (ClientChange(not_before=7, not_after=7), "not_after: the access window would end before it begins"),
        (ClientChange(list_calls=-1), "list_calls: expected 0 to"),
        (ClientChange(other_calls=2**60), "other_calls: expected 0 to"),
        (ClientChange(rate=RateLimit(0, 5)), "rate: expected 1 to 1000000 calls within 1 to 60 seconds"),
        (ClientChange(rate=RateLimit(5, 61)), "rate: expected 1 to 1000000 calls within 1 to 60 seconds"),
    ],
)
def test_invalid_client_fields_are_reported(service: Service, change: ClientChange, words: str) -> None:
    """Whether it is registered so or changed to it; then it stays as it was."""
    before = run(service.clients.get(service.client_key))
    with pytest.raises(InputError) as caught:
        run(service.clients.change(service.client_key, change))
    assert str(caught.value).startswith(words)
    assert before == run(service.clients.get(service.client_key))
    count = len(run(service.clients.all()))
    with pytest.raises(InputError):
        run(service.clients.create(change))
    assert count == len(run(service.clients.all()))


def test_a_rotated_secret_stays_valid_for_a_while(service: Service) -> None:
    """Both are, until the grace is over; with no grace the former is none at once. Tokens stay good."""
    service.follow("p", ("a", 5))
    key, first = service.client_key, service.secret
    second = run(service.clients.rotate(key, 100)).secret
    for secret in (first, second):
        assert key == run(service.authenticator.authenticate(key, secret)).key
    service.clock.advance(100)
    with pytest.raises(WrongSecret):
        run(service.authenticator.authenticate(key, first))
    third = run(service.clients.rotate(key, 0)).secret
    with pytest.raises(WrongSecret):
        run(service.authenticator.authenticate(key, second))
    assert key == run(service.authenticator.authenticate(key, third)).key
    assert 200 == service.ask({"username": "p"}).status_code
    for grace in (-1, 10**9):
        with pytest.raises(InputError, match="grace: expected 0 to"):
            run(service.clients.rotate(key, grace))


def test_suspension_is_reversible_and_revocation_is_not(service: Service) -> None:
    """A suspended client's tokens are good again when it is resumed; a revoked one is refused everything."""
    service.follow("p", ("a", 5))
    run(service.clients.suspend(service.client_key))
    service.clock.advance(1)
    assert 401 == service.ask({"username": "p"}).status_code
    with pytest.raises(InvalidClient, match="The client is suspended"):
        run(service.authenticator.authenticate(service.client_key, service.secret))
    since = run(service.clients.suspend(service.client_key)).suspended_at
    assert service.clock.now() - 1 == since
    run(service.clients.resume(service.client_key))
    assert 200 == service.ask({"username": "p"}).status_code

    run(service.clients.revoke(service.client_key))
    for act in (service.clients.suspend, service.clients.resume, service.clients.rotate):
        with pytest.raises(InputError, match="was revoked permanently"):
            run(act(service.client_key))
    with pytest.raises(NoSuchClient):
        run(service.clients.revoke("nobody"))


# The command line


@pytest.fixture
def store(store_path: Path) -> Path:
    """An empty store."""
    open_store(str(store_path)).create()
    return store_path


def created(store: Path, *flags: str) -> dict[str, str]:
    """A new client's key and secret."""
    done = retinue("client", "create", "--store", store, "--name", "Nürnberg lab", *flags, "--json")
    assert (0, "") == (done.returncode, done.stderr)
    answer: dict[str, str] = json.loads(done.stdout)
    return answer


def seen(store: Path, key: str) -> dict[str, Any]:
    """Return the output of `show` for a client."""
    answer: dict[str, Any] = json.loads(retinue("client", "show", key, "--store", store, "--json").stdout)
    return answer


def test_a_client_is_managed_on_the_command_line(store: Path) -> None:
    """Created, shown, changed, suspended, resumed, rotated, revoked; tables for people, JSON for programs."""
    window = ("--not-before", "2026-01-01", "--not-after", "1893456000")
    made = created(store, "--contact", "lab@x.org", "--notes", "DSA 40", *window, "--list-calls", "7", "--rate", "9/60")
    key = made["client_key"]
    assert {"client_key", "client_secret"} == made.keys()
    shown = seen(store, key)
    assert {
        "client_key": key,
        "name": "Nürnberg lab",
        "contact": "lab@x.org",
        "notes": "DSA 40",
        "scopes": ["research.data.basic"],
        "status": "active",
        "created_at": shown["created_at"],
        "not_before": 1767225600,
        "not_after": 1893456000,
        "suspended_at": None,
        "revoked_at": None,
        "list_calls": 7,
        "list_rows": 2_000_000,
        "other_calls": 1000,
        "rate": {"calls": 9, "seconds": 60},
        "used_today": {"list_calls": 0, "list_rows": 0, "other_calls": 0},
    } == shown
    changed = retinue("client", "change", key, "--store", store, "--rate", "none", "--not-after", "none", "--json")
    assert shown | {"rate": None, "not_after": None} == json.loads(changed.stdout)
    for act, word, status in (("suspend", "suspended", "suspended"), ("resume", "resumed", "active")):
        done = retinue("client", act, key, "--store", store)
        assert (0, f"client {key} is {word}\n") == (done.returncode, done.stdout)
        assert status == seen(store, key)["status"]
    rotated = json.loads(retinue("client", "rotate", key, "--store", store, "--grace", "5", "--json").stdout)
    assert key == rotated["client_key"]
    assert made["client_secret"] != rotated["client_secret"]
    assert 0 == retinue("client", "revoke", key, "--store", store).returncode
    assert "revoked" == seen(store, key)["status"]
    for command in (["list"], ["show", key]):
        table = retinue("client", *command, "--store", store, COLUMNS="200").stdout
        assert all(word in table for word in (key, "Nürnberg lab", "revoked", "0 of 7"))
    written = b"".join(path.read_bytes() for path in store.parent.glob("graph.*") if path.is_file())
    assert not any(secret["client_secret"].encode() in written for secret in (made, rotated))


def test_no_quota_means_no_limit(store: Path) -> None:
    """Neither a day's nor a short-term one; together with a limit it makes no sense."""
    key = created(store, "--no-quota")["client_key"]
    names = ("list_calls", "list_rows", "other_calls", "rate")
    assert [None] * 4 == [seen(store, key)[name] for name in names]
    done = retinue("client", "create", "--store", store, "--name", "x", "--no-quota", "--list-calls", "5")
    assert (2, "retinue: --no-quota: leave out the other limits\n") == (done.returncode, done.stderr)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ["create", "--name", "x", "--list-calls", "many"],
            "--list-calls many: expected a number, or none for",
        ),
        (["create", "--name", "x", "--list-calls", "9" * 5000], "--list-calls 999"),
        (["create", "--name", "x", "--list-calls", "٣"], "--list-calls ٣: expected a number"),
        (["create", "--name", "x", "--list-calls", "5/6"], "--list-calls 5/6: expected a number"),
        (["create", "--name", "x", "--rate", "5"], "--rate 5: expected CALLS/SECONDS, such as 600/60, or none"),
        (["create", "--name", "x", "--rate", "5/61"], "rate: expected 1 to 1000000 calls within 1 to 60 seconds"),
        (["create", "--name", "x", "--not-after", "soon"], "--not-after: "),
        (
            ["create", "--name", "x", "--not-before", "20260101"],
            "--not-before: 20260101 would be a Unix second of",
        ),
        (["create", "--name", "x", "--scope", "a b"], "scopes: 'a b' is not a scope"),
        (["show", "awnobody"], "client awnobody: does not exist"),
        (["change", "awnobody", "--name", "y"], "client awnobody: does not exist"),
        (["change", "awnobody"], "client change: give at least one flag to change"),
        (["rotate", "awnobody", "--grace", "-5"], "grace: expected 0 to"),
    ],
)
def test_invalid_client_options_are_reported(store: Path, arguments: list[str], words: str) -> None:
    """One clear line, exit code 2, and no client is made."""
    done = retinue("client", *arguments, "--store", store)

    assert (2, "", 1) == (done.returncode, done.stdout, done.stderr.count("\n"))
    assert done.stderr.startswith(f"retinue: {words}")
    assert "[]\n" == retinue("client", "list", "--store", store, "--json").stdout


def test_a_secret_that_cannot_be_printed_is_not_set(store: Path) -> None:
    """The error names the client, whose secret can be rotated."""
    command = f"{sys.executable} -m retinue client create --store {store} --name x --json > /dev/full"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    (client,) = json.loads(retinue("client", "list", "--store", store, "--json").stdout)

    assert (2, 1) == (done.returncode, done.stderr.count("\n"))
    assert f"client {client['client_key']} has a new secret that could not be shown" in done.stderr


def test_files_beside_a_store_belong_to_it() -> None:
    """Two stores whose names differ in what stands behind the last dot share nothing."""
    names = [open_store(store).paths.beside("quotas").name for store in ("g.db", "g.sqlite", "data.2024", "data.2025")]
    assert ["g.quotas", "g.sqlite.quotas", "data.2024.quotas", "data.2025.quotas"] == names


def test_client_names_cannot_control_the_terminal(store: Path) -> None:
    """Markup in a name is printed unchanged."""
    done = retinue("client", "create", "--store", store, "--name", "[red]x[/] :smile:", "--json")
    key = json.loads(done.stdout)["client_key"]

    for command in (["list"], ["show", key]):
        assert "[red]x[/] :smile:" in retinue("client", *command, "--store", store, COLUMNS="200").stdout
