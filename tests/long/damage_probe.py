"""Ask a store that may be damaged, in this process: through the real application, and by our own commands.

Runs in a process of its own for each damage (`damage.py`), so that it may hang, crash or eat all memory.
"""

import asyncio
import contextlib
import logging
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from msgspec import json

from retinue import wiring
from retinue.__main__ import main as retinue_main
from retinue.audit.log import AuditLog, RotationPolicy
from retinue.audit.record import Auditor, AuditRecord
from retinue.audit.retention import oldest_expired
from retinue.errors import RetinueError
from retinue.model import Direction
from retinue.store.open import open_store
from retinue.web.asgi import Application
from retinue.web.fast_path import FastPath, Head
from retinue.web.replies import Message
from retinue.wire import rendering

_BODY = b"\r\n\r\n"
_LIST = "/v2/research/user/{}/"
_INFO = "/v2/research/user/info/"
_FIELDS = "?fields=display_name,bio_description,avatar_url,is_verified,follower_count,following_count,likes_count"
_PATHS = {direction.value: _LIST.format(direction.value) for direction in Direction} | {"info": _INFO}
_ROUNDS = 3  # the first reads, the second fills the block cache, the third reads from it

Question = tuple[str, dict[str, Any]]
Said = tuple[int, Any]  # the status, and `data`


@dataclass(frozen=True, slots=True)
class Subject:
    """A store to be damaged: where it is, at what second it is asked, by whom, and what."""

    store: Path
    now: int
    client: tuple[str, str]
    token: str
    spent_token: str
    questions: tuple[Question, ...]


@dataclass(slots=True)
class Seen:
    """The outcome of one damage."""

    refused: str = ""  # why the store could not be opened
    statuses: dict[str, int] = field(default_factory=dict)
    wrong: int = 0  # answers with status 200 that are not those of the sound store
    first: str = ""  # the first of these, or refusals
    denied: int = 0  # refusals other than "not now" of what the sound store answers
    older: int = 0  # answers of the state before the log's last transaction
    quota_open: int = 0
    faults: list[str] = field(default_factory=list)  # tracebacks, 500s, odd exit codes
    named: bool = False  # whether a command said that something is wrong


class StandingClock:
    """A clock that stands at a second; what it measures is real."""

    def __init__(self, second: int) -> None:
        self._second = second

    def now(self) -> int:
        """The second."""
        return self._second

    def elapsed(self) -> float:
        """Seconds since some fixed instant."""
        return time.perf_counter()

    def uptime(self) -> float:
        """Seconds since some fixed instant, the same for all."""
        return 0.0


class _Kept(list[AuditRecord]):
    is_full = False

    def add(self, record: AuditRecord) -> None:
        self.append(record)


