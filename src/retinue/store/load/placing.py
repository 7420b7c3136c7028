"""Slots for many follows at once, pure: the arithmetic that `slots.py` does one by one.

Count the free slots of a list from 1. A wanted slot that is free has a number; an occupied one has that of the nearest
free one before it. From newest to oldest each follow gets its own number, or the one below the last one given,
whichever is lower; so all of them come from one running minimum.
"""

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.int64]

_SHIFT = 33  # seconds have 32 bits, and one more keeps lists apart


def keyed(lists: Numbers, seconds: Numbers) -> Numbers:
    """Return one number that sorts by list (from 0), then second."""
    return (lists << _SHIFT) + seconds


def place(lists: Numbers, seconds: Numbers, taken: Numbers) -> Numbers:
    """Return the slots of follows, given ascending lists and seconds.

    `taken` are the occupied slots, ascending and keyed. A result below 1 means that a list has no earlier slot left.
    """
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
    """Return list, first and last slot of runs of at least `minimum` occupied slots."""
    if not len(lists):
        return lists, slots, slots
    keys = keyed(lists, slots)
    ends = np.flatnonzero(np.append(np.diff(keys) != 1, True))
    begins = np.append(0, ends[:-1] + 1)
    is_long = ends - begins + 1 >= minimum
    begins, ends = begins[is_long], ends[is_long]
    return lists[begins], slots[begins], slots[ends]
