"""The wire of the two research calls, pure: bytes to query, and page, token or refusal to bytes.

Holds the one table of error codes, statuses and messages. Knows no HTTP library, no store and no clock.
Where TikTok's page is silent the choices are explained in `docs/compatibility.md`.
"""

import re
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl

import msgspec
from msgspec import Raw, Struct

from retinue import errors
from retinue.model import TOKEN_SECONDS, Page, Query, Row

DEFAULT_COUNT = 20
MAX_COUNT = 100
MAX_BODY_BYTES = 64 * 1024
LOG_ID_RANDOM_BYTES = 10

_MAX_INT64 = 2**63 - 1
_FIRST_MILLISECONDS = 10**11  # the year 5138 as seconds, 1973 as milliseconds: real clients send both
_MAX_QUOTED = 255
_DIGITS = re.compile(r"-?[0-9]{1,20}")


# --- refusals -------------------------------------------------------------------------------------------------------


class Wording(Struct, frozen=True):
    """How a refusal reads on the wire. `{detail}` stands for the refusal's own detail.

    `flat_code` is the code at the token endpoint, whose errors follow OAuth instead of the v2 envelope.
    """

    status: int
    code: str
    message: str
    flat_code: str = "invalid_request"
    retry_after: int | None = None


_BUSY = "The service is temporarily unavailable. Please try again later."

WORDINGS: dict[type[errors.Refusal], Wording] = {
    errors.BadBody: Wording(400, "invalid_params", "body: {detail}"),
    errors.BadField: Wording(400, "invalid_params", "{detail}"),
    errors.BadCountOrCursor: Wording(400, "invalid_params", "Invalid count or cursor"),
    errors.BodyTooLarge: Wording(413, "invalid_params", "body: longer than {detail} bytes"),
    errors.NotHttp: Wording(400, "invalid_params", "The bytes received are not a valid HTTP request."),
    # The three fragments after the name are matched by real clients, so their words must stay.
    errors.AccountNotFound: Wording(400, "invalid_params", "username {detail} is invalid: cannot find the user"),
    errors.AccountPrivate: Wording(400, "invalid_params", "username {detail} is private"),
    errors.AccountWithheld: Wording(400, "invalid_params", "API cannot return this user's information"),
    errors.TokenInvalid: Wording(
        401, "access_token_invalid", "The access token is invalid or not found in the request.", "invalid_grant"
    ),
    errors.ScopeMissing: Wording(
        401,
        "scope_not_authorized",
        "The user did not authorize the scope required for completing this request: {detail}.",
        "invalid_scope",
    ),
    errors.ParameterMissing: Wording(400, "invalid_params", "{detail} is missed in request."),
    errors.ParametersMalformed: Wording(400, "invalid_params", "The request parameters are malformed."),
    errors.GrantUnsupported: Wording(
        400, "invalid_params", "The grant type must be client_credentials.", "unsupported_grant_type"
    ),
    errors.ClientInvalid: Wording(401, "access_token_invalid", "{detail}", "invalid_client"),
    errors.PathUnsupported: Wording(404, "unsupported_path", "Unsupported path"),
    errors.EndpointNotServed: Wording(404, "unsupported_path", "Retinue does not serve {detail}"),
    errors.MethodNotAllowed: Wording(405, "unsupported_path", "Unsupported method: use {detail}"),
    errors.StoreUnavailable: Wording(503, "internal_error", _BUSY, "temporarily_unavailable", retry_after=1),
    errors.Overloaded: Wording(503, "internal_error", _BUSY, "temporarily_unavailable", retry_after=1),
    errors.InternalFault: Wording(
        500, "internal_error", "Something went wrong on our side. Please try again later.", "server_error"
    ),
}


_encode = msgspec.json.Encoder().encode


def refusal_body(refusal: errors.Refusal, log_id: str) -> bytes:
    """The v2 envelope of a refusal: `data` is always an empty object, clients index into it."""
    wording = WORDINGS[type(refusal)]
    return _encode(
        {"data": {}, "error": {"code": wording.code, "message": _message(wording, refusal), "log_id": log_id}}
    )


def flat_refusal_body(refusal: errors.Refusal, log_id: str) -> bytes:
    """The flat form in which the token endpoint refuses."""
    wording = WORDINGS[type(refusal)]
    return _encode({"error": wording.flat_code, "error_description": _message(wording, refusal), "log_id": log_id})


def _message(wording: Wording, refusal: errors.Refusal) -> str:
    """A name is repeated as it was sent, but no longer than a name can be."""
    return wording.message.format(detail=refusal.detail[:_MAX_QUOTED])


# --- answers --------------------------------------------------------------------------------------------------------


def shown_row(display_name: str, username: str) -> bytes:
    """A row as it stands in any page."""
    return _encode(Row(display_name, username))


_PAGE = b'{"data":{"user_following":[%b],"cursor":%d,"has_more":%b},"error":{"code":"ok","message":"ok","log_id":"%b"}}'


