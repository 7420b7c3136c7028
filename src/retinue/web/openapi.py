"""The OpenAPI document of the public API, built from constants."""

from importlib.metadata import version
from typing import Any

from retinue.model import DEFAULT_COUNT, RESEARCH_SCOPE, TOKEN_SECONDS, Direction, Profile
from retinue.web.routes import LIST_PATHS, PROFILE_PATH, REVOKE_PATH, TOKEN_PATH
from retinue.wire import rendering
from retinue.wire.parsing import MAX_COUNT, PROFILE_FIELDS

Schema = dict[str, Any]


def _closed(**properties: Any) -> Schema:
    return {"type": "object", "required": [*properties], "properties": properties, "additionalProperties": False}


_LOG_ID = {"type": "string", "pattern": "^[0-9]{14}[0-9A-F]{20}$"}
_NULL = {"type": "null"}
_TEXT = {"type": "string", "minLength": 1}

_USERNAME = {
    "type": "string",
    "minLength": 1,
    "not": {"const": "@"},
    "description": "The account asked for; case does not matter, one leading @ is ignored.",
}
_COUNT_DIGITS = {"type": "string", "pattern": "^0{0,17}([1-9][0-9]?|100)$"}
_SECOND_DIGITS = {"type": "string", "pattern": "^(-0{1,19}|0{0,2}[0-9]{0,18})$"}
_COUNT_TEXT = f"How many rows at most; {DEFAULT_COUNT} where absent."
_CURSOR_TEXT = "Unix second, inclusive: follows at or before it. Absent, null, 0, empty or future: now."
_AS_OF_TEXT = (
    "Unix second: the list as it stood then. Absent, null, 0, empty or future: today's list. Retinue's own field."
)

_COUNT = {"anyOf": [_NULL, {"type": "integer", "minimum": 1, "maximum": MAX_COUNT}, _COUNT_DIGITS]}
_SECOND = {"anyOf": [_NULL, {"type": "integer", "minimum": 0, "maximum": 2**63 - 1}, _SECOND_DIGITS]}


def _asked(**optional: Any) -> Schema:
    return {"type": "object", "required": ["username"], "properties": {"username": _USERNAME, **optional}}


_QUERY_PAIRS = _asked(
    max_count={**_COUNT_DIGITS, "description": _COUNT_TEXT},
    cursor={**_SECOND_DIGITS, "description": _CURSOR_TEXT},
    as_of={**_SECOND_DIGITS, "description": _AS_OF_TEXT},
)
_QUERY = _asked(
    max_count={**_COUNT, "description": _COUNT_TEXT},
    cursor={**_SECOND, "description": _CURSOR_TEXT},
    as_of={**_SECOND, "description": _AS_OF_TEXT},
)

_ROW = _closed(display_name={"type": "string"}, username=_TEXT)


def _page(key: str) -> Schema:
    rows = {"type": "array", "items": _ROW, "maxItems": MAX_COUNT}
    cursor = {"type": "integer", "minimum": 0}
    return _success("ok", _closed(**{key: rows, "cursor": cursor, "has_more": {"type": "boolean"}}))


def _success(message: str, data: Schema) -> Schema:
    return _closed(data=data, error=_closed(code={"const": "ok"}, message={"const": message}, log_id=_LOG_ID))


_PROFILE_TYPES = {str: {"type": "string"}, bool: {"type": "boolean"}, int: {"type": "integer", "minimum": 0}}
_PROFILE = _success(
    "",
    {
        "type": "object",
        "properties": {name: _PROFILE_TYPES[kind] for name, kind in Profile.__annotations__.items()},
        "additionalProperties": False,
        "minProperties": 1,
    },
)

_ENVELOPE = _closed(
    data=_closed(),
    error=_closed(
        code={"enum": sorted({spec.code for spec in rendering.ERRORS.values()})}, message=_TEXT, log_id=_LOG_ID
    ),
)
_OAUTH = _closed(
    error={"enum": sorted({spec.oauth_code for spec in rendering.ERRORS.values()})},
    error_description=_TEXT,
    log_id=_LOG_ID,
)

