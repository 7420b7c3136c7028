"""Slots for many follows at once. Pure. It equals `rules/slots.py` one by one.

Number the free slots of a list from 1; a taken one counts as the nearest free one before it. From newest to oldest,
each follow gets its own number, or the one below the last given, whichever is lower.
"""

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.int64]

_SHIFT = 33  # seconds have 32 bits, and one more keeps lists apart


def keyed(lists: Numbers, seconds: Numbers) -> Numbers:
    """Return one sortable number for a list's index and a second."""
    return (lists << _SHIFT) + seconds


def assign_slots(lists: Numbers, seconds: Numbers, taken: Numbers) -> Numbers:
    """Return the slots of follows, given ascending lists and wanted seconds.

    `taken` are the taken slots, ascending and keyed. A result below 1 means that a list has no earlier slot left.
    """
    if not len(lists):
        return seconds
    first_taken, wanted = np.zeros(1, np.int64), seconds
    if len(taken):
        first_taken = np.searchsorted(taken, lists << _SHIFT)  # of each follow's list
        wanted = seconds - (np.searchsorted(taken, keyed(lists, seconds), side="right") - first_taken)
    order = np.arange(len(lists))
    # Keep the minimum of the next list, which comes before it, out of this list.
    apart = wanted - order + (lists << _SHIFT)
    given = np.minimum.accumulate(apart[::-1])[::-1] + order - (lists << _SHIFT)
    if not len(taken):
        return given
    taken_lists = taken >> _SHIFT
    begins = np.searchsorted(taken, taken_lists << _SHIFT)
    free_before = keyed(taken_lists, (taken & ((1 << _SHIFT) - 1)) - (np.arange(len(taken)) - begins) - 1)
    return given + np.searchsorted(free_before, keyed(lists, given)) - first_taken


def slot_runs(lists: Numbers, seconds: Numbers, visible: NDArray[np.bool_]) -> tuple[Numbers, Numbers, Numbers]:
    """Return the runs to store, given all taken slots: list, first, last.

    A single slot is stored only if it is not `visible`.
    """
    if not len(lists):
        return lists, seconds, seconds
    keys = keyed(lists, seconds)
    ends = np.flatnonzero(np.append(np.diff(keys) != 1, True))
    starts = np.append(0, ends[:-1] + 1)
    stored = (ends > starts) | ~visible[starts]
    starts, ends = starts[stored], ends[stored]
    return lists[starts], seconds[starts], seconds[ends]
