"""How to ask so that nothing is lost, without asking: generators that say what to do next and are told what came of it.

They yield a `SendRequest` and are sent an `HttpResponse` or `NoResponse`; a `Sleep`; or a `NeedToken`, for which one
token is fetched however many are waiting (`fetch_token`). Knows no HTTP library; time and chance are passed in.
"""

from collections.abc import Callable, Generator, Sequence
from typing import Any, Literal, TypeVar
from urllib.parse import urlencode

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from retinue.client import responses
from retinue.client.errors import AccountUnavailable, BrokenList, DailyQuotaExceeded, GaveUp, Refused
from retinue.client.responses import BadResponse, HttpResponse, ListPage, RawUserInfo, Token, UserInfo
from retinue.clock import Clock
from retinue.errors import InputError

TOKEN_PATH = "/v2/oauth/token/"  # noqa: S105 - a path
LIST_PATH = "/v2/research/user/{}/"
INFO_PATH = "/v2/research/user/info/?fields={}"
COUNT_FIELDS = ("following_count", "follower_count")

BROKEN_LIST = "broken_list"  # a code of our own
_DAY_SECONDS = 86_400
_YOUNG_SECONDS = 30  # a token that is refused this early is tried once more: services may not know it everywhere yet
_RENEW_BEFORE_SECONDS = 60
_TRIES_OF_A_TOKEN = 3
_AFTER_MIDNIGHT_SECONDS = 5
_STILL_SPENT_SECONDS = 300
_ATTEMPTS_OF_COUNTS = 5
_ATTEMPTS_OF_UNSERVED_PATHS = 4
_MOST_DIGITS = 9  # of seconds in a header

_T = TypeVar("_T")


class SendRequest(Struct, frozen=True):
    """Send this as POST. Without a token the body is a form, else JSON."""

    path: str
    body: bytes
    token: str | None = None


class NoResponse(Struct, frozen=True):
    """No answer came: why. `max_attempts` are enough for such a failure, as long as the service has never answered."""

    reason: str
    max_attempts: int | None = None


class Sleep(Struct, frozen=True):
    """Do nothing for so long."""

    seconds: float
    reason: str


class NeedToken(Struct, frozen=True):
    """Say a token that is good. `refused` is one that is not."""

    refused: str | None


Effect = SendRequest | Sleep | NeedToken
Flow = Generator[Effect, Any, _T]


class RetryPolicy(Struct, frozen=True):
    """How patient to be. Waits double from the first to the longest, each shortened by chance by up to a half.

    `attempts`: how often one thing is asked for before giving up. `quota`: what to do when the day's is spent.
    """

    attempts: int = 20
    first_wait_seconds: float = 0.5
    longest_wait_seconds: float = 60.0
    quota: Literal["raise", "wait"] = "raise"

    def __post_init__(self) -> None:
        """Raises `InputError`."""
        if self.attempts < 1 or not 0 <= self.first_wait_seconds <= self.longest_wait_seconds:
            raise InputError(f"{self}: at least one attempt, and the first wait is the shortest")
        if self.quota not in ("raise", "wait"):
            raise InputError(f"{self}: quota is raise or wait")


