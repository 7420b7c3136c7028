"""A service as one would write it by hand: FastAPI, Pydantic, asyncpg and PostgreSQL.

`handmade_service.py DATABASE` serves following lists by the same contract, with tokens by client credentials, but
without quotas and audit log. Nothing of Retinue is imported.
"""

import hmac
import secrets
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Annotated, Any

import asyncpg
import uvicorn
from fastapi import Depends, FastAPI, Form, Header, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

TOKEN_SECONDS = 7200
CONNECTIONS = 8

_CLIENT = "SELECT id, secret_digest FROM client WHERE client_key = $1"
_NEW_TOKEN = "INSERT INTO token (digest, client, expires_at) VALUES ($1, $2, $3)"  # noqa: S105 - a statement
_GRANT = "SELECT client FROM token WHERE digest = $1 AND expires_at > now()"
# One statement and so one round trip; an account without such follows gives one row without a name.
_PAGE = """
    SELECT owner.visibility, item.display_name, item.username, item.second
    FROM account AS owner LEFT JOIN LATERAL (
        SELECT friend.display_name, friend.username, follow.second
        FROM follow JOIN account AS friend ON friend.id = follow.followee
        WHERE follow.follower = owner.id AND follow.second <= $2
            AND friend.visibility IN ('public', 'following_hidden')
        ORDER BY follow.second DESC LIMIT $3
    ) AS item ON true
    WHERE owner.username = $1
"""


class ListQuery(BaseModel):
    """The body of a request."""

    username: str
    max_count: int = Field(20, ge=1, le=100)
    cursor: int | None = Field(None, ge=0)


class Row(BaseModel):
    """An account in a list."""

    display_name: str
    username: str


class Page(BaseModel):
    """A part of a list."""

    user_following: list[Row]
    cursor: int
    has_more: bool


class Outcome(BaseModel):
    """The result of a request."""

    code: str
    message: str
    log_id: str


class ListAnswer(BaseModel):
    """A page in its envelope."""

    data: Page
    error: Outcome


class Token(BaseModel):
    """A fresh token."""

    access_token: str
    expires_in: int = TOKEN_SECONDS
    token_type: str = "Bearer"  # noqa: S105 - a kind of token


class Refused(Exception):
    """A request that gets no page."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


def make_application(address: str) -> FastAPI:
    """The application on a database."""
    application = FastAPI(lifespan=_pool_of(address), openapi_url=None)
    application.add_exception_handler(Refused, _refusal)
    application.add_exception_handler(RequestValidationError, _invalid)
    application.post("/v2/oauth/token/")(give_token)
    application.post("/v2/research/user/following/")(list_following)
    return application


def _pool_of(address: str) -> Callable[[FastAPI], AbstractAsyncContextManager[dict[str, Any]]]:
    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[dict[str, Any]]:
        # Statements are prepared once a connection. No request leaves anything behind on one, so the round trip that
        # would reset it after each is saved.
        async with asyncpg.create_pool(address, min_size=CONNECTIONS, max_size=CONNECTIONS, reset=_leave) as pool:
            yield {"pool": pool}

    return lifespan


async def _leave(_: Any) -> None:
    pass


def pool_of(request: Request) -> Any:
    """The connections to the database."""
    return request.state.pool


Pool = Annotated[Any, Depends(pool_of)]


async def require_token(pool: Pool, authorization: Annotated[str, Header()] = "") -> None:
    """Refuse requests without a valid token."""
    kind, _, token = authorization.partition(" ")
    if kind.lower() != "bearer" or await pool.fetchval(_GRANT, _digest(token)) is None:
        raise Refused(401, "access_token_invalid", "The access token is invalid or not found in the request.")


async def list_following(query: ListQuery, pool: Pool, _: Annotated[None, Depends(require_token)]) -> ListAnswer:
    """Return a page of the accounts that one follows, newest first."""
    now = int(time.time())
    bound = min(query.cursor or now, now)
    found = await pool.fetch(_PAGE, query.username, bound, query.max_count + 1)
    if not found:
        raise Refused(400, "invalid_params", f"username {query.username} is invalid: cannot find the user")
    if found[0]["visibility"] != "public":
        raise Refused(400, "invalid_params", f"username {query.username} is private")
    rows = [row for row in found[: query.max_count] if row["username"] is not None]
    page = Page(
        user_following=[Row(display_name=row["display_name"], username=row["username"]) for row in rows],
        cursor=rows[-1]["second"] - 1 if rows else bound,
        has_more=len(found) > query.max_count,
    )
    return ListAnswer(data=page, error=Outcome(code="ok", message="ok", log_id=_log_id()))


async def give_token(
    pool: Pool,
    client_key: Annotated[str, Form()],
    client_secret: Annotated[str, Form()],
    grant_type: Annotated[str, Form()],
) -> Token:
    """Return a token for a client with valid credentials."""
    client = await pool.fetchrow(_CLIENT, client_key)
    if grant_type != "client_credentials" or client is None:
        raise Refused(401, "access_token_invalid", "Client key or secret is incorrect.")
    if not hmac.compare_digest(client["secret_digest"], _digest(client_secret)):
        raise Refused(401, "access_token_invalid", "Client key or secret is incorrect.")
    token = f"clt.{secrets.token_urlsafe(32)}"
    expires_at = datetime.now(UTC) + timedelta(seconds=TOKEN_SECONDS)
    await pool.execute(_NEW_TOKEN, _digest(token), client["id"], expires_at)
    return Token(access_token=token)


async def _refusal(_: Request, refused: Exception) -> JSONResponse:
    assert isinstance(refused, Refused)
    error = {"code": refused.code, "message": str(refused), "log_id": _log_id()}
    return JSONResponse({"data": {}, "error": error}, refused.status)


async def _invalid(request: Request, invalid: Exception) -> JSONResponse:
    assert isinstance(invalid, RequestValidationError)
    first = invalid.errors()[0]
    place = ".".join(str(step) for step in first["loc"][1:])
    return await _refusal(request, Refused(400, "invalid_params", f"{place}: {first['msg']}"))


def _digest(text: str) -> bytes:
    return sha256(text.encode()).digest()


def _log_id() -> str:
    return f"{datetime.now(UTC):%Y%m%d%H%M%S}{secrets.token_hex(10).upper()}"


def main() -> None:
    """Announce a free port and serve until SIGTERM."""
    config = uvicorn.Config(
        make_application(sys.argv[1]),
        http="httptools",
        loop="uvloop",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        log_level="error",
    )
    listener = socket.create_server(("127.0.0.1", 0), backlog=config.backlog)
    address = f"http://127.0.0.1:{listener.getsockname()[1]}"
    print(f"Serving a hand-made service on {address} (management on {address}).", flush=True)
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
