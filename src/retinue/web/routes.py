"""The public routes, and the handlers of the data endpoints."""

from msgspec import Struct, structs

from retinue import errors
from retinue.access.authentication import Authenticator
from retinue.access.quotas import Quotas
from retinue.following import Following
from retinue.model import RESEARCH_SCOPE, Direction, Pool
from retinue.web.asgi import Answer, Handler, Request, Route
from retinue.web.oauth import Gate, revoke_handler, token_handler
from retinue.wire import parsing, rendering

LIST_PATHS = {
    Direction.FOLLOWING: "/v2/research/user/following/",
    Direction.FOLLOWERS: "/v2/research/user/followers/",
}
PROFILE_PATH = "/v2/research/user/info/"
TOKEN_PATH = "/v2/oauth/token/"  # noqa: S105 - a path
REVOKE_PATH = "/v2/oauth/revoke/"

_LISTS = Pool.LISTS

# TikTok's other research endpoints: clients that call them deserve to hear that the path is right and we are not.
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
        **{path: _not_served(path) for path in NOT_SERVED},
        **{
            path: Route(_list_handler(direction, following, access), direction.value)
            for direction, path in LIST_PATHS.items()
        },
        PROFILE_PATH: Route(_profile_handler(following, access), "info"),
        TOKEN_PATH: Route(token_handler(access.gate, access.authenticator), "token", is_oauth=True),
        REVOKE_PATH: Route(revoke_handler(access.gate, access.authenticator), "revoke", is_oauth=True),
    }


def _list_handler(direction: Direction, following: Following[bytes], access: Access) -> Handler:
    """Return a handler for one of the two lists.

    A page is charged when its size is known. If others spent the rest of the quota meanwhile, it tries a smaller page.
    """
    authorize, quotas = access.authenticator.authorize, access.quotas

    async def handler(request: Request) -> Answer:
        grant = await authorize(request.header(b"authorization"), RESEARCH_SCOPE)
        context = request.context
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
        return Answer(rendering.page_body(page, direction, request.log_id))

    return handler


def _profile_handler(following: Following[bytes], access: Access) -> Handler:
    authorize, quotas = access.authenticator.authorize, access.quotas

    async def handler(request: Request) -> Answer:
        grant = await authorize(request.header(b"authorization"), RESEARCH_SCOPE)
        request.context.client = grant.client_key
        username, fields = parsing.read_profile_query(await request.body(), request.query_string)
        while True:
            quotas.remaining_rows(grant, Pool.OTHERS, 1)
            request.context.name = username
            account = await following.account(username)
            request.context.account = account.id
            profile = await following.profile(account, username)
            request.quota_status = quotas.charge(grant, Pool.OTHERS, 1)
            if request.quota_status is not None:
                break
        request.context.rows = 1
        return Answer(rendering.profile_body(profile, fields, request.log_id))

    return handler


def _not_served(path: str) -> Route:
    async def handler(_request: Request) -> Answer:
        raise errors.EndpointNotServed(path)

    return Route(handler, "none", any_method=True)
