"""Faults are written as text, shared by processes and drawn by seed."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from retinue.errors import InputError
from retinue.faults import (
    DOCUMENTED,
    PROFILES,
    SHARED_BYTES,
    Failure,
    FaultInjector,
    Faults,
    SharedFaults,
    parse_faults,
    profile,
    profile_name,
)
from support.faulty_server import seeds

all_faults = st.builds(
    Faults,
    short_pages=st.floats(0, 1),
    repeated_pages=st.floats(0, 0.5),
    stuck_cursors=st.floats(0, 0.5),
    list_end_rows=st.integers(0, 1_000_000),
    missing_empty_lists=st.booleans(),
    **{failure.value: st.floats(0, 1 / 6) for failure in Failure},
    failures_cost_quota=st.booleans(),
    retry_after_seconds=st.integers(0, 60),
    quota_spent=st.booleans(),
    fresh_token_seconds=st.integers(0, 60),
    token_errors_with_200=st.booleans(),
    delay_seconds=st.floats(0, 600),
    seed=seeds,
)


def test_faults_are_off_by_default() -> None:
    """Without a word nothing goes wrong, and nothing is drawn."""
    shared = SharedFaults(memoryview(bytearray(SHARED_BYTES)))

    assert DOCUMENTED == Faults() == parse_faults("") == parse_faults("documented") == shared.active.faults
    assert None is FaultInjector(shared).next()
    shared.set(Faults(seed=7))
    assert None is FaultInjector(shared).next()


@pytest.mark.parametrize("name", PROFILES)
def test_fault_profiles_have_names(name: str) -> None:
    """Each is found by its name, and its name by what it is, whatever the seed."""
    assert structs.replace(PROFILES[name], seed=7) == profile(name, seed=7) == parse_faults(name, seed=7)
    assert name == profile_name(profile(name, seed=7))
    assert None is profile_name(structs.replace(PROFILES[name], delay_seconds=0.25))


def test_hostile_loses_nothing() -> None:
    """No fault of it is one for good: lists have no end, quotas are not spent, and no share is all."""
    hostile = profile("hostile")

    assert (0, False) == (hostile.list_end_rows, hostile.quota_spent)
    assert sum(getattr(hostile, failure.value) for failure in Failure) < 0.5
    assert hostile.repeated_pages + hostile.stuck_cursors < 0.5


def test_single_faults_of_a_profile_can_be_changed() -> None:
    """Single values behind a profile, or alone; blanks do no harm."""
    assert Faults(server_errors=0.1, delay_seconds=0.2) == parse_faults("server_errors=0.1,delay_seconds=0.2")
    assert structs.replace(profile("hostile"), short_pages=0.0) == parse_faults(" hostile , short_pages = 0 ")
    assert Faults(quota_spent=True, list_end_rows=50, seed=3) == parse_faults(
        "quota_spent=true,list_end_rows=50", seed=3
    )


@given(all_faults)
def test_written_faults_are_read_back(faults: Faults) -> None:
    """All values survive as a text, and in memory that processes share."""
    memory = memoryview(bytearray(SHARED_BYTES))

    assert faults == parse_faults(",".join(f"{name}={value}" for name, value in structs.asdict(faults).items()))
    SharedFaults(memory).set(faults)
    assert faults == SharedFaults(memory).active.faults


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("hostil", "profile 'hostil' does not exist; expected one of documented, tiktok-2024, hostile"),
        ("server_error=0.1", "'server_error' does not exist; expected one of short_pages, "),
        ("server_errors=2", "server_errors: expected a share from 0 to 1, not 2"),
        ("server_errors=-0.1", "server_errors: expected a share from 0 to 1, not -0.1"),
        ("server_errors=nan", "server_errors: expected a share from 0 to 1, not nan"),
        ("server_errors=", "server_errors: expected a share from 0 to 1, not "),
        ("delay_seconds=601", "delay_seconds: expected seconds from 0 to 600, not 601"),
        ("retry_after_seconds=1.5", "retry_after_seconds: expected whole seconds from 0 to 60, not 1.5"),
        ("list_end_rows=-1", "list_end_rows: expected a number of rows up to 1000000, or 0 for no end, not -1"),
        ("quota_spent=maybe", "quota_spent: expected true or false, not maybe"),
        ("seed=x", "seed: expected a number from 0 to 2^63 - 1, not x"),
        ("delay_seconds=1,hostile", "'hostile': expected name=value"),
        ("delay_seconds=1,delay_seconds=2", "'delay_seconds=2': expected name=value, each name once"),
        ("server_errors=0.6,rate_limits=0.6", "refused_tokens: expected shares of at most 1 together, not 1.2"),
        ("repeated_pages=0.6,stuck_cursors=0.6", "repeated_pages, stuck_cursors: expected shares of at most 1"),
    ],
)
def test_bad_values_are_refused(text: str, reason: str) -> None:
    """With the fault and what was expected."""
    with pytest.raises(InputError) as refused:
        parse_faults(text)

    assert str(refused.value).startswith("faults: ")
    assert reason in str(refused.value)


@pytest.mark.parametrize("values", [{"server_errors": 2}, {"quota_spent": 1}, {"seed": "7"}, {"delay_seconds": None}])
def test_bad_values_are_refused_in_python(values: dict[str, Any]) -> None:
    """The error is raised where the faults are given, not where they occur."""
    with pytest.raises(InputError, match=f"faults: {next(iter(values))}: expected"):
        Faults(**values)


def test_shares_of_exactly_one_together_are_allowed() -> None:
    """Rounding does not count."""
    assert (
        0.4 == parse_faults("server_errors=0.4,gateway_timeouts=0.3,rate_limits=0.2,refused_tokens=0.1").server_errors
    )


@given(all_faults, all_faults, st.integers(0, SHARED_BYTES - 1), st.integers(1, 255))
def test_half_written_faults_are_not_seen(before: Faults, after: Faults, place: int, bits: int) -> None:
    """A process that reads in between keeps to what was there, until all is written."""
    memory = memoryview(bytearray(SHARED_BYTES))
    writer, reader = SharedFaults(memory), SharedFaults(memory)
    writer.set(before)
    assert before == reader.active.faults

    writer.set(after)
    memory[place] ^= bits
    assert before == reader.active.faults
    memory[place] ^= bits
    assert after == reader.active.faults


@given(all_faults)
def test_the_same_seed_draws_the_same(faults: Faults) -> None:
    """Every process draws the same faults, and setting the faults restarts the draw."""
    memory = memoryview(bytearray(SHARED_BYTES))
    shared, injector, others = (
        SharedFaults(memory),
        FaultInjector(SharedFaults(memory)),
        FaultInjector(SharedFaults(memory)),
    )
    shared.set(faults)

    drawn = [injector.next() for _ in range(20)]
    assert drawn == [others.next() for _ in range(20)]
    shared.set(faults)
    assert drawn == [injector.next() for _ in range(20)]


@given(seeds)
def test_faults_occur_in_their_share_of_requests(seed: int) -> None:
    """Of many calls each failure strikes about its share, whatever else is switched on."""
    shared = SharedFaults(memoryview(bytearray(SHARED_BYTES)))
    shared.set(profile("hostile", seed=seed))
    injector = FaultInjector(shared)
    drawn = [injected for injected in (injector.next() for _ in range(2000)) if injected is not None]

    for failure in Failure:
        share = getattr(PROFILES["hostile"], failure.value)
        assert abs(sum(injected.failure is failure for injected in drawn) / 2000 - share) < 0.05
    assert all(0.57 <= injected.fullness <= 0.93 or injected.fullness == 1 for injected in drawn)
