"""Where a server's management token lies. Supervisor and keeper ask: the one to fail early, the other to use it."""

import secrets
from pathlib import Path

from retinue import assemble
from retinue.access.management_token import ManagementToken, management_token
from retinue.settings import Settings


def token_of(settings: Settings) -> ManagementToken:
    """The management token of a server, made now if there is none. Raises `InputError`."""
    return management_token(token_path(settings), secrets.token_bytes)


def token_path(settings: Settings) -> Path:
    """Return where the management token of a server lies."""
    named = settings.management_token_file
    return Path(named) if named else assemble.beside(settings.store, "management-token")
