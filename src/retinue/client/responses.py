"""What a service of this contract answers: bytes to pages, profiles and tokens, or to the reason why not. Pure.

Forgiving where TikTok's own answers are known to vary (docs/client.md): a list that is missing is empty, numbers may
be strings, a null is as if it were not there, an error may come with status 200. Knows nothing of asking again.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Literal, TypeVar

import msgspec
from msgspec import Struct

from retinue.client.addresses import moved_to, not_an_api
from retinue.escaping import printable

LIST_KEYS = {"following": "user_following", "followers": "user_followers"}
OK = 200

_T = TypeVar("_T")

# Why an answer is none. unusable: worth asking again; token: with another token; slow: after some seconds; quota: on
# another day. The others are final: account is about the account that was asked for, refused is the rest.
Kind = Literal["unusable", "token", "slow", "quota", "account", "refused"]


class Person(Struct, frozen=True):
    """A row of a list. A name that the service left blank is empty."""

    username: str = ""
    display_name: str = ""


class Profile(Struct, frozen=True, kw_only=True):
    """What is known of an account; None where the service did not say."""

    display_name: str | None = None
    bio_description: str | None = None
    avatar_url: str | None = None
    bio_url: str | None = None
    is_verified: bool | None = None
    follower_count: int | None = None
    following_count: int | None = None
    likes_count: int | None = None
    video_count: int | None = None


class Info(Struct, frozen=True):
    """A profile as it came."""

    profile: Profile
    answered_at: int
    log_id: str
    body: bytes

    @property
    def sha256(self) -> str:
        """The hash of the raw bytes."""
        return hashlib.sha256(self.body).hexdigest()


class Token(Struct, frozen=True):
    """A bearer string, and for how many seconds it is good."""

    access_token: str
    expires_in: int


class Answer(Struct, frozen=True):
    """A whole HTTP answer to what was sent to `url`. The headers' names are in lower case."""

    status: int
    body: bytes
    headers: Mapping[str, str] = {}
    url: str = ""

    @property
    def log_id(self) -> str:
        """By which the service can find the request again; empty where it has said none."""
        return self.headers.get("x-tt-logid", "").encode("ascii", "replace").decode()


class Page(Struct, frozen=True):
    """A page as it came. `bound` is the cursor that was asked with; None: now, which was not after `answered_at`."""

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


class Fault(Struct, frozen=True):
    """Why an answer is none: what the service has said, or what is wrong with it.

    `is_foreign`: the answer is not in the API's form, and may be a gateway's or another server's. `max_attempts` are
    enough for such a fault; None if the policy decides.
    """

    kind: Kind
    message: str
    code: str = ""
    log_id: str = ""
    is_foreign: bool = False
    max_attempts: int | None = None


# Fragments of messages by which clients have told these cases apart since 2024.
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
# Not 403: who stands in between, such as a firewall, says that too, and no account may be given up for it.
_KINDS_BY_STATUS: dict[int, Kind] = {
    401: "token",
    404: "refused",
    405: "refused",
    413: "refused",
    429: "slow",
}
# Answers that are not the service's own, such as a gateway's. What is refused here is final only at a wrong address:
# the protocol asks again if the service of the API is known to be there.
_FOREIGN_KINDS: dict[int, Kind] = {401: "token", 404: "refused", 405: "refused", 407: "refused", 429: "slow"}
_REDIRECTS = (301, 302, 303, 307, 308)
_PROXY_LOGIN = 407
_LONGEST_TOKEN_SECONDS = 86_400  # after which there is another one
_LONGEST_MESSAGE = 500
_NO_PATH = b"Unsupported path"  # TikTok's service says it without an envelope
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


class _TokenAnswer(Struct):
    access_token: str = ""
    expires_in: int = 0
    error: str = ""
    error_description: str = ""
    log_id: str = ""


def page(answer: Answer, direction: str, bound: int | None, answered_at: int) -> Page | Fault:
    """The page in an answer. A list that is there under another name is none."""
    found = _data(answer, _List)
    if isinstance(found, Fault):
        return found
    data, log_id = found
    rows = getattr(data, LIST_KEYS[direction]) or ()
    return Page(rows, data.cursor, data.has_more, bound, answered_at, log_id, answer.body)


def info(answer: Answer, answered_at: int) -> Info | Fault:
    """The profile in an answer."""
    found = _data(answer, Profile)
    return found if isinstance(found, Fault) else Info(found[0], answered_at, found[1], answer.body)


