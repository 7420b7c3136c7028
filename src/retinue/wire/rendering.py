"""Answers to clients, from pages, profiles, tokens and errors to bytes. Pure. `parsing.py` reads the requests.

Contains the only table of error codes, statuses and messages. `docs/compatibility.md` explains the choices that
TikTok's documentation leaves open.
"""

from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec
from msgspec import Struct

from retinue import errors
from retinue.model import TOKEN_SECONDS, Direction, Page, Profile, Row, RowEncoding

LOG_ID_RANDOM_BYTES = 10

_MAX_QUOTED = 255


# --- refusals -------------------------------------------------------------------------------------------------------


class ErrorSpec(Struct, frozen=True):
    """The status, code and message of an error.

    `{detail}` stands for the detail of the error. `oauth_code` is the code at the OAuth endpoints. `retry_after` is in
    seconds.
    """

    status: int
    code: str
    message: str
    oauth_code: str = "invalid_request"
    retry_after: int | None = None


_BUSY = "The service is temporarily unavailable. Please try again later."

ERRORS: dict[type[errors.Refusal], ErrorSpec] = {
    errors.BadBody: ErrorSpec(400, "invalid_params", "body: {detail}"),
    errors.BadField: ErrorSpec(400, "invalid_params", "{detail}"),
    errors.BadCountOrCursor: ErrorSpec(400, "invalid_params", "Invalid count or cursor"),
    errors.BodyTooLarge: ErrorSpec(413, "invalid_params", "body: longer than {detail} bytes"),
    errors.HeadTooLarge: ErrorSpec(431, "invalid_params", "head: longer than {detail} bytes"),
    errors.NotHttp: ErrorSpec(400, "invalid_params", "The bytes received are not a valid HTTP request."),
    errors.RepeatedHeader: ErrorSpec(400, "invalid_params", "header {detail}: given more than once"),
    errors.MisdirectedRequest: ErrorSpec(
        421,
        "invalid_params",
        "Host {detail}: not a name of this listener; use localhost, or name it in --management-hosts",
    ),
    # Real clients match the three fragments after the name, so their words must not change.
    errors.UnknownAccount: ErrorSpec(400, "invalid_params", "username {detail} is invalid: cannot find the user"),
    errors.PrivateAccount: ErrorSpec(400, "invalid_params", "username {detail} is private"),
    errors.WithheldAccount: ErrorSpec(400, "invalid_params", "API cannot return this user's information"),
    errors.InvalidToken: ErrorSpec(
        401,
        "access_token_invalid",
        "The access token is invalid or not found in the request. {detail}",
        "invalid_grant",
    ),
    errors.MissingScope: ErrorSpec(
        401,
        "scope_not_authorized",
        "The user did not authorize the scope required for completing this request: {detail}.",
        "invalid_scope",
    ),
    errors.MissingParameter: ErrorSpec(400, "invalid_params", "{detail} is missed in request."),
    errors.CredentialsInHeader: ErrorSpec(
        400,
        "invalid_params",
        "{detail} is missed in request. The Authorization header is Basic:"
        " send client_key and client_secret in the body.",
    ),
    errors.MalformedParameters: ErrorSpec(400, "invalid_params", "The request parameters are malformed. {detail}"),
    errors.UnsupportedGrant: ErrorSpec(
        400, "invalid_params", "The grant type must be client_credentials.", "unsupported_grant_type"
    ),
    errors.WrongSecret: ErrorSpec(401, "access_token_invalid", "Client key or secret is incorrect.", "invalid_client"),
    errors.InvalidClient: ErrorSpec(401, "access_token_invalid", "{detail}", "invalid_client"),
    # The one error that TikTok answers with 200.
    errors.UnknownToken: ErrorSpec(200, "access_token_invalid", "Access token is invalid or expired.", "invalid_grant"),
    errors.RateLimitExceeded: ErrorSpec(
        429,
        "rate_limit_exceeded",
        "The API rate limit was exceeded. Please try again later.",
        "rate_limit_exceeded",
    ),
    errors.QuotaExceeded: ErrorSpec(
        429,
        "daily_quota_limit_exceeded",
        "The API daily quota limit exceeded. Please try again later",
        "rate_limit_exceeded",
    ),
    errors.UnsupportedPath: ErrorSpec(404, "unsupported_path", "Unsupported path"),
    errors.EndpointNotServed: ErrorSpec(404, "unsupported_path", "Retinue does not serve {detail}"),
    errors.MethodNotAllowed: ErrorSpec(405, "unsupported_path", "Unsupported method: use {detail}"),
    errors.StoreUnavailable: ErrorSpec(503, "internal_error", _BUSY, "temporarily_unavailable", retry_after=1),
    errors.AuditUnavailable: ErrorSpec(503, "internal_error", _BUSY, "temporarily_unavailable", retry_after=1),
    errors.Overloaded: ErrorSpec(503, "internal_error", _BUSY, "temporarily_unavailable", retry_after=1),
    errors.InternalFault: ErrorSpec(
        500, "internal_error", "Something went wrong on our side. Please try again later.", "server_error"
    ),
}


