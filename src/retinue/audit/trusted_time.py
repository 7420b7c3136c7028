"""Trusted time: the wall clock, as far as the uptime clock confirms it.

So a wall clock that jumps ahead does not make records old. Across a restart an advance of `SLACK_SECONDS` is trusted,
and an operator confirms a longer one.
"""

import hmac
import logging
import os
from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path

import msgspec
from msgspec import Struct

from retinue.clock import Clock
from retinue.durable import write_atomically
from retinue.safe_files import read_regular

SLACK_SECONDS = 86_400
SAVE_SECONDS = 3600
FILE_NAMES = ("clock", "clock-confirmed")

_MAX_BYTES = 4096
_PERSON = b"retinue-clock"
_LOGGER = logging.getLogger("retinue.retention")


class _Content(Struct, forbid_unknown_fields=True):
    time: int
    mac: str


class TimeFile(Struct, frozen=True):
    """A Unix second in a file, with a keyed hash."""

    path: Path
    secret: bytes

    def read(self) -> int | None:
        """Return the second; None if it is missing, damaged or changed."""
        try:
            content = msgspec.json.decode(read_regular(self.path, _MAX_BYTES), type=_Content)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.DecodeError, UnicodeDecodeError):
            _LOGGER.warning("%s: cannot be read, and is ignored", self.path)
            return None
        if not hmac.compare_digest(content.mac.encode(), self._mac(content.time).encode()):
            _LOGGER.warning("%s: was changed or damaged, and is ignored", self.path)
            return None
        return content.time

    def write(self, second: int) -> None:
        """Replace the second. Raises `OSError`."""
        with write_atomically(self.path, replaces=True) as unfinished:
            unfinished.write_bytes(msgspec.json.encode(_Content(second, self._mac(second))) + b"\n")

    def _mac(self, second: int) -> str:
        content = b"%b %d" % (os.fsencode(self.path.name), second)
        return blake2b(content, key=self.secret, digest_size=20, person=_PERSON).hexdigest()


class TimeFiles(Struct, frozen=True):
    """The files of trusted time and of an operator's confirmation."""

    folder: Path
    secret: bytes

    @property
    def trusted(self) -> TimeFile:
        """The file with the trusted time."""
        return TimeFile(self.folder / FILE_NAMES[0], self.secret)

    @property
    def confirmed(self) -> TimeFile:
        """The file with an operator's confirmation."""
        return TimeFile(self.folder / FILE_NAMES[1], self.secret)


class TrustedTime:
    """A clock for irreversible decisions, never ahead of either clock."""

    def __init__(self, files: TimeFiles, clock: Clock, time_in_log: Callable[[], int | None]) -> None:
        self._files = files
        self._clock = clock
        self._is_doubt_logged = False
        self._saved = files.trusted.read()
        reached = self._saved if self._saved is not None else time_in_log()
        self._start_from(reached if reached is not None else clock.now())

    def now(self) -> int:
        """Return the Unix second that has certainly passed."""
        return min(self._clock.now(), self._reached())

    def latest(self) -> int:
        """Return the later of the wall clock and the trusted time."""
        return max(self._clock.now(), self._reached())

    def doubted(self) -> int:
        """Return by how many seconds the wall clock is ahead. 0 within the slack."""
        ahead = self._clock.now() - self._reached()
        return ahead if ahead > SLACK_SECONDS else 0

    def update(self) -> None:
        """Apply a confirmation, log a doubt once, and save the time. Raises `OSError`."""
        self._apply_confirmation()
        doubted = self.doubted()
        if doubted and not self._is_doubt_logged:
            _LOGGER.warning(
                "the clock is %.1f days ahead of trusted time; old audit files and expired tokens are kept that much "
                "longer. If the clock is right, run `retinue audit confirm-clock`",
                doubted / 86_400,
            )
        self._is_doubt_logged = doubted > 0
        reached = self._reached()
        if self._saved is None or abs(reached - self._saved) >= SAVE_SECONDS:
            self.save()

    def save(self) -> None:
        """Save the time. Raises `OSError`."""
        reached = self._reached()
        self._files.trusted.write(reached)
        self._saved = reached

    def _reached(self) -> int:
        return self._start + int(self._clock.uptime() - self._started)

    def _start_from(self, second: int) -> None:
        now = self._clock.now()
        self._start = now if second < now <= second + SLACK_SECONDS else second
        self._started = self._clock.uptime()

    def _apply_confirmation(self) -> None:
        confirmed = self._files.confirmed.read()
        if confirmed is None:
            return
        if abs(self._clock.now() - confirmed) <= SLACK_SECONDS:
            self._start, self._started = self._clock.now(), self._clock.uptime()
            self.save()
            _LOGGER.warning("an operator has confirmed the clock")
        else:
            _LOGGER.warning("a confirmation of the clock is for another time, and is ignored")
        self._files.confirmed.path.unlink(missing_ok=True)
