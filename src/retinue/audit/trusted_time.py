"""The time that decides what is destroyed: the wall clock, as far as a second clock confirms it.

A wall clock that jumps ahead must not make records look old. So time counts only if it passed on the machine's other
clock, too, which measures how long it has been running. Over a restart at most `SLACK_SECONDS` are believed; the rest
needs an operator who confirms the clock. The time reached so far is kept in a file, under a keyed hash.
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
from retinue.regular import read_regular

SLACK_SECONDS = 86_400
SAVE_SECONDS = 3600
FILE_NAMES = ("clock", "clock-confirmed")

_MOST_BYTES = 4096
_PERSON = b"retinue-clock"
_LOGGER = logging.getLogger("retinue.retention")


class TimeFiles(Struct, frozen=True):
    """The files in the folder of the audit log with the trusted time, and with an operator's confirmation of the clock.

    There the coordinator may write, though it is confined.
    """

    folder: Path
    secret: bytes

    @property
    def trusted(self) -> Path:
        """The file with the trusted time."""
        return self.folder / "clock"

    @property
    def confirmed(self) -> Path:
        """The file by which an operator confirms the clock."""
        return self.folder / "clock-confirmed"


class TrustedTime:
    """A clock for decisions that destroy. It never runs ahead of either of the machine's clocks."""

    def __init__(self, files: TimeFiles, clock: Clock, time_in_log: Callable[[], int | None]) -> None:
        self._files = files
        self._clock = clock
        self._is_doubt_logged = False
        self._saved = _read(files.trusted, files.secret)
        reached = self._saved if self._saved is not None else time_in_log()
        self._start_from(reached if reached is not None else clock.now())

    def now(self) -> int:
        """Return the Unix second up to which time has certainly passed."""
        return min(self._clock.now(), self._reached())

    def latest(self) -> int:
        """Return the later of the wall clock and of the time that has certainly passed."""
        return max(self._clock.now(), self._reached())

    def doubted(self) -> int:
        """Return by how many seconds the wall clock is ahead of what can be confirmed; 0 within the slack."""
        ahead = self._clock.now() - self._reached()
        return ahead if ahead > SLACK_SECONDS else 0

    def update(self) -> None:
        """Take a confirmation if there is one, log a doubt once, and save the time. Raises `OSError`."""
        self._take_confirmation()
        doubted = self.doubted()
        if doubted and not self._is_doubt_logged:
            _LOGGER.warning(
                "the clock is %.1f days ahead of the time that has certainly passed; old audit files and expired "
                "tokens are kept that much longer. If the clock is right, run `retinue audit confirm-clock`",
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
        """Go on from a second, or from the wall clock if that is not too far ahead of it."""
        now = self._clock.now()
        self._start = now if second < now <= second + SLACK_SECONDS else second
        self._started = self._clock.uptime()

    def _take_confirmation(self) -> None:
        confirmed = _read(self._files.confirmed, self._files.secret)
        if confirmed is None:
            return
        if abs(self._clock.now() - confirmed) <= SLACK_SECONDS:
            self._start, self._started = self._clock.now(), self._clock.uptime()
            self.save()
            _LOGGER.warning("an operator has confirmed the clock")
        else:
            _LOGGER.warning("a confirmation of the clock is not for its present time, and is ignored")
        self._files.confirmed.unlink(missing_ok=True)


def time_reached(files: TimeFiles) -> int | None:
    """Return the trusted time that was saved last; None if there is none."""
    return _read(files.trusted, files.secret)


def confirm_clock(files: TimeFiles, now: int) -> None:
    """Confirm that the clock is right. A server takes it within a minute, or at its next start. Raises `OSError`."""
    _write(files.confirmed, files.secret, now)


class _Content(Struct, forbid_unknown_fields=True):
    time: int
    mac: str


def _read(path: Path, secret: bytes) -> int | None:
    try:
        content = msgspec.json.decode(read_regular(path, _MOST_BYTES), type=_Content)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        _LOGGER.warning("%s: cannot be read, and is left out of account", path)
        return None
    if not hmac.compare_digest(content.mac.encode(), _mac(content.time, path, secret).encode()):
        _LOGGER.warning("%s: was changed or damaged, and is left out of account", path)
        return None
    return content.time


def _write(path: Path, secret: bytes, time: int) -> None:
    with write_atomically(path, replaces=True) as unfinished:
        unfinished.write_bytes(msgspec.json.encode(_Content(time, _mac(time, path, secret))) + b"\n")


def _mac(time: int, path: Path, secret: bytes) -> str:
    """Bind a time to the file it is for, so that neither file can take the place of the other."""
    content = b"%b %d" % (os.fsencode(path.name), time)
    return blake2b(content, key=secret, digest_size=20, person=_PERSON).hexdigest()
