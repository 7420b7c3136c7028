"""Secrets and tokens: how they are made, kept, remembered and forgotten."""

import asyncio
import hashlib
from collections.abc import Coroutine
from typing import Any, TypeVar

import pytest

from frozen_clock import FrozenClock
from retinue.access import credentials
from retinue.access.credentials import Credentials
from retinue.errors import ClientInvalid, TokenInvalid
from retinue.model import RESEARCH_SCOPE, Client, Grant
from retinue.store.base import AccessStore
from service import Service

T = TypeVar("T")


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """The result of an async call."""
    return asyncio.run(coroutine)


class CountingStore:
    """An `AccessStore` in dicts that counts how often a grant is looked up, and what it was given."""

    def __init__(self) -> None:
        self.client_rows: dict[str, tuple[Client, bytes]] = {}
        self.tokens: dict[bytes, Grant] = {}
        self.lookups = 0

    async def add_client(self, client: Client, secret_digest: bytes) -> None:
        """Store a new client."""
        self.client_rows[client.key] = (client, secret_digest)

    async def find_client(self, key: str) -> tuple[Client, bytes] | None:
        """A client and its secret's digest."""
        return self.client_rows.get(key)

    async def clients(self) -> list[Client]:
        """All clients."""
        return [client for client, _ in self.client_rows.values()]

    async def revoke_client(self, key: str, at: int) -> bool:
        """End a client's tokens."""
        self.tokens = {digest: grant for digest, grant in self.tokens.items() if grant.client_key != key}
        return at > 0

    async def add_token(self, digest: bytes, client_key: str, expires_at: int) -> None:
        """Store a token."""
        self.tokens[digest] = Grant(client_key, self.client_rows[client_key][0].scopes, expires_at)

    async def find_grant(self, digest: bytes) -> Grant | None:
        """What a token allows."""
        self.lookups += 1
        return self.tokens.get(digest)

    async def forget_tokens(self, expired_at: int) -> int:
        """Nothing is forgotten here."""
        return expired_at * 0


@pytest.fixture
def store() -> CountingStore:
    """An empty store that counts."""
    return CountingStore()


@pytest.fixture
def gate(store: CountingStore, clock: FrozenClock) -> Credentials:
    """The credentials of one worker, with predictable randomness."""
    contract: AccessStore = store
    numbers = iter(range(10_000))
    return Credentials(contract, clock, lambda count: next(numbers).to_bytes(4) * (count // 4) + b"\0" * (count % 4))


def token_of(gate: Credentials) -> bytes:
    """A fresh client's fresh token, as a header's value."""
    client, secret = run(gate.create_client("x", frozenset({RESEARCH_SCOPE})))
    return b"Bearer " + run(gate.issue_token(client.key, secret)).encode()


def test_only_digests_reach_the_store(gate: Credentials, store: CountingStore) -> None:
    """Secrets and tokens are 256 random bits, kept as SHA-256."""
    client, secret = run(gate.create_client("x", frozenset({RESEARCH_SCOPE})))
    token = run(gate.issue_token(client.key, secret))

    assert hashlib.sha256(secret.encode()).digest() == store.client_rows[client.key][1]
    assert {hashlib.sha256(token.encode()).digest()} == store.tokens.keys()
    assert 43 == len(secret) == len(token.removeprefix("clt."))


def test_a_good_token_is_looked_up_at_most_once_a_second(
    gate: Credentials, store: CountingStore, clock: FrozenClock
) -> None:
    """Positive answers are remembered for less than a second, so that a revocation is seen within one."""
    header = token_of(gate)
    for _ in range(100):
        run(gate.authorize(header, RESEARCH_SCOPE))
    assert 1 == store.lookups

    clock.advance(1)
    run(gate.authorize(header, RESEARCH_SCOPE))
    assert 2 == store.lookups

    run(store.revoke_client(run(store.clients())[0].key, clock.now()))
    clock.advance(1)
    with pytest.raises(TokenInvalid):
        run(gate.authorize(header, RESEARCH_SCOPE))


def test_a_refusal_is_never_remembered(gate: Credentials, store: CountingStore) -> None:
    """A token that another worker issues a moment later is good at once."""
    header = b"Bearer clt.later"
    for _ in range(3):
        with pytest.raises(TokenInvalid):
            run(gate.authorize(header, RESEARCH_SCOPE))
    assert 3 == store.lookups

    grant = Grant("k", frozenset({RESEARCH_SCOPE}), 2_000_000_000)
    store.tokens[hashlib.sha256(b"clt.later").digest()] = grant

    assert grant == run(gate.authorize(header, RESEARCH_SCOPE))


def test_what_is_remembered_is_bounded(
    gate: Credentials, store: CountingStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many tokens come by, memory stays small and every good one is good."""
    monkeypatch.setattr(credentials, "REMEMBER_AT_MOST", 5)
    headers = [token_of(gate) for _ in range(12)]

    for header in headers * 2:
        run(gate.authorize(header, RESEARCH_SCOPE))

    assert len(gate._remembered) <= 5
    assert 24 == store.lookups


def test_an_unknown_client_is_refused_like_a_wrong_secret(gate: Credentials) -> None:
    """Nothing tells whether the key or the secret was wrong."""
    client, secret = run(gate.create_client("x", frozenset()))
    refusals = []
    for key, tried in (
        (client.key, "wrong"),
        ("awnobody", secret),
        (client.key, secret + " "),
        (client.key.upper(), secret),
    ):
        with pytest.raises(ClientInvalid) as caught:
            run(gate.issue_token(key, tried))
        refusals.append(str(caught.value))

    assert ["Client key or secret is incorrect."] * 4 == refusals


def test_no_secret_is_in_the_files_of_the_store(service: Service) -> None:
    """Neither a secret nor a token can be found in what a stolen disk would hold."""
    from pathlib import Path  # noqa: PLC0415 - only here

    content = b"".join(path.read_bytes() for path in Path(service.store).parent.iterdir())

    assert service.client_key.encode() in content
    assert service.secret.encode() not in content
    assert service.token.encode() not in content
