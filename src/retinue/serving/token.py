"""Where a server's management token lies. Supervisor and keeper ask: the one to fail early, the other to use it."""

import secrets
from pathlib import Path

from retinue import assemble
from retinue.access.management import ManagementToken, management_token
from retinue.settings import Settings


def token_of(settings: Settings) -> ManagementToken:
    """The management token of a server, made now if there is none. Raises `InputError`."""
    named = settings.management_token_file
    path = Path(named) if named else assemble.beside(settings.store, "management-token")
    return management_token(path, secrets.token_bytes)