class _Logged(logging.Handler):
    """Tracebacks that went to the log."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and record.exc_info[1] is not None:
            self.found.append(_told(record.exc_info[1]))


def answers(subject: Subject, seen: Seen) -> list[Said]:
    """Ask every question on every way. Errors on opening go to `seen.refused`."""
    logged = _Logged()
    logging.getLogger("retinue").addHandler(logged)
    try:
        with ExitStack() as opened:
            application, fast_path = _opened(subject, opened)
            return [said for _ in range(_ROUNDS) for said in _round(subject, application, fast_path, seen)]
    except RetinueError as error:
        seen.refused = str(error) or type(error).__name__
    except Exception as error:  # noqa: BLE001 - this is what is looked for
        seen.faults.append(f"opening: {_told(error)}")
    finally:
        seen.faults += [f"log: {text}" for text in logged.found]
        logging.getLogger("retinue").removeHandler(logged)
    return []


def _opened(subject: Subject, opened: ExitStack) -> tuple[Application, FastPath]:
    store, clock = str(subject.store), StandingClock(subject.now)
    graph = opened.enter_context(closing(open_store(store).served_graph(clock, rendering.ROW_ENCODING, cache_mib=8)))
    access = opened.enter_context(closing(open_store(store).access()))
    counters = opened.enter_context(closing(open_store(store).quotas()))
    gate = wiring.gated(access, counters, clock, _at_once)
    public = wiring.Public(gate, Auditor(_Kept(), bytes(32), clock), clock, wiring.log_ids(clock))
    return wiring.public_application(graph, public), wiring.fast_path(graph, public)


async def _at_once(_seconds: float) -> None:
    """No pause after a failure."""


def _round(subject: Subject, application: Application, fast_path: FastPath, seen: Seen) -> list[Said]:
    authorization = f"Bearer {subject.token}".encode()
    key, secret = subject.client
    form = f"client_key={key}&client_secret={secret}&grant_type=client_credentials".encode()
    status, _ = _post(application, "/v2/oauth/token/", form, b"")
    found: list[Said] = [(status, None)]
    for kind, query in subject.questions:
        body = json.encode(query)
        found.append(_post(application, _PATHS[kind], body, authorization))
        if kind != "info":
            head = Head(Direction(kind), kind, authorization, (), len(body))
            answer = fast_path.answer(head, body, "192.0.2.1", [])
            # The ASGI path just answered requests that the fast path declines.
            found.append(found[-1] if answer is None else _said(answer))
    spent = _post(application, _PATHS["following"], b'{"username":"hub"}', f"Bearer {subject.spent_token}".encode())
    seen.quota_open += spent[0] == 200
    for status, _ in (*found, spent):
        seen.statuses[str(status)] = seen.statuses.get(str(status), 0) + 1
    return found


def _said(answer: bytes) -> Said:
    return int(answer.split()[1]), json.decode(answer.partition(_BODY)[2]).get("data")


def _post(application: Application, path: str, body: bytes, authorization: bytes) -> Said:
    """One request through the ASGI application."""
    messages: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Message) -> None:
        messages.append(message)

    query = _FIELDS[1:].encode() if path == _INFO else b""
    headers = [(b"authorization", authorization)] if authorization else []
    scope = {"type": "http", "method": "POST", "path": path, "query_string": query, "headers": headers}
    asyncio.run(application(scope, receive, send))
    return messages[0]["status"], json.decode(messages[1]["body"]).get("data")


def compare(found: list[Said], sound: list[Said], before: list[Said], seen: Seen) -> None:
    """Count answers that are neither right nor "not now"."""
    for place, (said, right, old) in enumerate(zip(found, sound, before, strict=True)):
        if said == right or said[0] == 503:
            continue
        if said == old:
            seen.older += 1
        elif said[0] == 500:
            seen.faults.append("status 500")
        else:
            seen.wrong += said[0] == 200
            seen.denied += said[0] != 200
            seen.first = seen.first or f"{place}: {said} instead of {right}"[:300]


def command(seen: Seen, *arguments: str | Path) -> tuple[int, str]:
    """Run one of our commands in this process; its exit code and all that it printed."""
    name, code = " ".join(map(str, arguments[:2])), 0
    before = sys.argv, sys.stdout, sys.stderr
    with tempfile.TemporaryFile() as printed, _printing_to(printed.fileno()):
        sys.argv = ["retinue", *map(str, arguments)]
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115 - the descriptor stays
        try:
            retinue_main()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 0
        except BaseException as error:  # noqa: BLE001 - this is what is looked for
            seen.faults.append(f"{name}: {_told(error)}")
            code = -1
        finally:
            sys.stderr.flush()
            sys.argv, sys.stdout, sys.stderr = before
        printed.seek(0)
        text = printed.read().decode(errors="replace")
    if "Traceback" in text or "unexpected error" in text or "out of memory" in text or code not in (-1, 0, 1, 2):
        seen.faults.append(f"{name}: exit code {code}: {text[-300:]}")
    return code, text


@contextlib.contextmanager
def _printing_to(descriptor: int) -> Iterator[None]:
    """Let what this process prints go to another file; commands replace Python's own streams."""
    kept = [os.dup(1), os.dup(2)]
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    try:
        yield
    finally:
        for own, number in zip(kept, (1, 2), strict=True):
            os.dup2(own, number)
            os.close(own)


def resume_audit(subject: Subject, folder: Path, seen: Seen) -> None:
    """Open the audit log for writing, as a server's start does, and add a record."""
    try:
        with closing(open_store(str(subject.store)).access()) as access:
            checkpoint = asyncio.run(access.audit_checkpoint())
            with closing(AuditLog(folder, checkpoint, RotationPolicy(1 << 20, 3600), lambda: subject.now)) as audit_log:
                oldest_expired(folder, subject.now, 86_400)
                with contextlib.suppress(OSError):
                    audit_log.write(
                        [
                            json.encode(
                                AuditRecord(
                                    time=subject.now,
                                    log_id="x",
                                    endpoint="none",
                                    status=404,
                                    code="x",
                                    microseconds=0,
                                    peer="",
                                )
                            )
                        ]
                    )
                audit_log.sync()
    except RetinueError:
        seen.named = True
    except Exception as error:  # noqa: BLE001 - this is what is looked for
        seen.faults.append(f"audit log: {_told(error)}")


def good_token(subject_store: Path, now: int, client: tuple[str, str]) -> str:
    """A token that holds at a second."""
    with closing(open_store(str(subject_store)).access()) as access:
        authenticator = wiring.authenticator(access, StandingClock(now))

        async def issue() -> str:
            return await authenticator.issue_token(await authenticator.authenticate(*client))

        return asyncio.run(issue())


def _told(error: BaseException) -> str:
    """An error and where it was raised."""
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    where = "?" if place is None else f"{Path(place.tb_frame.f_code.co_filename).name}:{place.tb_lineno}"
    return f"{type(error).__name__} at {where}: {' '.join(str(error).split())[:150]}"
