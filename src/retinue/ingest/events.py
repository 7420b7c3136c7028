"""One line of JSON to one event.

Ordinary follows and unfollows are decoded directly, and `parse_event` handles all other lines.
"""

from collections.abc import Callable
from typing import cast

import msgspec

from retinue.ingest import event_schema, records
from retinue.ingest import values as read
from retinue.ingest.values import BadRecord, Values
from retinue.model import AccountEvent, AccountRecord, ErasureEvent, Event, FollowEvent
from retinue.names import fault_in_key

_NAMES = ("follower", "followee", "account", "username")
_as_ordinary = msgspec.json.Decoder(event_schema.FollowForm | event_schema.UnfollowForm).decode
_Read = Callable[[Values], Event]


def event_of(line: bytes) -> Event:
    """Return the event of a line. Raises `BadRecord`."""
    try:
        form = _as_ordinary(line)
    except (ValueError, RecursionError):
        return parse_event(line)
    follower, followee, at = form.follower, form.followee, form.at
    if _is_plain(follower) and _is_plain(followee) and type(at) is int:
        return FollowEvent(cast("str", follower), cast("str", followee), at, type(form) is event_schema.FollowForm)
    return parse_event(line)


def repaired_event(line: bytes) -> tuple[Event, int]:
    """Return a line's event and its number of replaced surrogates. Raises `BadRecord`."""
    content, count = read.replace_surrogates(line)
    event = event_of(content)
    if count:
        changed = read.fields_with_surrogates(line)
        for field in _NAMES:  # with U+FFFD the event would name another account
            if field in changed:
                raise read.halved(field, read.json_object(content)[field])
    return event, count


def _is_plain(key: object) -> bool:
    return type(key) is str and key == key.strip() and not fault_in_key(key)


def parse_event(line: bytes) -> Event:
    """Return the event of a line of any kind. Raises `BadRecord`."""
    values = read.json_object(line)
    kind = values.get("event")
    if kind is None:
        raise BadRecord("event: is missing")
    if not isinstance(kind, str) or kind not in _KINDS:
        raise read.unexpected("event", f"one of {', '.join(_KINDS)}", kind)
    fields, event = _KINDS[kind]
    if unknown := values.keys() - fields:
        raise BadRecord("unknown field", f"unknown field {read.shown(min(unknown))} in an event of the kind {kind}")
    return event(values)


def _follow(values: Values) -> Event:
    follower, followee, at = _key(values, "follower"), _key(values, "followee"), _at(values)
    return FollowEvent(follower, followee, at, is_follow=values["event"] == "follow")


def _account(values: Values) -> Event:
    key = _key(values, "account")
    username = None if values.get("username") is None else read.name(values, "username")
    return AccountEvent(records.described_account(values, username, key), _at(values))


def _visibility(values: Values) -> Event:
    record = AccountRecord(key=_key(values, "account"), visibility=read.visibility(values, "visibility"))
    if record.visibility is None:
        raise BadRecord("visibility: is missing")
    return AccountEvent(record, _at(values))


def _erase(values: Values) -> Event:
    return ErasureEvent(_key(values, "account"), _at(values))


def _key(values: Values, field: str) -> str:
    key = read.key(values, field)
    if key is None:
        raise BadRecord(f"{field}: is {'missing' if values.get(field) is None else 'empty'}")
    return key


def _at(values: Values) -> int:
    at = read.second(values, "at")
    if at is None:
        raise BadRecord("at: is missing; without its time an event cannot be repeated safely")
    return at


def _kind(form: type[event_schema.EventForm], event: _Read) -> tuple[frozenset[str], _Read]:
    return frozenset({"event", *form.__struct_fields__}), event


_KINDS = {
    "follow": _kind(event_schema.FollowForm, _follow),
    "unfollow": _kind(event_schema.UnfollowForm, _follow),
    "account": _kind(event_schema.AccountForm, _account),
    "visibility": _kind(event_schema.VisibilityForm, _visibility),
    "erase": _kind(event_schema.EraseForm, _erase),
}
