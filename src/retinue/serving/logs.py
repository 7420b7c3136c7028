"""How the processes of a server write their log: lines of text, or one JSON object a line, on stderr.

What is logged is the business of whoever logs it; here is only the form, and what of the libraries is let through.
"""

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


class Line(Struct, frozen=True, omit_defaults=True):
    """One line of a JSON log."""

    time: str
    level: str
    logger: str
    process: str
    pid: int
    message: str
    traceback: str = ""


class TextLines(logging.Formatter):
    """Turns a record into one line of text, and indented ones for a traceback: no message can forge a line."""

    def __init__(self) -> None:
        super().__init__(_TEXT)

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - a name of logging
        """Return the line."""
        return printable(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:  # noqa: N802
        """Return the traceback."""
        return indent(printable_lines(super().formatException(ei)), "    ")


class JsonLines(logging.Formatter):
    """Turns a record into one JSON object on one line."""

    def __init__(self, role: str) -> None:
        super().__init__()
        self._role = role

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        line = Line(
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
    """Let this process, which has that role, log as the settings say."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines(role) if settings.log_format == "json" else TextLines())
    logging.basicConfig(level=settings.log_level.upper(), handlers=[handler])
    if settings.log_level != "debug":
        # uvicorn warns of each request that is one too many; anybody could fill a disk with that, and where requests
        # are logged it would be there twice.
        logging.getLogger("uvicorn").setLevel(logging.ERROR)
    logging.getLogger("asyncio").setLevel(logging.INFO)  # below that it only names its selector
    logging.captureWarnings(capture=True)
    sys.excepthook = _log_uncaught


def _log_uncaught(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    logging.getLogger("retinue").critical("this process ends by an error", exc_info=(kind, error, traceback))


def _encodable(text: str) -> str:
    """A file's name may hold what is no text."""
    return text.encode(errors="backslashreplace").decode()
