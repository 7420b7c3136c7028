"""Requests of clients, from bytes to queries.

Real clients write the same query in many forms. Raises a `Refusal` for other forms.
"""

import re
from typing import Any
from urllib.parse import parse_qsl

import msgspec
from msgspec import Raw, Struct

from retinue import errors
from retinue.model import DEFAULT_COUNT, Profile, Query

MAX_COUNT = 100
MAX_BODY_BYTES = 64 * 1024
PROFILE_FIELDS = Profile.__struct_fields__

_MAX_INT64 = 2**63 - 1
_FIRST_MILLISECONDS = 10**11  # the year 5138 as seconds, 1973 as milliseconds: real clients send both
_UTF8_BOM = b"\xef\xbb\xbf"
_EXPECTED_BODY = "expected a JSON object or form pairs in UTF-8"
_DIGITS = re.compile(r"-?[0-9]{1,20}")


def read_query(body: bytes) -> Query:
    """Return the query for a list in a body. Raises `BadBody`, `BadField` or `BadCountOrCursor`."""
    username, max_count, cursor, as_of = _read_fields(body)
    return Query(
        _username(username),
        _max_count(max_count),
        None if cursor is None else _second(cursor, "cursor"),
        None if as_of is None else _second(as_of, "as_of"),
    )


def read_plain_query(body: bytes) -> Query | None:
    """Return a query in the usual JSON form; None for other forms."""
    try:
        if not body.isascii():
            body.decode()
        query = _decode_query(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    cursor = query.cursor
    is_plain = (
        1 <= query.max_count <= MAX_COUNT
        and (cursor is None or 0 < cursor < _FIRST_MILLISECONDS)
        and query.as_of is None
        and query.username not in _NO_NAMES
    )
    return query if is_plain else None


def read_profile_query(body: bytes, query_string: bytes) -> tuple[str, list[str]]:
    """Return the username and the fields of a query for a profile.

    Each field comes once, in the order asked. Raises `BadBody` or `BadField`.
    """
    username, *_ = _read_fields(body)
    return _username(username), _profile_fields(query_string)


class Proof(Struct, frozen=True):
    """A client's authenticator."""

    client_key: str
    client_secret: str


def read_token_request(body: bytes) -> Proof:
    """Return the credentials of a token request, form pairs or JSON."""
    parameters = _read_parameters(body)
    proof = _proof(parameters)
    if _parameter(parameters, "grant_type", "Grant type") != "client_credentials":
        raise errors.UnsupportedGrant
    return proof


def read_revoke_request(body: bytes) -> tuple[Proof, str]:
    """Return the credentials and the token to revoke."""
    parameters = _read_parameters(body)
    return _proof(parameters), _parameter(parameters, "token", "Token")


# --- fields of a body -----------------------------------------------------------------------------------------------


_NO_NAMES = ("", "@")
_decode_query = msgspec.json.Decoder(Query).decode

_ABSENT = Raw(b"null")


class _Fields(Struct):
    username: Raw = _ABSENT
    max_count: Raw = _ABSENT
    cursor: Raw = _ABSENT
    as_of: Raw = _ABSENT


_decode_fields = msgspec.json.Decoder(_Fields).decode
_decode_value = msgspec.json.Decoder().decode


def _read_fields(body: bytes) -> tuple[Any, Any, Any, Any]:
    """Return username, max_count, cursor and as_of; None for absent fields."""
    body = body.removeprefix(_UTF8_BOM)
    try:
        if not body.isascii():
            body.decode()  # the decoder does not check the fields that it skips
        fields = _decode_fields(body)
        as_of = None if fields.as_of is _ABSENT else _value(fields.as_of)
        return _value(fields.username), _value(fields.max_count), _value(fields.cursor), as_of
    except RecursionError:
        raise errors.BadBody("nested too deeply") from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        pairs = None if _is_json(body) else read_pairs(body)
    if pairs is None:
        raise errors.BadBody(_EXPECTED_BODY + _encoding_hint(body))
    return pairs.get("username"), pairs.get("max_count"), pairs.get("cursor"), pairs.get("as_of")


def _value(raw: Raw) -> Any:
    """Return a field's value. A number that is too large becomes one out of range."""
    if raw is _ABSENT:
        return None
    try:
        return _decode_value(raw)
    except msgspec.ValidationError:
        first = bytes(raw)[:1]
        return [] if first == b"[" else {} if first == b"{" else _MAX_INT64 + 1


def _is_json(body: bytes) -> bool:
    try:
        _decode_value(body)
    except msgspec.ValidationError:
        return True
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return True


def read_pairs(body: bytes) -> dict[str, str] | None:
    """Return form pairs; None for any other body."""
    if body.lstrip()[:1] in (b"{", b"[") or b"=" not in body or _encoding_hint(body):
        return None
    try:
        return dict(parse_qsl(body.decode(), keep_blank_values=True, errors="strict"))
    except ValueError:
        return None


def _encoding_hint(body: bytes) -> str:
    """Return a hint if a body is UTF-16 or UTF-32."""
    is_wide = body[:2] in (b"\xff\xfe", b"\xfe\xff") or 0 in body[:2]
    return ", but it is in UTF-16 or UTF-32" if is_wide else ""


def _type_hint(value: Any) -> str:
    """Return a hint if a value is an array or an object."""
    # R's jsonlite puts every value into an array by default.
    if isinstance(value, list):
        return ", not an array (in R, toJSON needs auto_unbox = TRUE)"
    return ", not an object" if isinstance(value, dict) else ""


def _username(value: Any) -> str:
    if isinstance(value, str) and value not in _NO_NAMES:
        return value
    raise errors.BadField(f"username: expected a non-empty string{_type_hint(value)}")


def _max_count(value: Any) -> int:
    if value is None:
        return DEFAULT_COUNT
    count = _whole(value)
    if count is None:
        raise errors.BadField(f"max_count: expected an integer from 1 to {MAX_COUNT}{_type_hint(value)}")
    if not 1 <= count <= MAX_COUNT:
        raise errors.BadCountOrCursor
    return count


def _second(value: Any, name: str) -> int | None:
    """Return the second of a number of seconds or milliseconds. None is now."""
    if value == "":
        return None
    second = _whole(value)
    if second is None:
        raise errors.BadField(f"{name}: expected Unix seconds as an integer of 0 or more{_type_hint(value)}")
    if not 0 <= second <= _MAX_INT64:
        raise errors.BadCountOrCursor
    if second >= _FIRST_MILLISECONDS:
        second //= 1000
    return second or None


def _whole(value: Any) -> int | None:
    """Return the integer that a JSON value stands for, or None."""
    if type(value) is int:
        return value
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str) and _DIGITS.fullmatch(value):
        return int(value)
    return None


