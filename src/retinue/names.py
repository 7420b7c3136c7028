"""Rules for usernames and keys: what is accepted, how names compare, how they are answered. Pure.

Names of any platform are welcome: printable text without whitespace, at most 255 characters.
Two names are the same when their folded forms are equal.
"""

import hashlib
import re
import unicodedata

MAX_USERNAME_CHARACTERS = 255
MAX_KEY_BYTES = 64

_PLAIN = re.compile(r"[A-Za-z0-9_.]*")


def without_at(name: str) -> str:
    """The name without one leading `@`."""
    return name.removeprefix("@")


def fold(name: str) -> str:
    """The form in which usernames are compared: NFC(casefold(NFC(name))), without one leading `@`."""
    bare = name.removeprefix("@")
    if bare.isascii():
        return bare.lower()
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", bare).casefold())


def as_answered(name: str) -> str:
    """The username as answers carry it: as imported, but lower case where it is all `[A-Za-z0-9_.]`."""
    bare = without_at(name)
    return bare.lower() if _PLAIN.fullmatch(bare) else bare


def keys_of_name(name: str) -> tuple[str, str]:
    """Keys for an account whose source has none, best first: the name first seen, and the SHA-256 of its folded form.

    The second is for names that are too long for a key, or that are another account's id.
    """
    hashed = hashlib.sha256(fold(name).encode()).hexdigest()
    bare = without_at(name)
    return (bare if len(bare.encode()) <= MAX_KEY_BYTES else hashed), hashed


def next_key(hashed: str) -> str:
    """Another key, where one that was made of a name is taken."""
    return hashlib.sha256(hashed.encode()).hexdigest()


def is_made_of(key: str, folded: str) -> bool:
    """Whether a key was made of a name, in whatever spelling, and not given by a source."""
    return fold(key) == folded or key == keys_of_name(folded)[1]


def fault_in_username(name: str) -> str | None:
    """Why `name` cannot be a username, or None where it can."""
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
    """Why `key` cannot be an account's key, or None where it can."""
    if not key:
        return "is empty"
    if len(key.encode()) > MAX_KEY_BYTES:
        return f"is longer than {MAX_KEY_BYTES} bytes"
    if not key.isprintable():
        return "has characters that cannot be printed"
    return None