_encode = msgspec.json.Encoder().encode


def error_body(refusal: errors.Refusal, log_id: str) -> bytes:
    """Return the v2 envelope of an error. Clients index into `data`, an empty object."""
    spec = spec_of(refusal)
    return _encode({"data": {}, "error": {"code": spec.code, "message": message_of(refusal), "log_id": log_id}})


def oauth_error_body(refusal: errors.Refusal, log_id: str) -> bytes:
    """Return the flat form of an error, as in OAuth."""
    spec = spec_of(refusal)
    return _encode({"error": spec.oauth_code, "error_description": message_of(refusal), "log_id": log_id})


def spec_of(refusal: errors.Refusal) -> ErrorSpec:
    """Return how an error is answered: as its class, or as the nearest base that has an answer."""
    return next(ERRORS[kind] for kind in type(refusal).__mro__ if kind in ERRORS)


def message_of(refusal: errors.Refusal) -> str:
    """Return the message of an error, its detail shortened."""
    return spec_of(refusal).message.format(detail=refusal.detail[:_MAX_QUOTED]).rstrip()


# --- answers --------------------------------------------------------------------------------------------------------


def encode_row(display_name: str, username: str) -> bytes:
    """Return the JSON of a row."""
    return _encode(Row(display_name, username))


ROW_ENCODING = RowEncoding(encode_row, b'{"display_name":"', b'"}')


_PAGE = b'{"data":{"LIST":[%b],"cursor":%d,"has_more":%b},"error":{"code":"ok","message":"ok","log_id":"%b"}}'
_FOLLOWING_PAGE = _PAGE.replace(b"LIST", b"user_following")
_FOLLOWERS_PAGE = _PAGE.replace(b"LIST", b"user_followers")
_FOLLOWING = Direction.FOLLOWING  # on Python 3.11 the lookup takes a quarter of the time of `page_body`


def page_body(page: Page[bytes], direction: Direction, log_id: str) -> bytes:
    """Return a page of encoded rows. All three keys are always present, because clients do not check for them."""
    return joined_page_body(b",".join(page.rows), page.cursor, page.has_more, direction, log_id)


def joined_page_body(text: bytes, cursor: int, has_more: bool, direction: Direction, log_id: str) -> bytes:
    """Return a page of encoded rows that are joined by commas."""
    form = _FOLLOWING_PAGE if direction is _FOLLOWING else _FOLLOWERS_PAGE
    return form % (text, cursor, b"true" if has_more else b"false", log_id.encode())


def profile_body(profile: Profile, fields: Sequence[str], log_id: str) -> bytes:
    """Return the requested fields in order, with TikTok's empty message."""
    data = {field: getattr(profile, field) for field in fields}
    return _encode({"data": data, "error": {"code": "ok", "message": "", "log_id": log_id}})


def token_body(token: str) -> bytes:
    """Return a new token; clients index all three keys."""
    return _encode({"access_token": token, "expires_in": TOKEN_SECONDS, "token_type": "Bearer"})


REVOKED_BODY = b"{}"


def log_id_date(now: int) -> str:
    """Return the first 14 of a log_id's 34 characters: UTC to the second.

    The other 20 are random bytes in upper-case hex.
    """
    return f"{datetime.fromtimestamp(now, UTC):%Y%m%d%H%M%S}"
