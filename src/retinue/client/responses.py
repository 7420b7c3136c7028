"""Parse responses: bytes to pages, profiles and tokens, or to a `BadResponse`. Pure.

TikTok's known variations are accepted: missing lists, numbers as strings, nulls, and errors with status 200.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Literal, TypeVar

import msgspec
from msgspec import Struct

from retinue.client.addresses import moved_to, not_an_api
from retinue.escaping import printable

OK = 200

_T = TypeVar("_T")

# Repeat the request: unusable unchanged, token with another token, slow after some seconds, quota on another day.
# Account (unavailable) and refused are final.
Kind = Literal["unusable", "token", "slow", "quota", "account", "refused"]


class Person(Struct, frozen=True):
    """A row of a list. A missing name is empty."""

    username: str = ""
    display_name: str = ""


class UserInfo(Struct, frozen=True, kw_only=True):
    """An account's profile. A missing field is None."""

    display_name: str | None = None
    bio_description: str | None = None
    avatar_url: str | None = None
    bio_url: str | None = None
    is_verified: bool | None = None
    follower_count: int | None = None
    following_count: int | None = None
    likes_count: int | None = None
    video_count: int | None = None


class RawUserInfo(Struct, frozen=True):
    """A profile with its provenance."""

    profile: UserInfo
    answered_at: int
    log_id: str
    body: bytes

    @property
    def sha256(self) -> str:
        """The hash of the raw bytes."""
        return hashlib.sha256(self.body).hexdigest()


class Token(Struct, frozen=True):
    """A bearer token and its lifetime in seconds."""

    access_token: str
    expires_in: int


class HttpResponse(Struct, frozen=True):
    """A whole HTTP response from `url`, with header names in lower case."""

    status: int
    body: bytes
    headers: Mapping[str, str] = {}
    url: str = ""

    @property
    def log_id(self) -> str:
        """The service's id of the request, or empty."""
        return self.headers.get("x-tt-logid", "").encode("ascii", "replace").decode()


class ListPage(Struct, frozen=True):
    """A page with its provenance. `bound` is the cursor that was sent; None means now."""

    rows: tuple[Person, ...]
    cursor: int
    has_more: bool
    bound: int | None
    answered_at: int
    log_id: str
    body: bytes

    @property
    def sha256(self) -> str:
        """The hash of the raw bytes."""
        return hashlib.sha256(self.body).hexdigest()


class BadResponse(Struct, frozen=True):
    """The reason why a response is not usable. `max_attempts` may lower the policy's limit.

    `is_foreign`: it is not in the API's form, so it may come from a gateway or another server.
    """

    kind: Kind
    message: str
    code: str = ""
    log_id: str = ""
    is_foreign: bool = False
    max_attempts: int | None = None


# Clients have recognized these fragments of messages since 2024.
_ACCOUNT_MESSAGES = {
    "cannot find the user": "unknown",
    "is private": "private",
    "cannot return this user's information": "withheld",
    "information cannot be returned": "withheld",
}
_KINDS: dict[str, Kind] = {
    "access_token_invalid": "token",
    "rate_limit_exceeded": "slow",
    "daily_quota_limit_exceeded": "quota",
    "scope_not_authorized": "refused",
    "scope_permission_missed": "refused",
    "invalid_params": "refused",
    "invalid_param": "refused",
    "invalid_request": "refused",
    "unsupported_path": "refused",
}
# Not 403: firewalls send it too, and it must not mark an account as unavailable for good.
_KINDS_BY_STATUS: dict[int, Kind] = {
    401: "token",
    404: "refused",
    405: "refused",
    413: "refused",
    429: "slow",
}
# Responses of gateways and other servers. "refused" is final only at a wrong address: once the API has answered, the
# protocol repeats the request.
_FOREIGN_KINDS: dict[int, Kind] = {401: "token", 404: "refused", 405: "refused", 407: "refused", 429: "slow"}
_REDIRECTS = (301, 302, 303, 307, 308)
_PROXY_LOGIN = 407
_MAX_TOKEN_SECONDS = 86_400
_MAX_MESSAGE = 500
_NO_PATH = b"Unsupported path"  # TikTok sends it without an envelope
_FINAL_TOKEN_ERRORS = {"invalid_client", "invalid_request", "unsupported_grant_type", "invalid_scope"}


class _Error(Struct):
    code: str = ""
    message: str = ""
    log_id: str = ""


class _Envelope(Struct):
    error: _Error
    data: dict[str, Any] | None = None


class _List(Struct):
    cursor: int
    has_more: bool
    user_following: tuple[Person, ...] | None = None
    user_followers: tuple[Person, ...] | None = None


class _TokenBody(Struct):
    access_token: str = ""
    expires_in: int = 0
    error: str = ""
    error_description: str = ""
    log_id: str = ""


