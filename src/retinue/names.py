"""Rules for usernames and keys."""

import hashlib
import re
import unicodedata

MAX_USERNAME_CHARACTERS = 255
MAX_KEY_BYTES = 64

_PLAIN = re.compile(r"[A-Za-z0-9_.]*")
_SHORT_PLAIN = re.compile(rf"[A-Za-z0-9_.]{{1,{MAX_KEY_BYTES}}}")


def without_at(name: str) -> str:
    """Remove one leading `@`."""
    return name.removeprefix("@")


def fold(name: str) -> str:
    """Return the form in which names are compared, without `@`."""
    bare = name.removeprefix("@")
    if bare.isascii():
        return bare.lower()
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", bare).casefold())


def as_answered(name: str) -> str:
    """Return the username in responses: in lower case if it is plain."""
    bare = name.removeprefix("@")
    return bare if bare.islower() or not _PLAIN.fullmatch(bare) else bare.lower()


def keys_of_name(name: str) -> tuple[str, str]:
    """Return two possible keys for an account without one.

    The first is its name, or the hash if that is too long; the second is the hash.
    """
    hashed = hashlib.sha256(fold(name).encode()).hexdigest()
    bare = without_at(name)
    return (bare if len(bare.encode()) <= MAX_KEY_BYTES else hashed), hashed


def is_own_key(name: str) -> bool:
    """Return whether a name is the first of its keys."""
    return not name.startswith("@") and len(name.encode()) <= MAX_KEY_BYTES


def is_key_and_username(text: str) -> bool:
    """Return whether a text is valid as both."""
    if _SHORT_PLAIN.fullmatch(text):
        return True
    return fault_in_username(text) is None and is_own_key(text)


def next_key(hashed: str) -> str:
    """Return another key if the hash is taken."""
    return hashlib.sha256(hashed.encode()).hexdigest()


def is_made_of(key: str, folded: str) -> bool:
    """Return whether a key was made from a folded name."""
    return fold(key) == folded or key == keys_of_name(folded)[1]


def fault_in_username(name: str) -> str | None:
    """Return why a name cannot be a username, or None."""
    bare = without_at(name)
    if not bare:
        return "is empty"
    if bare.startswith("@"):
        return "begins with more than one @"
    if len(bare) > MAX_USERNAME_CHARACTERS:
        return f"is longer than {MAX_USERNAME_CHARACTERS} characters"
    if not bare.isprintable() or " " in bare:
        return "has whitespace or characters that cannot be printed"
    return None


def fault_in_key(key: str) -> str | None:
    """Return why a text cannot be an account's key, or None."""
    if not key:
        return "is empty"
    if len(key.encode()) > MAX_KEY_BYTES:
        return f"is longer than {MAX_KEY_BYTES} bytes"
    if not key.isprintable():
        return "has characters that cannot be printed"
    return None
