"""The table of public paths, and the handlers of the data endpoints."""

from retinue import errors, requests, wire
from retinue.access.credentials import Credentials
from retinue.following import Following
from retinue.model import RESEARCH_SCOPE, Direction
from retinue.web.asgi import Answer, Handler, Request, Route
from retinue.web.oauth import token_handler

LIST_PATHS = {
    Direction.FOLLOWING: "/v2/research/user/following/",
    Direction.FOLLOWERS: "/v2/research/user/followers/",
}
PROFILE_PATH = "/v2/research/user/info/"
TOKEN_PATH = "/v2/oauth/token/"  # noqa: S105 - a path

# TikTok's other research endpoints: clients that call them deserve to hear that the path is right and we are not.
NOT_SERVED = (
    "/v2/research/user/liked_videos/",
    "/v2/research/user/pinned_videos/",
    "/v2/research/user/reposted_videos/",
    "/v2/research/video/query/",
    "/v2/research/video/comment/list/",
    "/v2/research/playlist/info/",
)


def public_routes(following: Following[bytes], credentials: Credentials) -> dict[str, Route]:
    """Everything the public listener serves."""
    return {
        **{path: _not_served(path) for path in NOT_SERVED},
        **{
            path: Route(_list_handler(direction, following, credentials), at_once=True)
            for direction, path in LIST_PATHS.items()
        },
        PROFILE_PATH: Route(_profile_handler(following, credentials)),
        TOKEN_PATH: Route(token_handler(credentials), wire.flat_refusal_body),
    }


def _list_handler(direction: Direction, following: Following[bytes], credentials: Credentials) -> Handler:
    """Answers with a page of one of an account's two lists."""

    async def handler(request: Request) -> Answer:
        await credentials.authorize(request.header(b"authorization"), RESEARCH_SCOPE)
        query = requests.read_query(await request.body())
        return Answer(wire.page_body(await following.page(query, direction), direction, request.log_id))

    return handler


def _profile_handler(following: Following[bytes], credentials: Credentials) -> Handler:
    """Answers with what is asked of an account itself."""

    async def handler(request: Request) -> Answer:
        await credentials.authorize(request.header(b"authorization"), RESEARCH_SCOPE)
        username, fields = requests.read_profile_query(await request.body(), request.query_string)
        return Answer(wire.profile_body(await following.profile(username), fields, request.log_id))

    return handler


def _not_served(path: str) -> Route:
    async def handler(_request: Request) -> Answer:
        raise errors.EndpointNotServed(path)

    return Route(handler, any_method=True)