def parse_page(response: HttpResponse, direction: str, bound: int | None, answered_at: int) -> ListPage | BadResponse:
    """Return the page in a response."""
    parsed = _data(response, _List)
    if isinstance(parsed, BadResponse):
        return parsed
    data, log_id = parsed
    rows = getattr(data, f"user_{direction}") or ()
    return ListPage(rows, data.cursor, data.has_more, bound, answered_at, log_id, response.body)


def parse_info(response: HttpResponse, answered_at: int) -> RawUserInfo | BadResponse:
    """Return the profile in a response."""
    parsed = _data(response, UserInfo)
    return parsed if isinstance(parsed, BadResponse) else RawUserInfo(parsed[0], answered_at, parsed[1], response.body)


def parse_token(response: HttpResponse) -> Token | BadResponse:
    """Return the token in a response of the token endpoint."""
    try:
        parsed = msgspec.json.decode(response.body.decode(), type=_TokenBody, strict=False)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        parsed = _TokenBody()
    if parsed.access_token and parsed.expires_in > 0:
        if not (parsed.access_token.isascii() and parsed.access_token.isprintable()):
            return BadResponse("unusable", "the token cannot be sent in a header", log_id=parsed.log_id)
        return Token(parsed.access_token, min(parsed.expires_in, _MAX_TOKEN_SECONDS))
    if not parsed.error:
        return _foreign(response)
    message = _one_line(parsed.error_description) or _summary(response)
    return BadResponse(
        "refused" if parsed.error in _FINAL_TOKEN_ERRORS else "unusable", message, parsed.error, parsed.log_id
    )


def unavailable_reason(message: str) -> str:
    """Return unknown, private or withheld for an account's error message."""
    return next((reason for fragment, reason in _ACCOUNT_MESSAGES.items() if fragment in message), "private")


def _data(response: HttpResponse, kind: type[_T]) -> tuple[_T, str] | BadResponse:
    envelope = _envelope(response.body)
    if envelope is None:
        return _foreign(response)
    error = envelope.error
    log_id = error.log_id or response.log_id
    if response.status != OK or error.code != "ok":
        return _bad_response(response, error, log_id)
    try:
        return _converted(envelope.data or {}, kind), log_id
    except msgspec.ValidationError as invalid:
        return BadResponse("unusable", f"a response without the requested data: {invalid}", log_id=log_id)


def _foreign(response: HttpResponse) -> BadResponse:
    location = response.headers.get("location") if response.status in _REDIRECTS else None
    kind: Kind = "refused" if location or _NO_PATH in response.body else _FOREIGN_KINDS.get(response.status, "unusable")
    if location:
        message = _one_line(moved_to(response.url, location))
    elif response.status == _PROXY_LOGIN:
        message = "the proxy requires a login: set http_proxy to http://USER:PASSWORD@HOST"
    elif kind == "refused":
        message = f"{not_an_api(response.url)}; {_summary(response)}"
    else:
        message = _summary(response)
    return BadResponse(kind, message, log_id=response.log_id, is_foreign=True)


def _envelope(body: bytes) -> _Envelope | None:
    try:
        text = body.decode()
    except UnicodeDecodeError:
        return None
    try:
        return msgspec.json.decode(text, type=_Envelope, strict=False)
    except (msgspec.MsgspecError, RecursionError):
        pass
    try:  # a second parser, which accepts unpaired surrogates
        return msgspec.convert(_repaired(json.loads(text)), _Envelope, strict=False)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None


def _converted(data: dict[str, Any], kind: type[_T]) -> _T:
    try:
        return msgspec.convert(data, kind, strict=False)
    except msgspec.ValidationError:
        return msgspec.convert(_repaired(data), kind, strict=False)


def _repaired(value: Any) -> Any:
    """Drop nulls, and replace unpaired surrogates (of a cut emoji) by U+FFFD."""
    if isinstance(value, dict):
        return {_repaired(name): _repaired(part) for name, part in value.items() if part is not None}
    if isinstance(value, list):
        return [{} if part is None else _repaired(part) for part in value]
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return value


def _bad_response(response: HttpResponse, error: _Error, log_id: str) -> BadResponse:
    code = error.code
    if any(fragment in error.message for fragment in _ACCOUNT_MESSAGES):
        return BadResponse("account", _one_line(error.message), code, log_id)
    kind = _KINDS.get(code) or _KINDS_BY_STATUS.get(response.status, "unusable")
    return BadResponse(kind, _one_line(error.message) or _summary(response), code, log_id)


def _one_line(message: str) -> str:
    return printable(message[:_MAX_MESSAGE])


def _summary(response: HttpResponse) -> str:
    beginning = response.body[:80].decode("utf-8", "replace")
    return f"status {response.status}, {len(response.body)} bytes: {beginning!r}"
