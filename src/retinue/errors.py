"""Every error of ours, and nothing else.

    RetinueError
    ├── InputError              a command was given something it cannot work with
    │   └── NoSuchClient
    ├── UnwritableOutput        standard output cannot be written
    │   └── ClosedPipe
    ├── UncleanStop             a server has stopped, but not in order
    ├── StoreError              a store cannot be opened
    │   ├── StoreMissing
    │   ├── NotAStore
    │   ├── UnsupportedSchema
    │   └── UnavailableLock
    └── Refusal                 a request that gets an error answer; `rendering.py` knows its code, status and message
        ├── BadBody  BadField  BadCountOrCursor  BodyTooLarge
        ├── AccountNotFound  AccountPrivate  AccountWithheld
        ├── TokenInvalid  ScopeMissing  RateExceeded  QuotaSpent
        ├── ParameterMissing  CredentialsInHeader  ParametersMalformed  GrantUnsupported
        ├── SecretWrong  ClientInvalid  TokenUnknown
        ├── PathUnsupported  EndpointNotServed  MethodNotAllowed
        ├── NotHttp  HeadTooLarge  RepeatedHeader  MisdirectedRequest
        └── StoreUnavailable  Overloaded  InternalFault

Domain code raises these; only `wire/rendering.py` turns a `Refusal` into bytes, only the CLI prints the others.
"""


class RetinueError(Exception):
    """Root of all errors raised on purpose."""


class InputError(RetinueError):
    """A file, flag or value that a command cannot work with; the message names it."""


class NoSuchClient(InputError):
    """No client has the key that was given."""


class UnwritableOutput(RetinueError):
    """Standard output cannot be written; the message says why."""


class ClosedPipe(UnwritableOutput):
    """The reader of standard output has closed it."""


class UncleanStop(RetinueError):
    """A server has stopped, but a process of it lost something or failed; the message says what to look at."""


class StoreError(RetinueError):
    """A store that cannot be opened; the message says why and what to do."""


class StoreMissing(StoreError):
    """There is nothing at the given place."""


class NotAStore(StoreError):
    """There is something at the given place, but Retinue did not make it or it is damaged."""


class UnsupportedSchema(StoreError):
    """The store was written by an older or newer Retinue, with another schema than the `supported` one."""

    def __init__(self, store: object, schema: int, supported: int) -> None:
        age, remedy = (
            ("older", "export it with that version, and import the files into a new store")
            if schema < supported
            else ("newer", "update Retinue")
        )
        super().__init__(
            f"{store}: written by {'an' if age == 'older' else 'a'} {age} Retinue"
            f" (schema {schema}, this version needs {supported}); {remedy}"
        )


class UnavailableLock(StoreError):
    """A file or folder cannot be locked: another process holds the lock, or the file system has no locks."""


class Refusal(RetinueError):
    """A request that is refused. `detail` fills the one gap that the wire's message may have."""

    def __init__(self, detail: str = "") -> None:
        super().__init__(detail)
        self.detail = detail


class BadBody(Refusal):
    """The body is no JSON object and no form pairs; `detail` says what is wrong with it."""


class BadField(Refusal):
    """One field has a value that is not accepted; `detail` names the field and what was expected."""


class BadCountOrCursor(Refusal):
    """`max_count` or `cursor` is a number outside its range."""


class BodyTooLarge(Refusal):
    """The body is longer than the limit in `detail`."""


class AccountNotFound(Refusal):
    """No live account has the username in `detail`."""


class AccountPrivate(Refusal):
    """The account in `detail` is private or hides the list asked for."""


class AccountWithheld(Refusal):
    """The account may not be shown: banned, under age, region or law."""


class TokenInvalid(Refusal):
    """The access token is absent, malformed, unknown, expired or revoked; `detail` may say more."""


class ScopeMissing(Refusal):
    """The client lacks the scope in `detail`."""


class ParameterMissing(Refusal):
    """The token request lacks the parameter described by `detail`."""


class CredentialsInHeader(Refusal):
    """The token request lacks the parameter described by `detail`, and has a Basic Authorization header instead."""


class ParametersMalformed(Refusal):
    """The token request cannot be read; `detail` says which part of it."""


class GrantUnsupported(Refusal):
    """The token request asks for another grant than client credentials."""


class SecretWrong(Refusal):
    """No client has this key and this secret."""


class ClientInvalid(Refusal):
    """A client that proved itself, but may not have tokens; `detail` is the whole sentence."""


class TokenUnknown(Refusal):
    """The token to revoke is none of the client's that is good."""


class RateExceeded(Refusal):
    """More calls in a short time than `limit` (None where no number can be named); `reset` seconds are to wait."""

    def __init__(self, limit: int | None, reset: int) -> None:
        super().__init__()
        self.limit = limit
        self.calls = 0
        self.reset = reset


class QuotaSpent(Refusal):
    """The calls or rows of a day are spent. Of `limit` calls (None: any number) `calls` are left, up to midnight, which
    is in `reset` seconds.
    """

    def __init__(self, limit: int | None, calls: int, reset: int) -> None:
        super().__init__()
        self.limit = limit
        self.calls = calls
        self.reset = reset


class PathUnsupported(Refusal):
    """Nothing lives at the path."""


class EndpointNotServed(Refusal):
    """A path of TikTok's Research API that Retinue does not serve; `detail` is the path."""


class MethodNotAllowed(Refusal):
    """The path is served, for the methods in `detail` only."""


class StoreUnavailable(Refusal):
    """The store is out of reach or too busy at the moment."""


class Overloaded(Refusal):
    """There are more connections than the server takes at once."""


class NotHttp(Refusal):
    """The bytes received are not HTTP."""


class HeadTooLarge(Refusal):
    """The request line and the headers are together longer than the limit in `detail`."""


class RepeatedHeader(Refusal):
    """The header in `detail` is there twice, so that two readers of the request may disagree."""


class MisdirectedRequest(Refusal):
    """The Host in `detail` is no name of the listener."""


class InternalFault(Refusal):
    """Something failed that should not; the log has the traceback under the answer's log_id."""
