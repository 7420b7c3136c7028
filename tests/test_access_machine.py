"""Random changes of clients, tokens and quotas: the access gate decides as a plain model does."""

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any, TypeVar

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from retinue import wiring
from retinue.access.quotas import Quotas
from retinue.errors import (
    InputError,
    InvalidClient,
    InvalidToken,
    QuotaExceeded,
    RateLimitExceeded,
    Refusal,
    UnknownToken,
    WrongSecret,
)
from retinue.model import (
    RESEARCH_SCOPE,
    TOKEN_SECONDS,
    ClientChange,
    Pool,
    Quota,
    QuotaKey,
    RateLimit,
    RegisteredClient,
    TokenGrant,
    Usage,
)
from retinue.quota.counters import DAY_SECONDS
from support.backends import BackendFactory
from support.frozen_clock import FrozenClock

T = TypeVar("T")
START = 1_700_000_000
WORKERS = 3


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """The result of an async call."""
    return asyncio.run(coroutine)


@dataclass
class ModelClient:
    """A client in its plainest form."""

    key: str
    secrets: dict[str, int | None]
    not_before: int | None = None
    not_after: int | None = None
    is_suspended: bool = False
    is_revoked: bool = False
    tokens: dict[str, int] = field(default_factory=dict)

    def is_open(self, now: int) -> bool:
        """Whether it may ask at a second."""
        is_early = self.not_before is not None and now < self.not_before
        is_late = self.not_after is not None and now >= self.not_after
        return not (self.is_suspended or self.is_revoked or is_early or is_late)

    def knows(self, secret: str, now: int) -> bool:
        """Whether a secret is one of its own now."""
        until = self.secrets.get(secret, -1)
        return until is None or now < until


class Authenticator(RuleBasedStateMachine):
    """Several workers, one of them asked at a time; between two steps a second passes, so that none is behind."""

    clients = Bundle("clients")
    tokens = Bundle("tokens")
    times = st.one_of(st.none(), st.integers(-50, 50))

    def __init__(self, new_backend: BackendFactory) -> None:
        super().__init__()
        self.backend = new_backend()
        self.clock = FrozenClock(START)
        self.accesses = [self.backend.open_access() for _ in range(WORKERS)]
        self.register = wiring.clients(self.accesses[0], self.clock)
        self.workers = [wiring.authenticator(access, self.clock) for access in self.accesses]

    @rule(target=clients, not_before=times, length=st.one_of(st.none(), st.integers(1, 90)))
    def create(self, not_before: int | None, length: int | None) -> ModelClient:
        """Register a client, maybe with a window."""
        first = None if not_before is None else self.clock.now() + not_before
        last = None if length is None else (first or self.clock.now()) + length
        registered = run(self.register.create(ClientChange(name="x", not_before=first, not_after=last)))
        return ModelClient(registered.client.key, {registered.secret: None}, first, last)

    @rule(client=clients, grace=st.integers(0, 60))
    def rotate(self, client: ModelClient, grace: int) -> None:
        """Give it another secret; of the earlier ones only the last is good for a while."""
        try:
            registered = run(self.register.rotate(client.key, grace))
        except InputError:
            assert client.is_revoked
            return
        (current,) = (secret for secret, until in client.secrets.items() if until is None)
        client.secrets = {current: self.clock.now() + grace, registered.secret: None}

    @rule(client=clients, act=st.sampled_from(["suspend", "resume", "revoke"]))
    def stand(self, client: ModelClient, act: str) -> None:
        """Suspend, resume or revoke it."""
        try:
            run(getattr(self.register, act)(client.key))
        except InputError:
            assert client.is_revoked
            return
        client.is_suspended = act == "suspend" if act != "revoke" else client.is_suspended
        client.is_revoked = client.is_revoked or act == "revoke"

    @rule(client=clients, last=times)
    def move_end(self, client: ModelClient, last: int | None) -> None:
        """Move the end of its window."""
        second = None if last is None else self.clock.now() + last
        try:
            run(self.register.change(client.key, ClientChange(not_after=second)))
        except InputError:
            assert client.not_before is not None
            assert second is not None
            assert second <= client.not_before
            return
        client.not_after = second

    @rule(target=tokens, client=clients, of=clients, worker=st.integers(0, WORKERS - 1), data=st.data())
    def issue(self, client: ModelClient, of: ModelClient, worker: int, data: st.DataObject) -> tuple[ModelClient, str]:
        """Ask for a token with any secret that ever was."""
        gate, now = self.workers[worker], self.clock.now()
        secret = data.draw(st.sampled_from(sorted(of.secrets)))
        try:
            token = run(gate.issue_token(run(gate.authenticate(client.key, secret))))
        except WrongSecret:
            assert not client.knows(secret, now)
            return client, "clt.none"
        except InvalidClient:
            assert client.knows(secret, now)
            assert not client.is_open(now)
            return client, "clt.none"
        assert client.knows(secret, now)
        assert client.is_open(now)
        client.tokens[token] = now + TOKEN_SECONDS
        return client, token

    @rule(held=tokens, worker=st.integers(0, WORKERS - 1))
    def authorize(self, held: tuple[ModelClient, str], worker: int) -> None:
        """Ask with a token."""
        client, token = held
        now = self.clock.now()
        is_good = client.is_open(now) and now < client.tokens.get(token, 0)
        try:
            grant = run(self.workers[worker].authorize(f"Bearer {token}".encode(), RESEARCH_SCOPE))
        except InvalidToken:
            assert not is_good
        else:
            assert is_good
            assert client.key == grant.client_key

    @rule(held=tokens, client=clients, worker=st.integers(0, WORKERS - 1))
    def revoke_token(self, held: tuple[ModelClient, str], client: ModelClient, worker: int) -> None:
        """End a token, maybe another client's."""
        _, token = held
        known = run(self.register.get(client.key))
        is_good = client.is_open(self.clock.now()) and self.clock.now() < client.tokens.get(token, 0)
        if not client.is_open(self.clock.now()):
            return  # it cannot prove itself
        try:
            run(self.workers[worker].revoke_token(known, token))
        except UnknownToken:
            assert not is_good
        else:
            assert is_good
        client.tokens.pop(token, None)

    @rule(seconds=st.one_of(st.integers(0, 100), st.integers(0, 2 * TOKEN_SECONDS)))
    def advance(self, seconds: int) -> None:
        """Let time pass."""
        self.clock.advance(seconds)

    @invariant()
    def a_second_passes(self) -> None:
        """Cached grants are not older than the promise allows."""
        if hasattr(self, "clock"):
            self.clock.advance(1)

    def teardown(self) -> None:
        """Give the files back."""
        for access in self.accesses:
            access.close()
        self.backend.close()