def page_body(page: Page[bytes], log_id: str) -> bytes:
    """A page of the following list, put together from rows that are ready.

    All three keys are always there: clients read them unasked.
    """
    has_more = b"true" if page.has_more else b"false"
    return _PAGE % (b",".join(page.rows), page.cursor, has_more, log_id.encode())


def token_body(token: str) -> bytes:
    """A fresh token; clients index all three keys."""
    return _encode({"access_token": token, "expires_in": TOKEN_SECONDS, "token_type": "Bearer"})


def log_id_date(now: int) -> str:
    """The first 14 of a log_id's 34 characters: UTC to the second. The other 20 are random bytes in upper-case hex."""
    return f"{datetime.fromtimestamp(now, UTC):%Y%m%d%H%M%S}"


# --- requests -------------------------------------------------------------------------------------------------------


_ABSENT = Raw(b"null")


class _Fields(Struct):
    """Fields as they came, unread; unknown ones are skipped."""

    username: Raw = _ABSENT
    max_count: Raw = _ABSENT
    cursor: Raw = _ABSENT


_decode_fields = msgspec.json.Decoder(_Fields).decode
_decode_value = msgspec.json.Decoder().decode


def read_query(body: bytes) -> Query:
    """The query in a request body. Raises `BadBody`, `BadField` or `BadCountOrCursor`."""
    username, max_count, cursor = _read_fields(body)
    return Query(_username(username), _max_count(max_count), _cursor(cursor))


def read_credentials(body: bytes) -> tuple[str, str]:
    """Client key and secret of a token request, form pairs or JSON. Raises what the token endpoint refuses with."""
    parameters = _read_parameters(body)
    values = [
        _parameter(parameters, name, label)
        for name, label in (
            ("client_key", "Client key"),
            ("client_secret", "Client secret"),
            ("grant_type", "Grant type"),
        )
    ]
    if values[2] != "client_credentials":
        raise errors.GrantUnsupported
    return values[0], values[1]


def _read_fields(body: bytes) -> tuple[Any, Any, Any]:
    try:
        if not body.isascii():
            body.decode()  # the decoder does not look into what it skips
        fields = _decode_fields(body)
        return _value(fields.username), _value(fields.max_count), _value(fields.cursor)
    except RecursionError:
        raise errors.BadBody("nested too deeply") from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        pairs = None if _is_json(body) else read_pairs(body)
    if pairs is None:
        raise errors.BadBody("expected a JSON object or form pairs in UTF-8")
    return pairs.get("username"), pairs.get("max_count"), pairs.get("cursor")


def _value(raw: Raw) -> Any:
    """A field's value. A number that no 64-bit type holds is one beyond int64, which the ranges then refuse."""
    try:
        return _decode_value(raw)
    except msgspec.ValidationError:
        return _MAX_INT64 + 1 if bytes(raw)[:1] in b"-0123456789" else _Unreadable


class _Unreadable:
    """Stands for a value with such a number somewhere inside; it fits no field."""


def _is_json(body: bytes) -> bool:
    try:
        _decode_value(body)
    except msgspec.ValidationError:
        return True
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return True


def read_pairs(body: bytes) -> dict[str, str] | None:
    """Form pairs, the last of equal names; None where the body is none. What begins like JSON never is."""
    if body.lstrip()[:1] in (b"{", b"[") or b"=" not in body:
        return None
    try:
        return dict(parse_qsl(body.decode(), keep_blank_values=True, errors="strict"))
    except ValueError:
        return None


def _username(value: Any) -> str:
    if isinstance(value, str) and value not in ("", "@"):
        return value
    raise _bad_username()


def _bad_username() -> errors.BadField:
    return errors.BadField("username: expected a non-empty string")


def _max_count(value: Any) -> int:
    if value is None:
        return DEFAULT_COUNT
    count = _whole(value)
    if count is None:
        raise errors.BadField(f"max_count: expected an integer from 1 to {MAX_COUNT}")
    if not 1 <= count <= MAX_COUNT:
        raise errors.BadCountOrCursor
    return count


def _cursor(value: Any) -> int | None:
    if value is None or value == "":
        return None
    cursor = _whole(value)
    if cursor is None:
        raise errors.BadField("cursor: expected Unix seconds as an integer of 0 or more")
    if not 0 <= cursor <= _MAX_INT64:
        raise errors.BadCountOrCursor
    if cursor >= _FIRST_MILLISECONDS:
        cursor //= 1000
    return cursor or None


def _whole(value: Any) -> int | None:
    """The whole number that a JSON value stands for, or None where it stands for none."""
    if type(value) is int:
        return value
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str) and _DIGITS.fullmatch(value):
        return int(value)
    return None


def _read_parameters(body: bytes) -> dict[str, Any]:
    pairs = read_pairs(body) if body else {}
    if pairs is not None:
        return dict(pairs)
    try:
        return msgspec.json.decode(body, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise errors.ParametersMalformed from None


def _parameter(parameters: dict[str, Any], name: str, label: str) -> str:
    value = parameters.get(name)
    if value is None:
        raise errors.ParameterMissing(label)
    if not isinstance(value, str) or not value:
        raise errors.ParametersMalformed
    return value
