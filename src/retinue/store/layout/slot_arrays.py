"""Slots for many follows at once: the arithmetic of `slots.py`. Pure."""

import numpy as np

from retinue.store.layout.columns import Numbers

_SHIFT = 33  # seconds have 32 bits, and one more keeps lists apart


def keyed(lists: Numbers, seconds: Numbers) -> Numbers:
    """Return a number for each list and second, ordered by both."""
    return (lists << _SHIFT) + seconds


def place(lists: Numbers, seconds: Numbers, taken: Numbers) -> Numbers:
    """Return the slots of follows, given ascending lists and seconds.

    `taken` are the occupied slots, ascending and keyed. A result below 1: the list has no earlier slot left.
    """
    # Number the free slots of a list from 1. A wanted slot has the number of the nearest free slot at or before it.
    # From newest to oldest, each follow gets its own number, or the one below the last given, whichever is lower. So
    # one running minimum yields all of them.
    if not len(lists):
        return seconds
    first_taken, wanted = np.zeros(1, np.int64), seconds
    if len(taken):
        first_taken = np.searchsorted(taken, lists << _SHIFT)  # of each follow's list
        wanted = seconds - (np.searchsorted(taken, keyed(lists, seconds), side="right") - first_taken)
    order = np.arange(len(lists))
    # A list's follows must not feel the minimum of the next list, which is run through before it.
    apart = wanted - order + (lists << _SHIFT)
    given = np.minimum.accumulate(apart[::-1])[::-1] + order - (lists << _SHIFT)
    if not len(taken):
        return given
    taken_lists = taken >> _SHIFT
    begins = np.searchsorted(taken, taken_lists << _SHIFT)
    free_before = keyed(taken_lists, (taken & ((1 << _SHIFT) - 1)) - (np.arange(len(taken)) - begins) - 1)
    return given + np.searchsorted(free_before, keyed(lists, given)) - first_taken


def runs(lists: Numbers, slots: Numbers, minimum: int) -> tuple[Numbers, Numbers, Numbers]:
    """Return list, first and last slot of long enough runs."""
    if not len(lists):
        return lists, slots, slots
    keys = keyed(lists, slots)
    ends = np.flatnonzero(np.append(np.diff(keys) != 1, True))
    begins = np.append(0, ends[:-1] + 1)
    is_long = ends - begins + 1 >= minimum
    begins, ends = begins[is_long], ends[is_long]
    return lists[begins], slots[begins], slots[ends]
