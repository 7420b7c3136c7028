"""Who is meant by a name or key in the input, and who may carry a username. Runs inside the writer's transactions.

A name means, in this order: the account with that key; the account with that username; the account whose key was
made of that name. Otherwise it is new.
"""

import apsw

from retinue import names
from retinue.store.sqlite.files import executor

REMEMBERED = 500_000


class Resolver:
    """Finds and creates accounts; remembers what it found until someone else changes the file."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._execute = executor(connection)
        self._known: dict[str, int] = {}
        self._version: int | None = None

    def begin(self) -> None:
        """Call at the start of each transaction: forgets what another connection may have changed."""
        version = self._number("PRAGMA data_version")
        if version != self._version or len(self._known) > REMEMBERED:
            self._known.clear()
        self._version = version

    def forget(self) -> None:
        """Call after a rename or a rollback."""
        self._known.clear()

    def meant_by(self, name: str) -> int:
        """The id of the account that a follow names, made now if it is new."""
        account_id = self._known.get(name)
        if account_id is None:
            account_id = self.find(name) or self._create(name)
            self._known[name] = account_id
        return account_id

    def with_key(self, key: str) -> int | None:
        """The account with a key."""
        return self._number("SELECT id FROM account WHERE key = ?", key)

    def with_username(self, folded: str) -> int | None:
        """The account that has a username."""
        return self._number("SELECT id FROM account WHERE folded = ?", folded)

    def find(self, name: str) -> int | None:
        """The id of the account that a name means, if there is one."""
        key, _ = names.keys_of_name(name)
        return self.with_key(name) or self.with_username(names.fold(name)) or self.with_key(key)

    def _create(self, name: str) -> int:
        """An account of which only the name is known. Its claim to the name is the weakest: any source beats it."""
        return self._required(
            "INSERT INTO account (key, folded, username, display_name, visibility, named_at)"
            " VALUES (?, ?, ?, '', 0, 0) RETURNING id",
            names.keys_of_name(name)[0],
            names.fold(name),
            names.as_answered(name),
        )

    def _number(self, query: str, *parameters: str) -> int | None:
        for (number,) in self._execute(query, parameters).fetchall():
            return int(number)
        return None

    def _required(self, query: str, *parameters: str) -> int:
        number = self._number(query, *parameters)
        assert number is not None, query
        return number