CLIENTS = [QuotaKey(1, 10), QuotaKey(2, 20), QuotaKey(63, 30), QuotaKey(64, 40), QuotaKey(500, 50), QuotaKey(2, 21)]
LIMITS = st.one_of(st.none(), st.integers(0, 6))


class QuotaMachine(RuleBasedStateMachine):
    """Several workers on one quota file; any of them may stop and start again."""

    def __init__(self, new_backend: BackendFactory) -> None:
        super().__init__()
        self.backend = new_backend()
        self.clock = FrozenClock(START)
        self.all_counters = [self.backend.open_counters() for _ in range(WORKERS)]
        self.days: dict[QuotaKey, tuple[int, Usage]] = {}
        self.admitted: dict[tuple[int, bool], list[int]] = {}
        self.holders: dict[int, QuotaKey] = {}

    def _used(self, quota_key: QuotaKey) -> Usage:
        day, used = self.days.get(quota_key, (0, Usage()))
        return used if day == self.clock.now() // DAY_SECONDS else Usage()

    @rule(
        quota_key=st.sampled_from(CLIENTS),
        worker=st.integers(0, WORKERS - 1),
        calls=LIMITS,
        rows=LIMITS,
        data=st.data(),
    )
    def lists(self, quota_key: QuotaKey, worker: int, calls: int | None, rows: int | None, data: st.DataObject) -> None:
        """A page of a list, as long as what is left allows."""
        quotas = Quotas(self.all_counters[worker], self.clock)
        grant = _grant(quota_key, Quota(calls, rows))
        used, wanted = self._used(quota_key), data.draw(st.integers(1, 9))
        left = wanted if rows is None else min(wanted, rows - used.list_rows)
        try:
            found = quotas.remaining_rows(grant, Pool.LISTS, wanted)
        except QuotaExceeded as spent:
            assert left <= 0 or (calls is not None and used.list_calls >= calls)
            assert (calls, DAY_SECONDS - self.clock.now() % DAY_SECONDS) == (spent.limit, spent.reset)
            return
        assert left == found > 0
        taken = data.draw(st.integers(0, found))
        quota_status = quotas.charge(grant, Pool.LISTS, taken)
        assert quota_status is not None
        now = Usage(used.list_calls + 1, used.list_rows + taken, used.other_calls)
        self._count(quota_key, now)
        assert (None if calls is None else calls - now.list_calls) == quota_status.calls

    @rule(quota_key=st.sampled_from(CLIENTS), worker=st.integers(0, WORKERS - 1), calls=LIMITS)
    def others(self, quota_key: QuotaKey, worker: int, calls: int | None) -> None:
        """A call of the other pool."""
        quotas = Quotas(self.all_counters[worker], self.clock)
        used = self._used(quota_key)
        charged = quotas.charge(_grant(quota_key, Quota(other_calls=calls)), Pool.OTHERS, 1)
        assert (charged is None) == (calls is not None and used.other_calls >= calls)
        self._count(quota_key, Usage(used.list_calls, used.list_rows, used.other_calls + (charged is not None)))

    @rule(quota_key=st.sampled_from(CLIENTS), worker=st.integers(0, WORKERS - 1), rows=st.integers(0, 9), limit=LIMITS)
    def too_many_rows(self, quota_key: QuotaKey, worker: int, rows: int, limit: int | None) -> None:
        """A page that others' pages have made too long is not charged."""
        used = self._used(quota_key)
        charged = Quotas(self.all_counters[worker], self.clock).charge(
            _grant(quota_key, Quota(None, limit)), Pool.LISTS, rows
        )
        assert (charged is None) == (limit is not None and used.list_rows + rows > limit)
        taken = 0 if charged is None else rows
        self._count(quota_key, Usage(used.list_calls + (charged is not None), used.list_rows + taken, used.other_calls))

    @rule(
        quota_key=st.sampled_from(CLIENTS),
        worker=st.integers(0, WORKERS - 1),
        rate=st.builds(RateLimit, st.integers(1, 5), st.integers(1, 60)),
        for_token=st.booleans(),
    )
    def under_a_rate(self, quota_key: QuotaKey, worker: int, rate: RateLimit, *, for_token: bool) -> None:
        """Charge a call under a short-term limit: at most so many in any window of so many seconds."""
        now, counters = self.clock.now(), self.all_counters[worker]
        self._take(quota_key)
        used = self._used(quota_key)
        times = self.admitted.setdefault((quota_key.id, for_token), [])
        recent = sorted(at for at in times if at > now - rate.seconds)
        wait = recent[len(recent) - rate.calls] + rate.seconds - now if len(recent) >= rate.calls else 0
        if for_token:
            assert wait == counters.admit(quota_key, now, rate)
        else:
            quota = Quota(None, None, rate=rate)
            left = counters.status(quota_key, now, Pool.LISTS, quota)
            assert wait == left.wait
            assert (wait > 0) == (counters.charge(quota_key, now, Pool.LISTS, 0, quota) is None)
        if not wait:
            times.append(now)
            self._count(quota_key, Usage(used.list_calls + (not for_token), used.list_rows, used.other_calls))
        else:
            self._count(quota_key, used)

    @rule(seconds=st.one_of(st.integers(0, 70), st.integers(0, 2 * DAY_SECONDS)))
    def advance(self, seconds: int) -> None:
        """Let time pass."""
        self.clock.advance(seconds)

    @rule(worker=st.integers(0, WORKERS - 1))
    def restart(self, worker: int) -> None:
        """A worker ends without a word, and another takes its place."""
        self.all_counters[worker].close()
        self.all_counters[worker] = self.backend.open_counters()

    @invariant()
    def all_see_the_same(self) -> None:
        """Every worker knows what all have used."""
        for quota_key in CLIENTS:
            seen = [Quotas(counters, self.clock).usage_today(_client(quota_key)) for counters in self.all_counters]
            assert [self._used(quota_key)] * WORKERS == seen

    def _count(self, quota_key: QuotaKey, used: Usage) -> None:
        self._take(quota_key)
        self.days[quota_key] = (self.clock.now() // DAY_SECONDS, used)

    def _take(self, quota_key: QuotaKey) -> None:
        """Give the record to this client, whichever client had its slot before."""
        if self.holders.get(quota_key.id, quota_key) != quota_key:
            self.days = {other: used for other, used in self.days.items() if other.id != quota_key.id}
            self.admitted = {key: times for key, times in self.admitted.items() if key[0] != quota_key.id}
        self.holders[quota_key.id] = quota_key

    def teardown(self) -> None:
        """Give the file back."""
        for counters in self.all_counters:
            counters.close()
        self.backend.close()


def _grant(quota_key: QuotaKey, quota: Quota) -> TokenGrant:
    return TokenGrant("k", frozenset(), 0, 2**40, quota_key, quota)


def _client(quota_key: QuotaKey) -> RegisteredClient:
    return RegisteredClient("k", "x", frozenset(), quota_key.since, quota_key.id)


def test_the_access_gate_refuses_with_request_errors() -> None:
    """The errors that the state machines expect are those that the wire format has messages for."""
    for error in (WrongSecret, InvalidClient, InvalidToken, UnknownToken, QuotaExceeded, RateLimitExceeded):
        assert issubclass(error, Refusal)


def test_the_access_gate_agrees_with_the_model(new_backend: BackendFactory) -> None:
    """Clients and tokens are changed in random order."""
    run_state_machine_as_test(
        lambda: Authenticator(new_backend),  # type: ignore[arg-type]  # whatever makes a machine will do
        settings=settings(max_examples=new_backend.times(60), stateful_step_count=50),
    )


def test_quotas_agree_with_the_model(new_backend: BackendFactory) -> None:
    """Requests come in random order, under quotas that change."""
    run_state_machine_as_test(
        lambda: QuotaMachine(new_backend),  # type: ignore[arg-type]  # whatever makes a machine will do
        settings=settings(max_examples=new_backend.times(60), stateful_step_count=60),
    )
