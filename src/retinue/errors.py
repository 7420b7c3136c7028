"""Every error of ours, and nothing else.

    RetinueError
    ├── InputError              a command cannot use a file, flag or value
    │   └── NoSuchClient
    ├── UnwritableOutput        standard output cannot be written
    │   └── ClosedPipe
    ├── UncleanStop             a server has stopped with errors
    ├── StoreError              a store cannot be opened
    │   ├── MissingStore
    │   ├── NotAStore
    │   ├── UnsupportedSchema
    │   └── UnavailableLock
    └── Refusal                 a request with an error response; `rendering.py` has its code, status and message
        ├── BadBody  BadField  BadCountOrCursor  BodyTooLarge
        ├── UnknownAccount  PrivateAccount  WithheldAccount
        ├── InvalidToken  MissingScope  RateLimitExceeded  QuotaExceeded
        ├── MissingParameter  CredentialsInHeader  MalformedParameters  UnsupportedGrant
        ├── WrongSecret  InvalidClient  UnknownToken
        ├── UnsupportedPath  EndpointNotServed  MethodNotAllowed
        ├── NotHttp  HeadTooLarge  RepeatedHeader  MisdirectedRequest
        └── StoreUnavailable  Overloaded  InternalFault

Domain code raises these. Only `wire/rendering.py` turns a `Refusal` into bytes; only the CLI prints the others.
"""


class RetinueError(Exception):
    """Root of all errors raised on purpose."""


class InputError(RetinueError):
    """A command cannot use the file, flag or value in the message."""


class NoSuchClient(InputError):
    """No client has the given key."""


class UnwritableOutput(RetinueError):
    """Standard output cannot be written; the message says why."""


class ClosedPipe(UnwritableOutput):
    """The reader of standard output has closed it."""


class UncleanStop(RetinueError):
    """A stopped server had failed processes or lost records."""


class StoreError(RetinueError):
    """A store cannot be opened. The message has cause and remedy."""


class MissingStore(StoreError):
    """The store does not exist."""


class NotAStore(StoreError):
    """Another program created the file or database, or it is damaged."""


class UnsupportedSchema(StoreError):
    """An older or newer Retinue wrote the store, with another schema than `supported`."""

    def __init__(self, store: object, schema: int, supported: int) -> None:
        age, remedy = (
            ("an older", "export it with that version, and import the files into a new store")
            if schema < supported
            else ("a newer", "update Retinue")
        )
        super().__init__(
            f"{store}: written by {age} Retinue (schema {schema}, this version needs {supported}); {remedy}"
        )


class UnavailableLock(StoreError):
    """A lock is held by another process, or is not supported."""


class Refusal(RetinueError):
    """A request is refused. `detail` completes the message on the wire."""

    def __init__(self, detail: str = "") -> None:
        super().__init__(detail)
        self.detail = detail


class BadBody(Refusal):
    """The body is neither a JSON object nor form pairs. `detail` has the reason."""


class BadField(Refusal):
    """A field has an invalid value. `detail` has the field and the expected values."""


class BadCountOrCursor(Refusal):
    """`max_count` or `cursor` is a number outside its range."""


class BodyTooLarge(Refusal):
    """The body is longer than the limit in `detail`."""


class UnknownAccount(Refusal):
    """No live account has the username in `detail`."""


class PrivateAccount(Refusal):
    """The account in `detail` is private or hides the requested list."""


class WithheldAccount(Refusal):
    """The account must not be shown: banned, under age, region or law."""


class InvalidToken(Refusal):
    """The access token is missing, malformed, unknown, expired or revoked."""


class MissingScope(Refusal):
    """The client lacks the scope in `detail`."""


class MissingParameter(Refusal):
    """The token request lacks the parameter in `detail`."""


class CredentialsInHeader(Refusal):
    """The token request has its credentials in a Basic Authorization header."""


class MalformedParameters(Refusal):
    """The token request cannot be parsed. `detail` has the part."""


class UnsupportedGrant(Refusal):
    """The token request is for a grant other than client authenticator."""


class WrongSecret(Refusal):
    """No client has this key and this secret."""


class InvalidClient(Refusal):
    """A client with valid credentials must not have tokens. `detail` is the whole message."""


class UnknownToken(Refusal):
    """The token to revoke is not a valid token of the client."""


class RateLimitExceeded(Refusal):
    """The short-term limit is exceeded.

    It is `limit` calls, or unknown. The client can retry after `reset` seconds.
    """

    def __init__(self, limit: int | None, reset: int) -> None:
        super().__init__()
        self.limit = limit
        self.calls = 0
        self.reset = reset


class QuotaExceeded(Refusal):
    """The daily quota of calls or rows is spent.

    Of `limit` calls (None: no limit) `calls` remain until midnight UTC, in `reset` seconds.
    """

    def __init__(self, limit: int | None, calls: int, reset: int) -> None:
        super().__init__()
        self.limit = limit
        self.calls = calls
        self.reset = reset


class UnsupportedPath(Refusal):
    """The path does not exist."""


class EndpointNotServed(Refusal):
    """Retinue does not serve this path of TikTok's Research API, in `detail`."""


class MethodNotAllowed(Refusal):
    """The path is served for the methods in `detail` only."""


class StoreUnavailable(Refusal):
    """The store is unreachable or too busy."""


class Overloaded(Refusal):
    """The server has too many connections."""


class NotHttp(Refusal):
    """The bytes received are not HTTP."""


class HeadTooLarge(Refusal):
    """Request line and headers are longer than the limit in `detail`."""


class RepeatedHeader(Refusal):
    """The header in `detail` is repeated, so that parsers may disagree."""


class MisdirectedRequest(Refusal):
    """The Host in `detail` is not a name of the listener."""


class InternalFault(Refusal):
    """An unexpected error. The log has the traceback with the response's log_id."""
