"""The table of public paths, and the handler of the data endpoints."""

from retinue import errors, wire
from retinue.access.credentials import Credentials
from retinue.following import Following
from retinue.model import RESEARCH_SCOPE
from retinue.web.asgi import Answer, Request, Route
from retinue.web.oauth import token_handler

FOLLOWING_PATH = "/v2/research/user/following/"
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

    async def following_handler(request: Request) -> Answer:
        await credentials.authorize(request.header(b"authorization"), RESEARCH_SCOPE)
        query = wire.read_query(await request.body())
        return Answer(wire.page_body(await following.page(query), request.log_id))

    routes = {path: _not_served(path) for path in NOT_SERVED}
    routes[FOLLOWING_PATH] = Route(following_handler, at_once=True)
    routes[TOKEN_PATH] = Route(token_handler(credentials), wire.flat_refusal_body)
    return routes


def _not_served(path: str) -> Route:
    async def handler(_request: Request) -> Answer:
        raise errors.EndpointNotServed(path)

    return Route(handler, any_method=True)
