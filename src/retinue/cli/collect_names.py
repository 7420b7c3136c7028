"""Reading a file of usernames, one a line."""

from dataclasses import dataclass
from pathlib import Path

from retinue.cli.output import warn
from retinue.errors import InputError

_MAX_SHOWN_LINES = 20
_QUOTES = ('"', "'")
_PROFILE_PAGE = "tiktok.com/@"


@dataclass(frozen=True)
class Names:
    """Distinct usernames, and the number of rejected lines."""

    usernames: list[str]
    rejected: int


def read(path: Path) -> Names:
    """Read usernames and report other lines. Raises `InputError` if there are none."""
    from retinue import names

    usernames: dict[str, str] = {}
    rejected = 0
    for number, line in enumerate(_lines(path), 1):
        name = line.strip()
        if len(name) > 1 and name[0] == name[-1] and name[0] in _QUOTES:
            name = name[1:-1].strip()
        if not name or line.lstrip().startswith("#"):
            continue
        if fault := _fault(name):
            rejected += 1
            if rejected <= _MAX_SHOWN_LINES:
                warn(f"{path}: line {number}: {name!r} {fault}")
        else:
            usernames.setdefault(names.fold(name), names.as_answered(name))
    if rejected > _MAX_SHOWN_LINES:
        warn(f"{path}: {rejected - _MAX_SHOWN_LINES:,} more lines are not usernames")
    if not usernames:
        raise InputError(f"{path}: contains no usernames")
    return Names(list(usernames.values()), rejected)


def _lines(path: Path) -> list[str]:
    try:
        # Bytes that are not UTF-8 become characters that no username has.
        with path.open(encoding="utf-8-sig", errors="surrogateescape") as file:
            return file.readlines()  # ends at line breaks only, unlike str.splitlines
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from None


def _fault(name: str) -> str | None:
    """Return the reason why a name cannot be a username, or None."""
    from retinue import names

    if any("\ud800" <= each <= "\udfff" for each in name):
        return "is not UTF-8 text"
    if _PROFILE_PAGE in name.lower():
        return "is the address of a profile page; give only the username"
    return names.fault_in_username(name)
