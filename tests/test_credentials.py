"""Secrets and tokens: how they are made, kept, remembered and forgotten."""

import asyncio
import hashlib
import re
from collections.abc import Callable, Coroutine, Iterator
from contextlib import closing
from pathlib import Path
from random import Random
from typing import Any, TypeVar

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from retinue.access import authentication
from retinue.access.authentication import Authenticator
from retinue.access.clients import Clients, fresh_secret
from retinue.access.management_token import management_token
from retinue.access.sqlite import SqliteAccess
from retinue.errors import InvalidClient, InvalidToken, WrongSecret
from retinue.model import RESEARCH_SCOPE, ClientChange, TokenGrant
from retinue.store.open import open_store
from retinue.store.sqlite import files
from retinue.web.request_log import LogIds
from support.frozen_clock import FrozenClock
from support.service import Service

T = TypeVar("T")


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """The result of an async call."""
    return asyncio.run(coroutine)


def counting() -> Callable[[int], bytes]:
    """Return a source of predictable bytes, different in each call."""
    numbers = iter(range(10_000))

    def random_bytes(count: int) -> bytes:
        return next(numbers).to_bytes(4) * (count // 4) + b"\0" * (count % 4)

    return random_bytes


class Gate:
    """The credentials of one worker on a real store, with predictable randomness, counting its lookups."""

    def __init__(self, path: Path, clock: FrozenClock, random_bytes: Callable[[int], bytes] | None = None) -> None:
        open_store(str(path)).create()
        random_bytes = random_bytes or counting()
        self.store = SqliteAccess(files.access_path(path))
        self.clients = Clients(self.store, clock, random_bytes)
        self.authenticator = Authenticator(self.store, clock, random_bytes)
        self.lookups = 0

    def close(self) -> None:
        """Close the store."""
        self.store.close()

    def create(self, **wanted: Any) -> tuple[str, str]:
        """A new client's key and secret."""
        registered = run(self.clients.create(ClientChange(**{"name": "x", **wanted})))
        return registered.client.key, registered.secret

    def token(self, key: str, secret: str) -> bytes:
        """A fresh token, as a header's value."""

        async def issue() -> str:
            return await self.authenticator.issue_token(await self.authenticator.authenticate(key, secret))

        return b"Bearer " + run(issue()).encode()

    def authorize(self, header: bytes) -> TokenGrant:
        """Return the access that a header gives."""
        return run(self.authenticator.authorize(header, RESEARCH_SCOPE))


@pytest.fixture
def gate(store_path: Path, clock: FrozenClock, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    """A gate whose lookups of grants are counted."""
    gate = Gate(store_path, clock)
    find_grant = gate.store.find_grant

    async def counted(digest: bytes) -> TokenGrant | None:
        gate.lookups += 1
        return await find_grant(digest)

    monkeypatch.setattr(gate.store, "find_grant", counted)
    yield gate
    gate.store.close()


def test_only_digests_reach_the_store(gate: Gate) -> None:
    """Secrets and tokens are 256 random bits, kept as SHA-256."""
    key, secret = gate.create()
    token = gate.token(key, secret).removeprefix(b"Bearer ")
    found = run(gate.store.find_client(key))

    assert found is not None
    assert hashlib.sha256(secret.encode()).digest() == found[1].current
    assert run(gate.store.find_grant(hashlib.sha256(token).digest())) is not None
    assert 43 == len(secret) == len(token.removeprefix(b"clt."))


@given(drawn=st.binary(min_size=32, max_size=32), other=st.binary(min_size=32, max_size=32))
@example(drawn=b"\xff" * 32, other=b"\0" * 32)
def test_secrets_are_letters_and_digits_and_keep_all_bits(drawn: bytes, other: bytes) -> None:
    """No command line takes one for an option, and two draws never make the same secret."""
    secret, another = fresh_secret(lambda _: drawn), fresh_secret(lambda _: other)

    assert re.fullmatch(r"[A-Za-z0-9]{43}", secret)
    assert (drawn == other) == (secret == another)


def test_every_generated_credential_is_letters_and_digits(store_path: Path, clock: FrozenClock) -> None:
    """Client key, secret, the new secret after a rotation, token, management token and log_id, in many draws."""
    random_bytes = Random(1).randbytes
    log_ids = LogIds(clock, random_bytes)
    with closing(Gate(store_path, clock, random_bytes)) as gate:
        for draw in range(50):
            key, secret = gate.create()
            token = gate.token(key, secret).removeprefix(b"Bearer clt.").decode()
            rotated = run(gate.clients.rotate(key)).secret
            path = store_path.with_name(f"token-{draw}")
            management_token(path, random_bytes)
            fresh = (secret, token, rotated, path.read_text().removesuffix("\n"))

            assert re.fullmatch(r"[a-z0-9]{18}", key)
            assert [each for each in fresh if not re.fullmatch(r"[A-Za-z0-9]{43}", each)] == []
            assert re.fullmatch(r"\d{14}[0-9A-F]{20}", log_ids.fresh())


def test_a_good_token_is_looked_up_at_most_once_a_second(gate: Gate, clock: FrozenClock) -> None:
    """Positive answers are remembered for less than a second, so that a revocation is seen within one."""
    key, secret = gate.create()
    header = gate.token(key, secret)
    for _ in range(100):
        gate.authorize(header)
    assert 1 == gate.lookups

    clock.advance(1)
    gate.authorize(header)
    assert 2 == gate.lookups

    run(gate.clients.revoke(key))
    clock.advance(1)
    with pytest.raises(InvalidToken):
        gate.authorize(header)


def test_refusals_are_not_cached(gate: Gate, clock: FrozenClock) -> None:
    """A token that another worker issues a moment later is good at once."""
    header = b"Bearer clt.later"
    for _ in range(3):
        with pytest.raises(InvalidToken):
            gate.authorize(header)
    assert 3 == gate.lookups

    key, _ = gate.create()
    digest = hashlib.sha256(b"clt.later").digest()
    run(gate.store.add_token(digest, run(gate.clients.get(key)).id, clock.now() + 100))

    assert key == gate.authorize(header).client_key


def test_the_token_cache_is_bounded(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many tokens come by, memory stays small and every good one is good."""
    monkeypatch.setattr(authentication, "MAX_CACHED", 5)
    headers = [gate.token(*gate.create()) for _ in range(12)]

    for header in headers * 2:
        gate.authorize(header)

    assert len(gate.authenticator._cache) <= 5
    assert 24 == gate.lookups


def test_padded_headers_are_not_cached(gate: Gate) -> None:
    """It is good, but one client could fill the memory with thousands of them."""
    header = gate.token(*gate.create())
    for blanks in (600, 601):
        gate.authorize(header.replace(b" ", b" " * blanks))

    assert {} == gate.authenticator._cache


def test_an_unknown_client_is_refused_like_a_wrong_secret(gate: Gate) -> None:
    """Nothing tells whether the key or the secret was wrong, nor anything of a client whose secret is not known."""
    key, secret = gate.create()
    ended, _ = gate.create()
    run(gate.clients.revoke(ended))

    for known, tried in (
        (key, "wrong"),
        ("awnobody", secret),
        (key, secret + " "),
        (key.upper(), secret),
        (ended, "x"),
    ):
        with pytest.raises(WrongSecret):
            gate.token(known, tried)


def test_a_token_from_the_future_is_invalid(gate: Gate, clock: FrozenClock) -> None:
    """A token issued under an advanced clock is not valid under the machine's clock."""
    key, secret = gate.create()
    clock.advance(10_000_000)
    header = gate.token(key, secret)
    assert key == gate.authorize(header).client_key

    clock.advance(-10_000_000)
    with pytest.raises(InvalidToken):
        gate.authorize(header)


@pytest.mark.parametrize("at", [-1, 0, 99, 100, 101])
def test_the_window_opens_and_closes_at_its_seconds(gate: Gate, clock: FrozenClock, at: int) -> None:
    """From the first second on, up to and without the last; for tokens issued before the end too."""
    now = clock.now()
    key, secret = gate.create(not_before=now, not_after=now + 100)
    header = gate.token(key, secret)
    clock.advance(at)

    if 0 <= at < 100:
        assert key == gate.authorize(header).client_key
        gate.token(key, secret)
    else:
        with pytest.raises(InvalidToken):
            gate.authorize(header)
        with pytest.raises(InvalidClient, match="begins" if at < 0 else "ended"):
            gate.token(key, secret)


def test_no_secret_is_in_the_files_of_the_store(service: Service) -> None:
    """Neither a secret nor a token can be found in what a stolen disk would hold."""
    content = b"".join(path.read_bytes() for path in Path(service.store).parent.iterdir())

    assert service.client_key.encode() in content
    assert service.secret.encode() not in content
    assert service.token.encode() not in content
