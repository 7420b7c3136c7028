"""Serve a damaged store by the real `retinue serve`, in processes of its own, and ask it over HTTP."""

import http.client
import json
import select
import signal
import subprocess
from collections.abc import Iterator
from urllib.parse import urlencode, urlsplit

from damage_probe import Seen, Subject
from running import ANSWER_SECONDS, START_SECONDS, STOP_SECONDS, command_of

_PATHS = {kind: f"/v2/research/user/{kind}/" for kind in ("following", "followers", "info")}
_FIELDS = "?fields=display_name,follower_count"
_EXIT_CODES = (0, 1, 2)


def ask_server(subject: Subject, seen: Seen) -> None:
    """Start a server, ask every question, stop it. Faults go to `seen`."""
    log = subject.store.with_name("serve.log")
    command = command_of("serve", "--store", subject.store, "--port", "0", "--management-port", "0")
    with log.open("wb") as errors, subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors) as server:
        try:
            _ask(server, subject, seen)
        finally:
            _stop(server, seen)
    text = log.read_text(errors="replace")
    if "Traceback" in text or "unexpected error" in text:
        seen.faults.append(f"serve: {text[-400:]}")
    if seen.refused and not text.strip():
        seen.faults.append("serve: ended without a word")


def _ask(server: subprocess.Popen[bytes], subject: Subject, seen: Seen) -> None:
    assert server.stdout is not None
    is_ready = select.select([server.stdout], [], [], START_SECONDS)[0]
    line = server.stdout.readline().decode() if is_ready else ""
    if not is_ready:
        seen.faults.append("serve: hang at the start")
    elif " on http" not in line:
        seen.refused = "serve ended"
    else:
        public = line.partition(" on ")[2].split()[0]
        management = line.rpartition("management on ")[2].partition(")")[0]
        for status in (*_public(public, subject), *_management(management)):
            seen.statuses[str(status)] = seen.statuses.get(str(status), 0) + 1
            if status == http.HTTPStatus.INTERNAL_SERVER_ERROR:
                seen.faults.append("serve: status 500")
            elif not status:
                seen.faults.append("serve: no answer")


def _public(url: str, subject: Subject) -> Iterator[int]:
    key, secret = subject.client
    form = urlencode({"client_key": key, "client_secret": secret, "grant_type": "client_credentials"})
    status, body = _request(url, "POST", "/v2/oauth/token/", form)
    yield status
    token = json.loads(body)["access_token"] if status == http.HTTPStatus.OK else subject.token
    for kind, query in subject.questions:
        path = _PATHS[kind] + (_FIELDS if kind == "info" else "")
        yield _request(url, "POST", path, json.dumps(query), {"Authorization": f"Bearer {token}"})[0]


def _management(url: str) -> Iterator[int]:
    for path in ("/health", "/ready"):
        yield _request(url, "GET", path, "")[0]


def _request(url: str, method: str, path: str, body: str, headers: dict[str, str] | None = None) -> tuple[int, bytes]:
    """Status and body; 0 where no answer came."""
    address = urlsplit(url)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=ANSWER_SECONDS)
    try:
        connection.request(method, path, body.encode(), headers or {})
        response = connection.getresponse()
        return response.status, response.read()
    except (OSError, http.client.HTTPException):
        return 0, b""
    finally:
        connection.close()


def _stop(server: subprocess.Popen[bytes], seen: Seen) -> None:
    server.send_signal(signal.SIGTERM)
    try:
        code = server.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        server.kill()
        seen.faults.append("serve: hang at the stop")
        return
    if code not in _EXIT_CODES:
        seen.faults.append(f"serve: exit code {code}")
