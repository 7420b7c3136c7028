"""The token endpoint. Its errors are flat, as OAuth and TikTok's own token endpoint have them."""

from retinue import requests, wire
from retinue.access.credentials import Credentials
from retinue.web.asgi import Answer, Handler, Request

# RFC 6749, section 5.1: nothing on the way may keep a token.
_NO_STORE = ((b"cache-control", b"no-store"), (b"pragma", b"no-cache"))


def token_handler(credentials: Credentials) -> Handler:
    """Answers client key and secret with a token."""

    async def handler(request: Request) -> Answer:
        client_key, client_secret = requests.read_credentials(await request.body())
        token = await credentials.issue_token(client_key, client_secret)
        return Answer(wire.token_body(token), _NO_STORE)

    return handler
