"""What a reading process knows by heart, at most one second behind the keyspace: accounts by id and by username.

Kept in two generations: when the young one is full the old one is dropped, and what is still asked for moves from
old to young. Each change of a name, a visibility or the cut of a list has a revision, by which it is noticed and
forgotten.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import Generic

from msgspec import Struct

from retinue.clock import Clock
from retinue.model import Account, Shown_co, Visibility
from retinue.store.cassandra import progress
from retinue.store.cassandra.accounts import REVISIONS_PER_SLOT
from retinue.store.cassandra.buckets import Cut, cut_of
from retinue.store.cassandra.session import Session
from retinue.store.cassandra.shapes import GRAPH, LIST, USERNAME

PER_GENERATION = 131_072
FRESH_SECONDS = 0.9
FORGET_ONE_BY_ONE = 10_000

_ACCOUNT = "SELECT key, folded, username, display_name, visibility, is_cut FROM account WHERE id = ?"
_CHANGED = "SELECT revision, account FROM change WHERE slot = ? AND revision > ?"


class Person(Struct, Generic[Shown_co], frozen=True):
    """An account as a reader sees it. `shown` is None where it is no row; `cuts` has the lists that are not plain."""

    visibility: Visibility
    shown: Shown_co | None
    is_erased: bool
    cuts: dict[str, Cut] | None = None

    def cut(self, kind: str) -> Cut:
        """How one of its lists is cut."""
        return (self.cuts or {}).get(kind, Cut())


class Known(Generic[Shown_co]):
    """Memory of one reader. Await `refresh` before each use."""

    def __init__(self, session: Session, clock: Clock, show: Callable[[str, str], Shown_co]) -> None:
        self._session = session
        self._clock = clock
        self._show = show
        self._young: dict[int, Person[Shown_co]] = {}
        self._old: dict[int, Person[Shown_co]] = {}
        self._names: dict[str, int] = {}
        self._edition = 0  # another one whenever something was forgotten: what was read before is not kept then
        self._revision: int | None = None
        self._fresh_until = 0.0
        self._refreshing = asyncio.Lock()
        self.standing = progress.Standing()

    async def refresh(self) -> None:
        """Forget what has changed, if that was not done within the last second."""
        if self._revision is not None and self._clock.elapsed() <= self._fresh_until:
            return
        async with self._refreshing:
            now = self._clock.elapsed()
            if self._revision is not None and now <= self._fresh_until:
                return  # somebody else has done it meanwhile
            found = await self._session.fetch(GRAPH.select, ("graph",))
            standing = progress.decoded(found[0] if found else None)
            await self._forget_changed(standing.revision)
            self.standing = standing
            self._fresh_until = now + FRESH_SECONDS

    async def account(self, folded: str) -> Account | None:
        """The live account with a folded username. That there is none is asked anew each time."""
        number = self._names.get(folded)
        if number is None:
            edition = self._edition
            found = await self._session.fetch(USERNAME.select, (folded,))
            if not found or found[0][0] is None:
                return None
            number = int(found[0][0])
            if edition == self._edition:
                if len(self._names) >= PER_GENERATION:
                    self._names.clear()
                self._names[folded] = number
        person = await self.person(number)
        return None if person is None else Account(number, person.visibility)

    async def person(self, number: int) -> Person[Shown_co] | None:
        """An account; None where there never was one."""
        (person,) = await self.people([number])
        return person

    async def people(self, numbers: Sequence[int]) -> list[Person[Shown_co] | None]:
        """Accounts, in the order of their numbers; those that are not known are read all at once."""
        people: dict[int, Person[Shown_co] | None] = {
            number: self._young[number] for number in numbers if number in self._young
        }
        missing = [number for number in dict.fromkeys(numbers) if number not in people]
        found: dict[int, Person[Shown_co] | None] = {
            number: self._old[number] for number in missing if number in self._old
        }
        read = [number for number in missing if number not in found]
        edition = self._edition
        if read:
            found |= zip(read, await asyncio.gather(*map(self._read, read)), strict=True)
        if edition == self._edition:  # else something was forgotten meanwhile: use what was read, but do not keep it
            # Nor is kept that there is nobody: a new account may become visible after an entry that names it.
            self._keep({number: person for number, person in found.items() if person is not None})
        people |= found
        return [people[number] for number in numbers]

    def _keep(self, people: dict[int, Person[Shown_co]]) -> None:
        if len(self._young) + len(people) > PER_GENERATION:
            self._old, self._young = self._young, {}
        self._young.update(people)

    async def _read(self, number: int) -> Person[Shown_co] | None:
        found = await self._session.fetch(_ACCOUNT, (number,))
        if not found:
            return None
        key, folded, username, display_name, visibility, is_cut = found[0]
        seen = Visibility(visibility)
        shown = self._show(display_name, username) if folded is not None and seen.is_row else None
        cuts = None
        if is_cut:
            cuts = {kind: cut_of(tuple(row)) for kind, *row in await self._session.fetch(LIST.all_within, (number,))}
        return Person(seen, shown, key is None, cuts)

    async def _forget_changed(self, newest: int) -> None:
        last = self._revision
        if last is not None and newest > last:
            self._edition += 1
            self._names.clear()
            if newest - last > FORGET_ONE_BY_ONE:
                self._young.clear()
                self._old.clear()
            else:
                self._forget([account async for account in self._changed(last, newest)])
        self._revision = newest

    async def _changed(self, last: int, newest: int) -> AsyncIterator[int]:
        for slot in range((last + 1) // REVISIONS_PER_SLOT, newest // REVISIONS_PER_SLOT + 1):
            for _, account in await self._session.fetch(_CHANGED, (slot, last)):
                yield account

    def _forget(self, accounts: Iterable[int]) -> None:
        for account in accounts:
            self._young.pop(account, None)
            self._old.pop(account, None)
