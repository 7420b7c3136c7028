"""Requests to the management API."""

import http.client
import json
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from running import Server

EVENTS = "/events"


def token_path(store: Path) -> Path:
    """Return the path of a store's management token."""
    return store.with_name(f"{store.stem}.management-token")


def asked(
    url: str, path: str, body: Any = None, token: str | None = None, method: str = "POST"
) -> tuple[int, dict[str, str], Any]:
    """Return status, headers and JSON of an answer."""
    with closing(http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)) as connection:
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, json.load(answer)


def posted(server: Server, store: Path, body: Any) -> tuple[int, Any]:
    """Return status and JSON of the answer to a POST with the right token."""
    status, _, answer = asked(server.management_url, EVENTS, body, token_path(store).read_text().strip())
    return status, answer
