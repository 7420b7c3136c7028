"""The management token: its holder may change the graph over HTTP. Only its owner may read its file."""

import hmac
import os
import re
import stat
from collections.abc import Callable
from pathlib import Path

from retinue.access.clients import fresh_secret
from retinue.access.credentials import MAX_TOKEN_BYTES, bearer_token
from retinue.durable import write_atomically
from retinue.errors import InputError, TokenInvalid
from retinue.permissions import is_private
from retinue.regular import open_regular

SHORTEST_TOKEN = 20
_UNFIT = re.compile(rb"[^!-~]")


class ManagementToken:
    """The token, compared in constant time."""

    def __init__(self, token: bytes) -> None:
        self._token = token

    def is_in(self, authorization: bytes) -> bool:
        """Whether an Authorization header brings this token."""
        try:
            return hmac.compare_digest(bearer_token(authorization), self._token)
        except TokenInvalid:
            return False


def management_token(path: Path, random_bytes: Callable[[int], bytes]) -> ManagementToken:
    """Return the token of a file; create it if needed. Raises `InputError`."""
    try:
        if not path.exists():
            with write_atomically(path, replaces=False) as unfinished:
                unfinished.write_bytes(fresh_secret(random_bytes).encode() + b"\n")
        return ManagementToken(_content(path))
    except OSError as error:
        raise InputError(f"{path}: the management token cannot be kept here: {error.strerror}") from error


def _content(path: Path) -> bytes:
    with os.fdopen(open_regular(path, os.O_RDONLY, follows_links=True), "rb") as file:
        status = os.fstat(file.fileno())
        if not is_private(status):
            raise InputError(
                f"{path}: others may use the management token (mode {stat.S_IMODE(status.st_mode):04o}); `chmod 600`"
                " it, or better remove it: a fresh one is made"
            )
        token = file.read(2 * MAX_TOKEN_BYTES).strip()
    if not SHORTEST_TOKEN <= len(token) <= MAX_TOKEN_BYTES or _UNFIT.search(token):
        expected = f"{SHORTEST_TOKEN} to {MAX_TOKEN_BYTES} printable ASCII characters without spaces"
        raise InputError(f"{path}: holds no token: expected {expected}; remove it, and a fresh one is made")
    return token
