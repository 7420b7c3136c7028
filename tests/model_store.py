"""The plain-dict model of the graph contract: slow, obvious, and what every store must agree with."""

from collections.abc import Sequence

from retinue import names
from retinue.model import Account, AccountRecord, FollowRecord, Row, Slice, Visibility
from retinue.store.base import Verdict


class ModelGraph:
    """A `GraphReader` and `GraphWriter` in dicts, for accounts without ids of their own."""

    def __init__(self) -> None:
        self.accounts: dict[str, tuple[Row, Visibility]] = {}
        self.ids: list[str] = []
        self.lists: dict[str, dict[int, tuple[str, int]]] = {}

    async def add_accounts(self, records: Sequence[AccountRecord], now: int) -> list[Verdict]:
        """Create or change accounts."""
        return [self._bring(record) for record in records]

    async def add_follows(self, records: Sequence[FollowRecord]) -> list[Verdict]:
        """Store follows in the given order."""
        return [self._follow(record) for record in records]

    async def settle(self) -> None:
        """Nothing to wait for."""

    async def find_account(self, folded: str) -> Account | None:
        """The account with a folded username."""
        if folded not in self.accounts:
            return None
        return Account(self.ids.index(folded), self.accounts[folded][1])

    async def following(self, account_id: int, bound: int, limit: int) -> Slice[Row]:
        """The newest visible rows at or before the bound."""
        entries = self.lists.get(self.ids[account_id], {})
        found = [
            (position, self.accounts[entries[position][0]])
            for position in sorted(entries, reverse=True)
            if position <= bound
        ]
        rows = [(position, row) for position, (row, visibility) in found if visibility.is_row]
        page = rows[:limit]
        return Slice([row for _, row in page], page[-1][0] if page else 0, len(rows) > limit)

    def visible(self, name: str) -> list[str]:
        """The usernames of a whole list, newest first."""
        entries = self.lists.get(name, {})
        followed = [entries[position][0] for position in sorted(entries, reverse=True)]
        return [other for other in followed if self.accounts[other][1].is_row]

    def _bring(self, record: AccountRecord) -> Verdict:
        name = names.fold(record.username)
        before = self.accounts.get(name)
        display_name = (
            record.display_name if record.display_name is not None else before[0].display_name if before else ""
        )
        visibility = record.visibility
        if visibility is None:
            visibility = before[1] if before else Visibility.PUBLIC
        self._create(name)
        self.accounts[name] = (Row(display_name, names.as_answered(record.username)), visibility)
        return Verdict.DUPLICATE if self.accounts[name] == before else Verdict.ACCEPTED

    def _create(self, name: str) -> None:
        if name not in self.accounts:
            self.accounts[name] = (Row("", name), Visibility.PUBLIC)
            self.ids.append(name)

    def _follow(self, record: FollowRecord) -> Verdict:
        follower, followee = names.fold(record.follower), names.fold(record.followee)
        if follower == followee:
            return Verdict.SELF_FOLLOW
        self._create(follower)
        self._create(followee)
        entries = self.lists.setdefault(follower, {})
        at = min(record.followed_at or record.received_at, record.received_at)
        for position, (other, true_second) in entries.items():
            if other == followee:
                if record.followed_at is None or at >= true_second:
                    return Verdict.DUPLICATE
                del entries[position]
                break
        position = free_second(entries, at)
        entries[position] = (followee, at)
        return Verdict.ACCEPTED


def free_second(occupied: dict[int, tuple[str, int]], wanted: int) -> int:
    """The nearest free earlier second, or the nearest later one where none is left: by walking along the run."""
    second = wanted
    while second in occupied:
        second -= 1
    if second >= 1:
        return second
    second = wanted
    while second in occupied:
        second += 1
    return second
