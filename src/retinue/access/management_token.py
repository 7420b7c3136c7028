"""The management token, which allows changing the graph over HTTP."""

import hmac
import os
import re
import stat
from collections.abc import Callable
from pathlib import Path

from retinue.access.authentication import MAX_TOKEN_BYTES, bearer_token
from retinue.access.clients import fresh_secret
from retinue.durable import write_atomically
from retinue.errors import InputError, InvalidToken
from retinue.safe_files import is_private, open_regular

MIN_TOKEN_BYTES = 20
_UNFIT = re.compile(rb"[^!-~]")


class ManagementToken:
    """A token whose value cannot be read back."""

    def __init__(self, token: bytes) -> None:
        self._token = token

    def is_in(self, authorization: bytes) -> bool:
        """Return whether an Authorization header has this token."""
        try:
            return hmac.compare_digest(bearer_token(authorization), self._token)
        except InvalidToken:
            return False


def management_token(path: Path, random_bytes: Callable[[int], bytes]) -> ManagementToken:
    """Return the token in a file; create it if needed. Raises `InputError`."""
    try:
        if not path.exists():
            with write_atomically(path, replaces=False) as unfinished:
                unfinished.write_bytes(fresh_secret(random_bytes).encode() + b"\n")
        return ManagementToken(_content(path))
    except OSError as error:
        raise InputError(f"{path}: the management token cannot be stored here: {error.strerror}") from error


def _content(path: Path) -> bytes:
    with os.fdopen(open_regular(path, os.O_RDONLY, follows_links=True), "rb") as file:
        status = os.fstat(file.fileno())
        if not is_private(status):
            raise InputError(
                f"{path}: others may use the management token (mode {stat.S_IMODE(status.st_mode):04o}); `chmod 600`"
                " it, or better remove it: a new one is created"
            )
        token = file.read(2 * MAX_TOKEN_BYTES).strip()
    if not MIN_TOKEN_BYTES <= len(token) <= MAX_TOKEN_BYTES or _UNFIT.search(token):
        expected = f"{MIN_TOKEN_BYTES} to {MAX_TOKEN_BYTES} printable ASCII characters without spaces"
        raise InputError(f"{path}: has no token: expected {expected}; remove it, and a new one is created")
    return token
