"""The management token of a server. The supervisor asks for it to fail early, the coordinator to use it."""

import secrets
from pathlib import Path

from retinue.access.management import ManagementToken, management_token
from retinue.settings import Settings
from retinue.store.open import Store


def token_of(settings: Settings, store: Store) -> ManagementToken:
    """The management token of a server, made now if there is none. Raises `InputError`."""
    return management_token(token_path(settings, store), secrets.token_bytes)


def token_path(settings: Settings, store: Store) -> Path:
    """Return where the management token of a server lies."""
    named = settings.management_token_file
    return Path(named) if named else store.paths.management_token
