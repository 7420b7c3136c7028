"""Readers of others' bytes refuse or read, and nothing else: the corpus, and a short round of `make fuzz`."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from damage_kinds import ON_TEXT
from support.fuzz_targets import CORPUS, TARGETS

FEW, MANY = 15, 80
SLOW = ("parquet_table", "collection", "chain", "csv_table", "json_table")
MUTATIONS = st.lists(st.tuples(st.sampled_from(ON_TEXT), st.integers(0, 2**32)), max_size=4)


def entries(name: str) -> list[bytes]:
    """The corpus of a target."""
    return [path.read_bytes() for path in sorted((CORPUS / name).iterdir())]


def test_every_corpus_belongs_to_a_target() -> None:
    """No crash that was found is forgotten because its target has gone."""
    assert set(TARGETS) == {path.name for path in CORPUS.iterdir()}


@pytest.mark.parametrize("name", TARGETS)
def test_the_corpus_passes(name: str) -> None:
    """Hostile inputs, and what once crashed, are read or refused."""
    found = entries(name)

    assert found
    for data in found:
        TARGETS[name](data)


@pytest.mark.parametrize("name", TARGETS)
def test_changed_inputs_are_read_or_refused(name: str) -> None:
    """Inputs that grow out of the corpus by random changes, or from nothing, crash no reader."""

    @settings(max_examples=FEW if name in SLOW else MANY)
    @given(st.one_of(st.sampled_from(entries(name)), st.binary(max_size=200)), MUTATIONS)
    def fuzz(data: bytes, mutations: list[tuple[object, int]]) -> None:
        changed = bytearray(data)
        for mutate, seed in mutations:
            if changed:
                mutate(changed, random.Random(seed))  # type: ignore[operator]
        TARGETS[name](bytes(changed))

    fuzz()
