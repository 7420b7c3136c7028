"""Trusted time: the wall clock, as far as a second clock confirms it.

Retention goes by it, since a wall clock that jumps ahead must not make records look old. Time counts only if it also
passed on the uptime clock. Across a restart `SLACK_SECONDS` are believed; an operator confirms the rest.
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


class TimeFiles(Struct, frozen=True):
    """The files of trusted time and of an operator's confirmation."""

    folder: Path
    secret: bytes

    @property
    def trusted(self) -> Path:
        """The file with the trusted time."""
        return self.folder / "clock"

    @property
    def confirmed(self) -> Path:
        """The file with an operator's confirmation."""
        return self.folder / "clock-confirmed"


class TrustedTime:
    """A clock for irreversible decisions, never ahead of either clock."""

    def __init__(self, files: TimeFiles, clock: Clock, time_in_log: Callable[[], int | None]) -> None:
        self._files = files
        self._clock = clock
        self._is_doubt_logged = False
        self._saved = _read(files.trusted, files.secret)
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
        _write(self._files.trusted, self._files.secret, reached)
        self._saved = reached

    def _reached(self) -> int:
        return self._start + int(self._clock.uptime() - self._started)

    def _start_from(self, second: int) -> None:
        now = self._clock.now()
        self._start = now if second < now <= second + SLACK_SECONDS else second
        self._started = self._clock.uptime()

    def _apply_confirmation(self) -> None:
        confirmed = _read(self._files.confirmed, self._files.secret)
        if confirmed is None:
            return
        if abs(self._clock.now() - confirmed) <= SLACK_SECONDS:
            self._start, self._started = self._clock.now(), self._clock.uptime()
            self.save()
            _LOGGER.warning("an operator has confirmed the clock")
        else:
            _LOGGER.warning("a confirmation of the clock is for another time, and is ignored")
        self._files.confirmed.unlink(missing_ok=True)


def time_reached(files: TimeFiles) -> int | None:
    """Return the saved trusted time; None if there is none."""
    return _read(files.trusted, files.secret)


def confirm_clock(files: TimeFiles, now: int) -> None:
    """Confirm that the clock is right. A server applies it within a minute. Raises `OSError`."""
    _write(files.confirmed, files.secret, now)


class _Content(Struct, forbid_unknown_fields=True):
    time: int
    mac: str


def _read(path: Path, secret: bytes) -> int | None:
    try:
        content = msgspec.json.decode(read_regular(path, _MAX_BYTES), type=_Content)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        _LOGGER.warning("%s: cannot be read, and is ignored", path)
        return None
    if not hmac.compare_digest(content.mac.encode(), _mac(content.time, path, secret).encode()):
        _LOGGER.warning("%s: was changed or damaged, and is ignored", path)
        return None
    return content.time


def _write(path: Path, secret: bytes, time: int) -> None:
    with write_atomically(path, replaces=True) as unfinished:
        unfinished.write_bytes(msgspec.json.encode(_Content(time, _mac(time, path, secret))) + b"\n")


def _mac(time: int, path: Path, secret: bytes) -> str:
    content = b"%b %d" % (os.fsencode(path.name), time)
    return blake2b(content, key=secret, digest_size=20, person=_PERSON).hexdigest()
