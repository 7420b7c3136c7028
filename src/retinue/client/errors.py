"""The client's errors.

ClientError
├── Refused
│   ├── AccountUnavailable
│   └── DailyQuotaExceeded
├── GaveUp
└── BrokenList
"""

from collections.abc import Sequence

from retinue.client.responses import Person
from retinue.errors import RetinueError
from retinue.escaping import printable


class ClientError(RetinueError):
    """Root of the client's errors.

    `collected` has the rows already read. To resume, pass `cursor` (None: the beginning) and `newest`.
    """

    collected: Sequence[Person] = ()
    cursor: int | None = None
    newest: Person | None = None

    def __str__(self) -> str:
        return printable(super().__str__())


class Refused(ClientError):
    """A final error response. `code`, `message` and `log_id` are the service's own."""

    def __init__(self, status: int, code: str, message: str, log_id: str) -> None:
        super().__init__(status, code, message, log_id)
        self.status = status
        self.code = code
        self.message = message
        self.log_id = log_id

    def __str__(self) -> str:
        text = f"{self.code}: {self.message}" if self.code else self.message
        return printable(f"{text} (status {self.status}, log_id {self.log_id or 'none'})")


class AccountUnavailable(Refused):
    """The account's list is unavailable. `reason` is unknown, private or withheld."""

    def __init__(self, reason: str, status: int, code: str, message: str, log_id: str) -> None:
        super().__init__(status, code, message, log_id)
        self.args = (reason, *self.args)  # for copy and pickle
        self.reason = reason


class DailyQuotaExceeded(Refused):
    """The daily quota is spent until the Unix second `resets_at`."""

    def __init__(self, resets_at: int, status: int, code: str, message: str, log_id: str) -> None:
        super().__init__(status, code, message, log_id)
        self.args = (resets_at, *self.args)
        self.resets_at = resets_at


class GaveUp(ClientError):
    """No attempt got a usable response."""


class BrokenList(ClientError):
    """Every attempt got an inconsistent page."""