class ApiProtocol:
    """Asks in the name of one client. `chance` gives numbers from 0 to 1."""

    def __init__(self, key: str, secret: str, policy: RetryPolicy, clock: Clock, chance: Callable[[], float]) -> None:
        self._login = urlencode({"client_key": key, "client_secret": secret, "grant_type": "client_credentials"})
        self._policy = policy
        self._clock = clock
        self._chance = chance
        self._token: Token | None = None
        self._token_since = 0
        self.has_answered = False  # whether any answer came, however bad: the address can be reached
        self._served = set[str]()  # paths from which an answer in the API's form has come

    # --- tokens -----------------------------------------------------------------------------------------------------

    def known_token(self, refused: str | None) -> str | None:
        """The token that is good as far as we know; None if one has to be fetched."""
        token = self._token
        if token is None or token.access_token == refused:
            return None
        age = self._clock.now() - self._token_since
        return None if age > token.expires_in - min(_RENEW_BEFORE_SECONDS, token.expires_in / 2) else token.access_token

    def fetch_token(self) -> Flow[str]:
        """Get a new token."""
        attempt = 0
        while True:
            attempt += 1
            since = self._clock.now()
            reply = yield SendRequest(TOKEN_PATH, self._login.encode())
            found = self._read(TOKEN_PATH, responses.token, reply)
            if isinstance(found, Token):
                self._token, self._token_since = found, since
                return found.access_token
            if found.kind == "refused":
                raise Refused(reply.status, found.code, found.message, found.log_id)
            _check_attempts(TOKEN_PATH, attempt, _limit(self._policy, found), found)
            yield self._wait(attempt, found.message, reply)

    # --- what is asked for ------------------------------------------------------------------------------------------

    def info(self, username: str) -> Flow[RawUserInfo]:
        """An account's profile."""
        return self._info(username, UserInfo.__struct_fields__, self._policy)

    def counts(self, username: str) -> Flow[RawUserInfo]:
        """Get nothing but the counts of an account's lists, with few attempts and without waiting for a quota."""
        hurried = replace(self._policy, attempts=min(self._policy.attempts, _ATTEMPTS_OF_COUNTS), quota="raise")
        return self._info(username, COUNT_FIELDS, hurried)

    def page(self, direction: str, body: dict[str, Any], is_sound: Callable[[ListPage], str]) -> Flow[ListPage]:
        """A page of a list. `is_sound` says what is wrong with one; it is asked for again then."""
        bound = body.get("cursor")

        def read(answer: HttpResponse) -> ListPage | BadResponse:
            found = responses.page(answer, direction, bound, self._clock.now())
            wrong = is_sound(found) if isinstance(found, ListPage) else ""
            return BadResponse("unusable", wrong, BROKEN_LIST) if wrong else found

        return self._ask(LIST_PATH.format(direction), body, read, self._policy)

    def _info(self, username: str, fields: Sequence[str], policy: RetryPolicy) -> Flow[RawUserInfo]:
        path = INFO_PATH.format(",".join(fields))
        return self._ask(path, {"username": username}, lambda answer: responses.info(answer, self._clock.now()), policy)

    def _ask(
        self, path: str, body: dict[str, Any], read: Callable[[HttpResponse], _T | BadResponse], policy: RetryPolicy
    ) -> Flow[_T]:
        """Ask until there is an answer that can be read, or one that is final."""
        content = msgspec.json.encode(body)
        refused: str | None = None
        attempt = refusals = spent = 0
        while True:
            attempt += 1
            token = yield NeedToken(refused)
            reply = yield SendRequest(path, content, token)
            found = self._read(path, read, reply)
            if not isinstance(found, BadResponse):
                return found
            if found.kind in ("account", "refused"):
                raise _final(found, reply.status)
            if found.kind == "token":
                refusals += 1
                refused = token if self._is_to_be_renewed(refusals) else refused
            is_spent = found.kind == "quota"
            spent += is_spent
            if is_spent and policy.quota == "raise":
                raise self._quota_spent(found, reply)
            _check_attempts(path, attempt, _limit(policy, found), found)
            yield self._next_quota(reply, spent) if is_spent else self._wait(attempt, found.message, reply)

    def _read(
        self, path: str, read: Callable[[HttpResponse], _T | BadResponse], reply: HttpResponse | NoResponse
    ) -> _T | BadResponse:
        if isinstance(reply, NoResponse):
            max_attempts = None if self.has_answered else reply.max_attempts
            return BadResponse("unusable", reply.reason, max_attempts=max_attempts)
        self.has_answered = True
        found = read(reply)
        if not isinstance(found, BadResponse) or not found.is_foreign:
            self._served.add(path)
        elif found.kind == "refused" and self._served:
            # The address is right: a gateway's hiccup, or a path that the service does not serve.
            max_attempts = None if path in self._served else _ATTEMPTS_OF_UNSERVED_PATHS
            return replace(found, kind="unusable", max_attempts=max_attempts)
        return found

    # --- waiting ----------------------------------------------------------------------------------------------------

    def _wait(self, attempt: int, reason: str, reply: HttpResponse | NoResponse) -> Sleep:
        """How long to wait: as long as the service says, within reason, else longer each time."""
        policy = self._policy
        seconds = min(policy.first_wait_seconds * 2 ** (attempt - 1), policy.longest_wait_seconds)
        seconds *= 1 - self._chance() / 2
        said = _seconds(reply, "retry-after") or 0
        return Sleep(max(seconds, min(said, policy.longest_wait_seconds)), reason)

    def _quota_spent(self, fault: BadResponse, reply: HttpResponse) -> DailyQuotaExceeded:
        return DailyQuotaExceeded(self._resets_at(reply), reply.status, fault.code, fault.message, fault.log_id)

    def _next_quota(self, reply: HttpResponse, times: int) -> Sleep:
        """Until midnight; if it is still spent then, a short while: clocks differ."""
        seconds = self._resets_at(reply) - self._clock.now() + _AFTER_MIDNIGHT_SECONDS
        return Sleep(seconds if times == 1 else _STILL_SPENT_SECONDS, "the day's quota is spent")

    def _resets_at(self, reply: HttpResponse) -> int:
        """When there is a new quota, by what the service says, else by our own clock."""
        now = self._clock.now()
        said = _seconds(reply, "ratelimit-reset")
        return now + (_DAY_SECONDS - now % _DAY_SECONDS if said is None or said > _DAY_SECONDS else said)

    def _is_to_be_renewed(self, refusals: int) -> bool:
        age = self._clock.now() - self._token_since
        return age > _YOUNG_SECONDS or refusals % _TRIES_OF_A_TOKEN == 0


def _limit(policy: RetryPolicy, fault: BadResponse) -> int:
    """How many attempts are allowed after such a fault."""
    return policy.attempts if fault.max_attempts is None else min(policy.attempts, fault.max_attempts)


def _check_attempts(path: str, attempt: int, limit: int, fault: BadResponse) -> None:
    """Raise `GaveUp` or `BrokenList` if that was the last attempt."""
    if attempt >= limit:
        kind = BrokenList if fault.code == BROKEN_LIST else GaveUp
        raise kind(f"{path}: asked {'once' if attempt == 1 else f'{attempt} times'}; at last: {fault.message}")


def _seconds(answer: HttpResponse | NoResponse, header: str) -> int | None:
    """What a header says in seconds, as far as it does."""
    said = answer.headers.get(header, "") if isinstance(answer, HttpResponse) else ""
    return int(said) if said.isascii() and said.isdigit() and len(said) <= _MOST_DIGITS else None


def _final(fault: BadResponse, status: int) -> Refused:
    if fault.kind == "account":
        return AccountUnavailable(responses.reason_of(fault.message), status, fault.code, fault.message, fault.log_id)
    return Refused(status, fault.code, fault.message, fault.log_id)
