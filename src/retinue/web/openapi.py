"""The OpenAPI document of the public API, as exact as JSON Schema allows. Made of the constants the code uses."""

from importlib.metadata import version
from typing import Any

from retinue import wire
from retinue.model import RESEARCH_SCOPE, TOKEN_SECONDS
from retinue.web.routes import FOLLOWING_PATH, TOKEN_PATH


def _closed(**properties: Any) -> dict[str, Any]:
    """An object with exactly these properties."""
    return {"type": "object", "required": [*properties], "properties": properties, "additionalProperties": False}


_LOG_ID = {"type": "string", "pattern": "^[0-9]{14}[0-9A-F]{20}$"}
_NULL = {"type": "null"}
_TEXT = {"type": "string", "minLength": 1}

_USERNAME = {
    "type": "string",
    "minLength": 1,
    "not": {"const": "@"},
    "description": "The account whose list is asked for; case does not matter, one leading @ is ignored.",
}
_COUNT_DIGITS = {"type": "string", "pattern": "^0{0,17}([1-9][0-9]?|100)$"}
_CURSOR_DIGITS = {"type": "string", "pattern": "^(-0{1,19}|0{0,2}[0-9]{0,18})$"}
_COUNT_TEXT = f"How many rows at most; {wire.DEFAULT_COUNT} where absent."
_CURSOR_TEXT = "Unix second, inclusive: follows at or before it. Absent, null, 0, empty or future: now."

_QUERY_PAIRS = {
    "type": "object",
    "required": ["username"],
    "properties": {
        "username": _USERNAME,
        "max_count": {**_COUNT_DIGITS, "description": _COUNT_TEXT},
        "cursor": {**_CURSOR_DIGITS, "description": _CURSOR_TEXT},
    },
}

_QUERY = {
    "type": "object",
    "required": ["username"],
    "properties": {
        "username": _USERNAME,
        "max_count": {
            "anyOf": [_NULL, {"type": "integer", "minimum": 1, "maximum": wire.MAX_COUNT}, _COUNT_DIGITS],
            "description": _COUNT_TEXT,
        },
        "cursor": {
            "anyOf": [_NULL, {"type": "integer", "minimum": 0, "maximum": 2**63 - 1}, _CURSOR_DIGITS],
            "description": _CURSOR_TEXT,
        },
    },
}

_ROW = _closed(display_name={"type": "string"}, username=_TEXT)
_PAGE = _closed(
    data=_closed(
        user_following={"type": "array", "items": _ROW, "maxItems": wire.MAX_COUNT},
        cursor={"type": "integer", "minimum": 0},
        has_more={"type": "boolean"},
    ),
    error=_closed(code={"const": "ok"}, message={"const": "ok"}, log_id=_LOG_ID),
)
_ENVELOPE = _closed(
    data=_closed(),
    error=_closed(
        code={"enum": sorted({wording.code for wording in wire.WORDINGS.values()})}, message=_TEXT, log_id=_LOG_ID
    ),
)
_FLAT = _closed(
    error={"enum": sorted({wording.flat_code for wording in wire.WORDINGS.values()})},
    error_description=_TEXT,
    log_id=_LOG_ID,
)

_TOKEN_REQUEST = {
    "type": "object",
    "required": ["client_key", "client_secret", "grant_type"],
    "properties": {"client_key": _TEXT, "client_secret": _TEXT, "grant_type": {"const": "client_credentials"}},
}
_TOKEN = _closed(access_token=_TEXT, expires_in={"const": TOKEN_SECONDS}, token_type={"const": "Bearer"})


def document() -> dict[str, Any]:
    """The whole document, OpenAPI 3.1."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Retinue",
            "version": version("retinue"),
            "description": "TikTok's Research API contract of Query User Following, self-hosted.",
        },
        "paths": {
            FOLLOWING_PATH: {"post": _following()},
            TOKEN_PATH: {"post": _token()},
        },
        "components": {"securitySchemes": {"clientToken": {"type": "http", "scheme": "bearer"}}},
    }


def _following() -> dict[str, Any]:
    return {
        "operationId": "queryUserFollowing",
        "summary": "The accounts that an account follows, newest first",
        "description": f"Needs a client access token with the scope {RESEARCH_SCOPE}.",
        "security": [{"clientToken": []}],
        "requestBody": _body(_QUERY, _QUERY_PAIRS),
        "responses": {
            "200": _response("A page of the list", _PAGE),
            **{status: _response(text, _ENVELOPE) for status, text in _REFUSALS.items()},
        },
    }


def _token() -> dict[str, Any]:
    return {
        "operationId": "fetchClientAccessToken",
        "summary": "A client access token",
        "security": [],
        "requestBody": _body(_TOKEN_REQUEST, _TOKEN_REQUEST),
        "responses": {
            "200": _response("A token, good for two hours", _TOKEN),
            **{status: _response(text, _FLAT) for status, text in _REFUSALS.items()},
        },
    }


_REFUSALS = {
    "400": "A parameter is wrong; the message names it",
    "401": "No valid token, scope or credentials",
    "413": "The body is too long",
    "500": "A fault of the server",
    "503": "Too busy; try again",
}


def _body(as_json: dict[str, Any], as_pairs: dict[str, Any]) -> dict[str, Any]:
    forms = {"application/json": as_json, "application/x-www-form-urlencoded": as_pairs}
    return {"required": True, "content": {form: {"schema": schema} for form, schema in forms.items()}}


def _response(description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {
        "description": description,
        "headers": {"x-tt-logid": {"schema": _LOG_ID, "description": "The log_id of the body."}},
        "content": {"application/json": {"schema": schema}},
    }