def token(answer: Answer) -> Token | Fault:
    """The token in an answer of the token endpoint, whose errors are flat and may come with any status."""
    try:
        read = msgspec.json.decode(answer.body.decode(), type=_TokenAnswer, strict=False)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        read = _TokenAnswer()
    if read.access_token and read.expires_in > 0:
        if not (read.access_token.isascii() and read.access_token.isprintable()):
            return Fault("unusable", "a token that cannot be sent in a header", log_id=read.log_id)
        return Token(read.access_token, min(read.expires_in, _LONGEST_TOKEN_SECONDS))
    if not read.error:
        return _foreign(answer)
    message = _in_a_line(read.error_description) or _summary(answer)
    return Fault("refused" if read.error in _FINAL_TOKEN_ERRORS else "unusable", message, read.error, read.log_id)


def reason_of(message: str) -> str:
    """Which of the known cases a message about an account is; private where it is none of them."""
    return next((reason for fragment, reason in _ACCOUNT_MESSAGES.items() if fragment in message), "private")


def _data(answer: Answer, kind: type[_T]) -> tuple[_T, str] | Fault:
    """The data of a good answer with its log_id."""
    envelope = _envelope(answer.body)
    if envelope is None:
        return _foreign(answer)
    error = envelope.error
    log_id = error.log_id or answer.log_id
    if answer.status != OK or error.code != "ok":
        return _fault(answer, error, log_id)
    try:
        return _converted(envelope.data or {}, kind), log_id
    except msgspec.ValidationError as wrong:
        return Fault("unusable", f"an answer without what was asked for: {wrong}", log_id=log_id)


def _foreign(answer: Answer) -> Fault:
    """Return the fault of an answer that is not in the API's form, with a remedy if there is one."""
    location = answer.headers.get("location") if answer.status in _REDIRECTS else None
    kind: Kind = "refused" if location or _NO_PATH in answer.body else _FOREIGN_KINDS.get(answer.status, "unusable")
    if location:
        message = _in_a_line(moved_to(answer.url, location))
    elif answer.status == _PROXY_LOGIN:
        message = "the proxy asks for a login: set http_proxy to http://USER:PASSWORD@HOST"
    elif kind == "refused":
        message = f"{not_an_api(answer.url)}; {_summary(answer)}"
    else:
        message = _summary(answer)
    return Fault(kind, message, log_id=answer.log_id, is_foreign=True)


def _envelope(body: bytes) -> _Envelope | None:
    """What every answer of the service is; None where it is none of them."""
    try:
        text = body.decode()
    except UnicodeDecodeError:
        return None
    try:
        return msgspec.json.decode(text, type=_Envelope, strict=False)
    except (msgspec.MsgspecError, RecursionError):
        pass
    try:  # once more, with a reader that takes halves of characters
        return msgspec.convert(_mended(json.loads(text)), _Envelope, strict=False)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None


def _converted(data: dict[str, Any], kind: type[_T]) -> _T:
    try:
        return msgspec.convert(data, kind, strict=False)
    except msgspec.ValidationError:
        return msgspec.convert(_mended(data), kind, strict=False)


def _mended(value: Any) -> Any:
    """JSON without nulls, and with U+FFFD for halves of characters: names that were cut in the middle of an emoji."""
    if isinstance(value, dict):
        return {_mended(name): _mended(part) for name, part in value.items() if part is not None}
    if isinstance(value, list):
        return [{} if part is None else _mended(part) for part in value]
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return value


def _fault(answer: Answer, error: _Error, log_id: str) -> Fault:
    code = error.code
    if any(fragment in error.message for fragment in _ACCOUNT_MESSAGES):
        return Fault("account", _in_a_line(error.message), code, log_id)
    kind = _KINDS.get(code) or _KINDS_BY_STATUS.get(answer.status, "unusable")
    return Fault(kind, _in_a_line(error.message) or _summary(answer), code, log_id)


def _in_a_line(message: str) -> str:
    """What a service says, as it may be shown on a terminal."""
    return printable(message[:_LONGEST_MESSAGE])


def _summary(answer: Answer) -> str:
    """What came instead, in a line."""
    beginning = answer.body[:80].decode("utf-8", "replace")
    return f"status {answer.status}, {len(answer.body)} bytes: {beginning!r}"
