"""All errors. `wire/rendering.py` has code, status and message of each `Refusal`; the CLI prints the others."""

# RetinueError
# ├── InputError
# │   └── NoSuchClient
# ├── UnwritableOutput
# │   └── ClosedPipe
# ├── UncleanStop
# ├── StoreError
# │   └── MissingStore  NotAStore  UnsupportedSchema  UnavailableLock
# └── Refusal
#     ├── BadBody  BadField  BadCountOrCursor  BodyTooLarge
#     ├── UnknownAccount  PrivateAccount  WithheldAccount
#     ├── InvalidToken  MissingScope  RateLimitExceeded  QuotaExceeded
#     ├── MissingParameter  CredentialsInHeader  MalformedParameters  UnsupportedGrant
#     ├── WrongSecret  InvalidClient  UnknownToken
#     ├── UnsupportedPath  EndpointNotServed  MethodNotAllowed
#     ├── NotHttp  HeadTooLarge  RepeatedHeader  MisdirectedRequest
#     └── StoreUnavailable  AuditUnavailable  Overloaded  InternalFault


class RetinueError(Exception):
    """The base of Retinue's errors."""


class InputError(RetinueError):
    """A command cannot use a file, flag or value."""


class NoSuchClient(InputError):
    """No client has the given key."""


class UnwritableOutput(RetinueError):
    """Standard output cannot be written."""


class ClosedPipe(UnwritableOutput):
    """The reader of standard output is gone."""


class UncleanStop(RetinueError):
    """A server has stopped with errors."""


class StoreError(RetinueError):
    """A store cannot be opened."""


class MissingStore(StoreError):
    """The store does not exist."""


class NotAStore(StoreError):
    """The file or database is foreign or damaged."""


class UnsupportedSchema(StoreError):
    """Another version of Retinue wrote the store."""

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
    """A lock is held by another process, or unsupported."""


class Refusal(RetinueError):
    """A refused request. `detail` completes the message on the wire."""

    def __init__(self, detail: str = "") -> None:
        super().__init__(detail)
        self.detail = detail


class BadBody(Refusal):
    """The body cannot be parsed because of `detail`."""


class BadField(Refusal):
    """`detail` has the field and its expected values."""


class BadCountOrCursor(Refusal):
    """`max_count` or `cursor` is out of range."""


class BodyTooLarge(Refusal):
    """The limit is in `detail`."""


class UnknownAccount(Refusal):
    """No account has the username `detail`."""


class PrivateAccount(Refusal):
    """The account `detail` hides the list."""


class WithheldAccount(Refusal):
    """The account must not be shown."""


class InvalidToken(Refusal):
    """The token is missing or not valid."""


class MissingScope(Refusal):
    """The client lacks the scope `detail`."""


class MissingParameter(Refusal):
    """A token request lacks the parameter `detail`."""


class CredentialsInHeader(Refusal):
    """A token request has credentials in a Basic header."""


class MalformedParameters(Refusal):
    """The part `detail` of a token request is malformed."""


class UnsupportedGrant(Refusal):
    """A token request is for another grant."""


class WrongSecret(Refusal):
    """No client has this key and secret."""


class InvalidClient(Refusal):
    """The client must not have tokens. `detail` is the whole message."""


class UnknownToken(Refusal):
    """The client has no such token."""


class RateLimitExceeded(Refusal):
    """More than `limit` calls, if known. Retry after `reset` seconds."""

    def __init__(self, limit: int | None, reset: int) -> None:
        super().__init__()
        self.limit = limit
        self.calls = 0
        self.reset = reset


class QuotaExceeded(Refusal):
    """`calls` of `limit` a day (None: unlimited) remain. The quota resets in `reset` seconds."""

    def __init__(self, limit: int | None, calls: int, reset: int) -> None:
        super().__init__()
        self.limit = limit
        self.calls = calls
        self.reset = reset


class UnsupportedPath(Refusal):
    """The path does not exist."""


class EndpointNotServed(Refusal):
    """Retinue lacks the path `detail` of TikTok's API."""


class MethodNotAllowed(Refusal):
    """The path allows the methods `detail`."""


class StoreUnavailable(Refusal):
    """The store is unreachable or too busy."""


class AuditUnavailable(Refusal):
    """The audit log cannot be written, so no request is answered."""


class Overloaded(Refusal):
    """The server has too many connections."""


class NotHttp(Refusal):
    """The request is not HTTP."""


class HeadTooLarge(Refusal):
    """The limit of the request head is in `detail`."""


class RepeatedHeader(Refusal):
    """The header `detail` is repeated."""


class MisdirectedRequest(Refusal):
    """The listener does not have the name `detail`."""


class InternalFault(Refusal):
    """An unexpected error, logged with its log_id."""
