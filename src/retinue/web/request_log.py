"""The log_id and the loggable path of a request."""

from collections.abc import Callable, Iterable
from itertools import takewhile

from retinue.clock import Clock
from retinue.wire import rendering

_LOG_IDS_PER_CALL = 100
_RANDOM_DIGITS = 2 * rendering.LOG_ID_RANDOM_BYTES
_OTHER = "..."


class LogIds:
    """Generates log_ids."""

    def __init__(self, clock: Clock, random_bytes: Callable[[int], bytes]) -> None:
        self._clock = clock
        self._random_bytes = random_bytes
        self._second = -1
        self._date = ""
        self._random = ""  # upper-case hex for some log_ids; asking the kernel for each would cost a call
        self._used = 0

    def fresh(self, now: int | None = None) -> str:
        """Return a new log_id; pass `now` if it is known."""
        if now is None:
            now = self._clock.now()
        if now != self._second:
            self._second, self._date = now, rendering.log_id_date(now)
        start = self._used
        self._used = end = start + _RANDOM_DIGITS
        digits = self._random[start:end]
        if not digits:
            self._random = self._random_bytes(_LOG_IDS_PER_CALL * rendering.LOG_ID_RANDOM_BYTES).hex().upper()
            digits, self._used = self._random[:_RANDOM_DIGITS], _RANDOM_DIGITS
        return self._date + digits


class PathWords:
    """The words of the paths that are served.

    Other words of a path may be a token or a name, by mistake of the client.
    """

    def __init__(self, paths: Iterable[str]) -> None:
        known = [path.split("/") for path in paths]
        self._words = frozenset(word for words in known for word in words) | {"-", "*"}
        self._longest = max(map(len, known), default=1)

    def redact(self, path: str) -> str:
        """Return a path with dots from its first unknown word on."""
        words = path.split("/")
        known = list(takewhile(self._words.__contains__, words[: self._longest]))
        return path if len(known) == len(words) else "/".join([*known, _OTHER])