# --- the query string of a profile ----------------------------------------------------------------------------------


_EXPECTED_FIELDS = f"fields: expected one or several of {', '.join(PROFILE_FIELDS)} in the query string"


def _profile_fields(query_string: bytes) -> list[str]:
    pairs = parse_qsl(query_string.decode(errors="replace"), keep_blank_values=True)
    asked = [part.strip() for name, value in pairs if name == "fields" for part in value.split(",")]
    if not asked or not set(asked) <= set(PROFILE_FIELDS):
        raise errors.BadField(_EXPECTED_FIELDS)
    return list(dict.fromkeys(asked))


# --- parameters of a token request ----------------------------------------------------------------------------------


PROOF_LABELS = ("Client key", "Client secret")


def _read_parameters(body: bytes) -> dict[str, Any]:
    body = body.removeprefix(_UTF8_BOM)
    pairs = read_pairs(body) if body else {}
    if pairs is not None:
        return dict(pairs)
    try:
        return msgspec.json.decode(body, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise errors.MalformedParameters(f"body: {_EXPECTED_BODY}{_encoding_hint(body)}") from None


def _proof(parameters: dict[str, Any]) -> Proof:
    key, secret = PROOF_LABELS
    return Proof(_parameter(parameters, "client_key", key), _parameter(parameters, "client_secret", secret))


def _parameter(parameters: dict[str, Any], name: str, label: str) -> str:
    value = parameters.get(name)
    if value is None:
        raise errors.MissingParameter(label)
    if not isinstance(value, str) or not value:
        raise errors.MalformedParameters(f"{name}: expected a non-empty string{_type_hint(value)}")
    return value
