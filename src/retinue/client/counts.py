"""How many rows a list had, beside the count in the account's profile. Pure.

Services are known to end lists early, at a round number of rows, as if that were the end. Only the profile tells, and
not surely: its count includes accounts that lists hide.
"""

from msgspec import Struct

from retinue.client.responses import UserInfo

# Where users saw lists end: near 4,000 and 5,000 rows.
_MIN_CAP_ROWS = 4_000
_CAP_STEP_ROWS = 1_000


class ListCount(Struct, frozen=True):
    """The rows of a list that was read to its end, and the count in the profile; None if it is unknown."""

    rows: int
    profile_count: int | None = None

    @property
    def gap(self) -> int | None:
        """How many more the profile counts; below 0 if it counts fewer."""
        return None if self.profile_count is None else self.profile_count - self.rows

    @property
    def is_maybe_capped(self) -> bool:
        """Whether the list ends where services are known to cut lists, and the profile counts more."""
        return is_likely_cap(self.rows) and self.gap is not None and self.gap > 0


def is_likely_cap(rows: int) -> bool:
    """Return whether services are known to cut lists after so many rows."""
    return rows >= _MIN_CAP_ROWS and rows % _CAP_STEP_ROWS == 0


def count_in(profile: UserInfo, direction: str) -> int | None:
    """Return the count of following or followers in a profile; a negative one is unknown."""
    count = profile.following_count if direction == "following" else profile.follower_count
    return count if count is not None and 0 <= count < 2**63 else None