_TOKEN_REQUEST = {
    "type": "object",
    "required": ["client_key", "client_secret", "grant_type"],
    "properties": {"client_key": _TEXT, "client_secret": _TEXT, "grant_type": {"const": "client_credentials"}},
}
_REVOKE_REQUEST = {
    "type": "object",
    "required": ["client_key", "client_secret", "token"],
    "properties": {"client_key": _TEXT, "client_secret": _TEXT, "token": _TEXT},
}
_TOKEN = _closed(access_token=_TEXT, expires_in={"const": TOKEN_SECONDS}, token_type={"const": "Bearer"})


def document() -> Schema:
    """Return the document, OpenAPI 3.1."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Retinue",
            "version": version("retinue"),
            "description": "TikTok's Research API contract of Query User Following, self-hosted.",
        },
        "paths": {
            LIST_PATHS[Direction.FOLLOWING]: _list("queryUserFollowing", "that an account follows", "user_following"),
            LIST_PATHS[Direction.FOLLOWERS]: _list("queryUserFollowers", "that follow an account", "user_followers"),
            PROFILE_PATH: _profile(),
            TOKEN_PATH: _token(),
            REVOKE_PATH: _revoke(),
        },
        "components": {"securitySchemes": {"clientToken": {"type": "http", "scheme": "bearer"}}},
    }


def _operation(name: str, summary: str, forms: tuple[Schema, Schema], responses: Schema, **more: Any) -> Schema:
    """Return a path with one operation. `forms` are the bodies as JSON and as form pairs."""
    kinds = zip(("application/json", "application/x-www-form-urlencoded"), forms, strict=True)
    body = {"required": True, "content": {kind: {"schema": schema} for kind, schema in kinds}}
    return {"post": {"operationId": name, "summary": summary, **more, "requestBody": body, "responses": responses}}


def _list(name: str, accounts: str, key: str) -> Schema:
    responses = _responses("A page of the list", _page(key), _ENVELOPE)
    return _operation(name, f"The accounts {accounts}, newest first", (_QUERY, _QUERY_PAIRS), responses, **_RESEARCH)


def _profile() -> Schema:
    responses = _responses("The fields asked for", _PROFILE, _ENVELOPE)
    forms = (_asked(), _asked())
    return _operation("queryUserInfo", "An account itself", forms, responses, **_RESEARCH, parameters=[_FIELDS])


def _token() -> Schema:
    responses = _responses("A token, good for two hours", _TOKEN, _OAUTH)
    forms = (_TOKEN_REQUEST, _TOKEN_REQUEST)
    return _operation("fetchClientAccessToken", "A client access token", forms, responses, security=[])


def _revoke() -> Schema:
    text = "The token is ended; or, as at TikTok, an error of an unknown token"
    responses = _responses(text, {"anyOf": [_closed(), _OAUTH]}, _OAUTH)
    forms = (_REVOKE_REQUEST, _REVOKE_REQUEST)
    return _operation("revokeClientAccessToken", "End a client access token", forms, responses, security=[])


_FIELDS = {
    "name": "fields",
    "in": "query",
    "required": True,
    "description": "The fields wanted, separated by commas.",
    "style": "form",
    "explode": False,
    "schema": {"type": "array", "minItems": 1, "items": {"enum": list(PROFILE_FIELDS)}},
}
_RESEARCH: Schema = {
    "description": f"Needs a client access token with the scope {RESEARCH_SCOPE}.",
    "security": [{"clientToken": []}],
}

_REFUSALS = {
    "400": "A parameter is wrong; the message names it",
    "401": "No valid token, scope or credentials",
    "429": "The quota of the day is spent, or too many calls came in a short time",
    "413": "The body is too long",
    "500": "A fault of the server",
    "503": "Too busy; try again",
}


def _responses(description: str, success: Schema, refusal: Schema) -> Schema:
    refusals = {status: _response(text, refusal) for status, text in _REFUSALS.items()}
    return {"200": _response(description, success), **refusals}


_COUNTED = {"type": "integer", "minimum": 0}
_HEADERS = {
    "x-tt-logid": {"schema": _LOG_ID, "description": "The log_id of the body."},
    "RateLimit-Limit": {"schema": _COUNTED, "description": "Calls a day, or of the short-term limit that was passed."},
    "RateLimit-Remaining": {"schema": _COUNTED, "description": "How many of them are left."},
    "RateLimit-Reset": {"schema": _COUNTED, "description": "In how many seconds all are there again."},
}


def _response(description: str, schema: Schema) -> Schema:
    return {
        "description": description,
        "headers": _HEADERS,
        "content": {"application/json": {"schema": schema}},
    }
