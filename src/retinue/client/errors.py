"""What can go wrong for who asks: errors of the client, and nothing else.

ClientError             what was collected until then is in it, and where to go on
├── Refused             the service has said no, and will say it again
│   ├── AccountUnavailable
│   └── QuotaSpent      ... until midnight, UTC
├── GaveUp              asked again as often as allowed, without a usable answer
└── BrokenList          the service's pages make no list, however often they are asked for
"""

from collections.abc import Sequence

from retinue.client.responses import Person
from retinue.errors import RetinueError
from retinue.escaping import printable


class ClientError(RetinueError):
    """Root of the client's errors.

    Of a list that was being read: `collected` are the rows up to here, and `cursor` with `newest` is what to go on
    with (None: from the beginning). Nothing that was collected is lost by an error.
    """

    collected: Sequence[Person] = ()
    cursor: int | None = None
    newest: Person | None = None

    def __str__(self) -> str:
        """Return the message as it may be shown on a terminal; attributes are exact."""
        return printable(super().__str__())


class Refused(ClientError):
    """An answer that says no. `code`, `message` and `log_id` are the service's own."""

    def __init__(self, status: int, code: str, message: str, log_id: str) -> None:
        super().__init__(status, code, message, log_id)
        self.status = status
        self.code = code
        self.message = message
        self.log_id = log_id

    def __str__(self) -> str:
        said = f"{self.code}: {self.message}" if self.code else self.message
        return printable(f"{said} (status {self.status}, log_id {self.log_id or 'none'})")


class AccountUnavailable(Refused):
    """The account cannot be asked for. `reason` is unknown, private or withheld."""

    def __init__(self, reason: str, status: int, code: str, message: str, log_id: str) -> None:
        super().__init__(status, code, message, log_id)
        self.args = (reason, *self.args)  # so that it can be copied, and sent to another process
        self.reason = reason


class QuotaSpent(Refused):
    """The calls or rows of this day are spent. `resets_at` is the Unix second from which there are new ones."""

    def __init__(self, resets_at: int, status: int, code: str, message: str, log_id: str) -> None:
        super().__init__(status, code, message, log_id)
        self.args = (resets_at, *self.args)
        self.resets_at = resets_at


class GaveUp(ClientError):
    """No usable answer, however often it was asked for; the message says how often, and what came last."""


class BrokenList(ClientError):
    """Pages that make no list, such as a cursor that does not move; asking again did not help."""
