"""The number of cases that tests try: all with `make test THOROUGH=1`, a part with `make test`."""

from hypothesis import settings

THOROUGH = "thorough"


def is_thorough() -> bool:
    """Return whether this run tries everything."""
    return settings.get_current_profile_name() == THOROUGH


def examples(count: int) -> int:
    """Return the number of examples of a test that tries `count` in a thorough run: half of them in others."""
    return count if is_thorough() else max(1, count // 2)
