"""Giving seconds of their own to many follows at once, pure: the arithmetic that `seconds.py` does one by one.

Think of the free seconds of a list as counted from 1. A wanted second that is free has a number; one that is taken has
that of the nearest free one before it. From newest to oldest each follow gets its own number, or the one below the last
given, whichever is lower; so all of them come from one running minimum.
"""

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.int64]

_SHIFT = 33  # seconds have 32 bits, and one more keeps lists apart


def keyed(lists: Numbers, seconds: Numbers) -> Numbers:
    """One number for a list (counted from 0) and a second, in the order of both."""
    return (lists << _SHIFT) + seconds


def assign_slots(lists: Numbers, seconds: Numbers, taken: Numbers) -> Numbers:
    """The seconds that follows get, given the lists they are in and the seconds they want, both ascending.

    `taken` are the seconds that are occupied already, ascending and keyed. A result below 1 means that a list has no
    earlier second left.
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


def slot_runs(lists: Numbers, seconds: Numbers, visible: NDArray[np.bool_]) -> tuple[Numbers, Numbers, Numbers]:
    """The stretches to be stored for lists whose occupied seconds these are, ascending: list, first and last second.

    A single second is stored only where it cannot be `seen` in the list itself.
    """
    if not len(lists):
        return lists, seconds, seconds
    keys = keyed(lists, seconds)
    ends = np.flatnonzero(np.append(np.diff(keys) != 1, True))
    starts = np.append(0, ends[:-1] + 1)
    stored = (ends > starts) | ~visible[starts]
    starts, ends = starts[stored], ends[stored]
    return lists[starts], seconds[starts], seconds[ends]
