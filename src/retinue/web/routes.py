"""The public routes, and the handlers of the data endpoints."""

from functools import partial

from msgspec import Struct, structs

from retinue import errors
from retinue.access.authentication import Authenticator
from retinue.access.quotas import Quotas
from retinue.following import Following
from retinue.model import RESEARCH_SCOPE, Direction, Pool
from retinue.web.asgi import Request, Route
from retinue.web.oauth import Gate, issue_token, revoke_token
from retinue.wire import parsing, rendering

LIST_PATHS = {
    Direction.FOLLOWING: "/v2/research/user/following/",
    Direction.FOLLOWERS: "/v2/research/user/followers/",
}
PROFILE_PATH = "/v2/research/user/info/"
TOKEN_PATH = "/v2/oauth/token/"  # noqa: S105 - a path
REVOKE_PATH = "/v2/oauth/revoke/"

_LISTS = Pool.LISTS

# TikTok's other research endpoints: the error says that the path is right, but Retinue does not serve it.
NOT_SERVED = (
    "/v2/research/user/liked_videos/",
    "/v2/research/user/pinned_videos/",
    "/v2/research/user/reposted_videos/",
    "/v2/research/video/query/",
    "/v2/research/video/comment/list/",
    "/v2/research/playlist/info/",
)


class Access(Struct, frozen=True):
    """Authentication and quotas."""

    authenticator: Authenticator
    quotas: Quotas
    gate: Gate


def public_routes(following: Following[bytes], access: Access) -> dict[str, Route]:
    """Return every route of the public listener, by path."""
    return {
        **{path: Route(partial(_refuse_path, path), "none", any_method=True) for path in NOT_SERVED},
        **{
            path: Route(partial(_read_list, direction, following, access), direction.value)
            for direction, path in LIST_PATHS.items()
        },
        PROFILE_PATH: Route(partial(_read_profile, following, access), "info"),
        TOKEN_PATH: Route(partial(issue_token, access.gate, access.authenticator), "token", is_oauth=True),
        REVOKE_PATH: Route(partial(revoke_token, access.gate, access.authenticator), "revoke", is_oauth=True),
    }


async def _read_list(direction: Direction, following: Following[bytes], access: Access, request: Request) -> bytes:
    """Return a page of a list.

    It is charged when its size is known. If others spent the rest of the quota meanwhile, try a smaller page.
    """
    quotas, context = access.quotas, request.context
    grant = await access.authenticator.authorize(request.header(b"authorization"), RESEARCH_SCOPE)
    context.client = grant.client_key
    query = parsing.read_query(await request.body())
    request.cache_head(direction)
    context.is_list, context.bound, context.as_of = True, query.cursor, query.as_of
    while True:
        rows = quotas.remaining_rows(grant, _LISTS, query.max_count)
        if rows < query.max_count:
            query = structs.replace(query, max_count=rows)
        context.name = query.username
        account = await following.account(query.username)
        context.account = account.id
        page = await following.page(account, query, direction)
        request.quota_status = quotas.charge(grant, _LISTS, len(page.rows))
        if request.quota_status is not None:
            break
    context.rows = len(page.rows)
    return rendering.page_body(page, direction, request.log_id)


async def _read_profile(following: Following[bytes], access: Access, request: Request) -> bytes:
    quotas, context = access.quotas, request.context
    grant = await access.authenticator.authorize(request.header(b"authorization"), RESEARCH_SCOPE)
    context.client = grant.client_key
    username, fields = parsing.read_profile_query(await request.body(), request.query_string)
    while True:
        quotas.remaining_rows(grant, Pool.OTHERS, 1)
        context.name = username
        account = await following.account(username)
        context.account = account.id
        profile = await following.profile(account, username)
        request.quota_status = quotas.charge(grant, Pool.OTHERS, 1)
        if request.quota_status is not None:
            break
    context.rows = 1
    return rendering.profile_body(profile, fields, request.log_id)


async def _refuse_path(path: str, _request: Request) -> bytes:
    raise errors.EndpointNotServed(path)
