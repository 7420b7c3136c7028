"""The format of a server's log on stderr: lines of text, or one JSON object a line."""

import logging
import sys
from datetime import UTC, datetime
from textwrap import indent
from types import TracebackType
from typing import Any

from msgspec import Struct, json

from retinue.escaping import printable, printable_lines
from retinue.settings import Settings

_TEXT = "%(asctime)s %(levelname)s %(name)s %(message)s"

_encode = json.Encoder().encode


class LogLine(Struct, frozen=True, omit_defaults=True):
    """One line of a JSON log."""

    time: str
    level: str
    logger: str
    process: str
    pid: int
    message: str
    traceback: str = ""


class TextLines(logging.Formatter):
    """Formats one line of text, and indented lines of a traceback. No message can forge a line."""

    def __init__(self) -> None:
        super().__init__(_TEXT)

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - a name of logging
        """Return the line."""
        return printable(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:  # noqa: N802
        """Return the traceback."""
        return indent(printable_lines(super().formatException(ei)), "    ")


class JsonLines(logging.Formatter):
    """Formats one JSON object on one line."""

    def __init__(self, role: str) -> None:
        super().__init__()
        self._role = role

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line = LogLine(
            time=datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            level=record.levelname.lower(),
            logger=record.name,
            process=self._role,
            pid=record.process or 0,
            message=_encodable(record.getMessage()),
            traceback=_encodable(self.formatException(record.exc_info)) if record.exc_info else "",
        )
        return _encode(line).decode()


def set_up(settings: Settings, role: str) -> None:
    """Set up the log of this process."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines(role) if settings.log_format == "json" else TextLines())
    logging.basicConfig(level=settings.log_level.upper(), handlers=[handler])
    if settings.log_level != "debug":
        # uvicorn warns of each refused request. Any client could fill a disk with that.
        logging.getLogger("uvicorn").setLevel(logging.ERROR)
    logging.getLogger("asyncio").setLevel(logging.INFO)  # at level debug it only names its selector
    logging.captureWarnings(capture=True)
    sys.excepthook = _log_uncaught


def _log_uncaught(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    logging.getLogger("retinue").critical("this process ends by an error", exc_info=(kind, error, traceback))


def _encodable(text: str) -> str:
    """Return a text as UTF-8, even with parts of file names."""
    return text.encode(errors="backslashreplace").decode()
