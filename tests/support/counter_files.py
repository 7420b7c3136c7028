"""Files of quota counters, charge and damaged."""

from contextlib import closing
from pathlib import Path

import pytest

from retinue.access.quotas import TOKEN_RATE
from retinue.model import Pool, Quota, QuotaKey
from retinue.quota.counters import DAY_SECONDS
from retinue.quota.file_counters import FileQuotaCounters

DAY = 20_000
NOON = DAY * DAY_SECONDS + DAY_SECONDS // 2
QUOTA_KEY = QuotaKey(3, 1_000)
CALLS = 5


@pytest.fixture
def counters_path(tmp_path: Path) -> Path:
    """Return the path of a file of quota counters."""
    return tmp_path / "graph.quotas"


def charge(path: Path, times: int, quota: Quota | None = None) -> None:
    """Charge a client this many times, and another client once, in a new file."""
    quota = quota or Quota(list_calls=CALLS)
    with closing(FileQuotaCounters(path)) as counters:
        for quota_key in [QUOTA_KEY] * times + [QuotaKey(4, 1_000)]:
            assert counters.charge(quota_key, NOON, Pool.LISTS, 7, quota) is not None
        assert 0 == counters.admit(QUOTA_KEY, NOON, TOKEN_RATE)


def overwrite(path: Path, place: int, content: bytes) -> None:
    """Overwrite bytes of a file."""
    with path.open("r+b") as file:
        file.seek(place)
        file.write(content)
