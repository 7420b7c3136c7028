"""The API's client protocol as generators without I/O: tokens, retries, waits and errors.

A generator yields a `SendRequest` for an `HttpResponse` or `NoResponse`, a `NeedToken` for a token, or a `Sleep`.
"""

from collections.abc import Callable, Generator
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
_LIST_PATH = "/v2/research/user/{}/"
_INFO_PATH = "/v2/research/user/info/?fields={}"
_COUNT_FIELDS = ("following_count", "follower_count")

BROKEN_LIST = "broken_list"  # a code of ours, not of the service
_DAY_SECONDS = 86_400
_YOUNG_SECONDS = 30  # a token refused this soon is tried again: it may not have reached all servers
_RENEW_BEFORE_SECONDS = 60
_TOKEN_ATTEMPTS = 3
_AFTER_MIDNIGHT_SECONDS = 5
_QUOTA_RETRY_SECONDS = 300
_MAX_COUNT_ATTEMPTS = 5
_MAX_UNSERVED_PATH_ATTEMPTS = 4
_MAX_DIGITS = 9  # of seconds in a header

_T = TypeVar("_T")


class SendRequest(Struct, frozen=True):
    """POST this body: a form without a token, else JSON."""

    path: str
    body: bytes
    token: str | None = None


class NoResponse(Struct, frozen=True):
    """The reason why no response came. `max_attempts` applies before the first response."""

    reason: str
    max_attempts: int | None = None


class Sleep(Struct, frozen=True):
    """Wait before the next step."""

    seconds: float
    reason: str


class NeedToken(Struct, frozen=True):
    """Send a valid token, other than `refused`."""

    refused: str | None


Effect = SendRequest | Sleep | NeedToken
Flow = Generator[Effect, Any, _T]


class RetryPolicy(Struct, frozen=True):
    """Limits of attempts and waits, and the reaction to a spent quota. Raises `InputError`."""

    attempts: int = 20
    first_wait_seconds: float = 0.5
    longest_wait_seconds: float = 60.0
    quota: Literal["raise", "wait"] = "raise"

    def __post_init__(self) -> None:
        """Validate the values."""
        if self.attempts < 1 or not 0 <= self.first_wait_seconds <= self.longest_wait_seconds:
            raise InputError(f"{self}: expected at least one attempt, and a first wait of at most the longest")
        if self.quota not in ("raise", "wait"):
            raise InputError(f"{self}: quota: expected raise or wait")


class ApiProtocol:
    """The requests of one client. `chance` returns numbers from 0 to 1."""

    def __init__(self, key: str, secret: str, policy: RetryPolicy, clock: Clock, chance: Callable[[], float]) -> None:
        self._login = urlencode({"client_key": key, "client_secret": secret, "grant_type": "client_credentials"})
        self._policy = policy
        self._clock = clock
        self._chance = chance
        self._token: Token | None = None
        self._token_since = 0
        self.has_answered = False  # whether any response came, so the address is reachable
        self._served = set[str]()  # paths that answered in the API's form

    def cached_token(self, refused: str | None) -> str | None:
        """Return the cached token; None if it must be fetched."""
        token = self._token
        if token is None or token.access_token == refused:
            return None
        age = self._clock.now() - self._token_since
        return None if age > token.expires_in - min(_RENEW_BEFORE_SECONDS, token.expires_in / 2) else token.access_token

    def fetch_token(self) -> Flow[str]:
        """Fetch and cache a new token."""
        attempt = 0
        while True:
            attempt += 1
            since = self._clock.now()
            reply = yield SendRequest(TOKEN_PATH, self._login.encode())
            parsed = self._parse(TOKEN_PATH, responses.parse_token, reply)
            if isinstance(parsed, Token):
                self._token, self._token_since = parsed, since
                return parsed.access_token
            if parsed.kind == "refused":
                raise _final(parsed, reply.status)
            _check_attempts(TOKEN_PATH, attempt, self._policy, parsed)
            yield self._wait(attempt, parsed.message, reply)

    def info(self, username: str, *, only_counts: bool = False) -> Flow[RawUserInfo]:
        """Request a profile, or only its counts with few attempts."""
        fields, policy = UserInfo.__struct_fields__, self._policy
        if only_counts:
            attempts = min(policy.attempts, _MAX_COUNT_ATTEMPTS)
            fields, policy = _COUNT_FIELDS, replace(policy, attempts=attempts, quota="raise")
        path = _INFO_PATH.format(",".join(fields))

        def parse(response: HttpResponse) -> RawUserInfo | BadResponse:
            return responses.parse_info(response, self._clock.now())

        return self._request(path, {"username": username}, parse, policy)

    def page(self, direction: str, body: dict[str, Any], inconsistency: Callable[[ListPage], str]) -> Flow[ListPage]:
        """Request a page until `inconsistency` returns an empty text."""
        bound = body.get("cursor")

        def parse(response: HttpResponse) -> ListPage | BadResponse:
            page = responses.parse_page(response, direction, bound, self._clock.now())
            problem = inconsistency(page) if isinstance(page, ListPage) else ""
            return BadResponse("unusable", problem, BROKEN_LIST) if problem else page

        return self._request(_LIST_PATH.format(direction), body, parse, self._policy)

    def _request(
        self, path: str, body: dict[str, Any], parse: Callable[[HttpResponse], _T | BadResponse], policy: RetryPolicy
    ) -> Flow[_T]:
        content = msgspec.json.encode(body)
        refused: str | None = None
        attempt = refusals = spent = 0
        while True:
            attempt += 1
            token = yield NeedToken(refused)
            reply = yield SendRequest(path, content, token)
            parsed = self._parse(path, parse, reply)
            if not isinstance(parsed, BadResponse):
                return parsed
            if parsed.kind in ("account", "refused"):
                raise _final(parsed, reply.status)
            if parsed.kind == "token":
                refusals += 1
                refused = token if self._must_renew(refusals) else refused
            is_spent = parsed.kind == "quota"
            spent += is_spent
            if is_spent and policy.quota == "raise":
                reason = reply.status, parsed.code, parsed.message, parsed.log_id
                raise DailyQuotaExceeded(self._resets_at(reply), *reason)
            _check_attempts(path, attempt, policy, parsed)
            yield self._wait_for_quota(reply, spent) if is_spent else self._wait(attempt, parsed.message, reply)

    def _parse(
        self, path: str, parse: Callable[[HttpResponse], _T | BadResponse], reply: HttpResponse | NoResponse
    ) -> _T | BadResponse:
        if isinstance(reply, NoResponse):
            max_attempts = None if self.has_answered else reply.max_attempts
            return BadResponse("unusable", reply.reason, max_attempts=max_attempts)
        self.has_answered = True
        parsed = parse(reply)
        if not isinstance(parsed, BadResponse) or not parsed.is_foreign:
            self._served.add(path)
        elif parsed.kind == "refused" and self._served:
            # The address is right, so a gateway failed or the service does not have this path.
            max_attempts = None if path in self._served else _MAX_UNSERVED_PATH_ATTEMPTS
            return replace(parsed, kind="unusable", max_attempts=max_attempts)
        return parsed

    def _wait(self, attempt: int, reason: str, reply: HttpResponse | NoResponse) -> Sleep:
        policy = self._policy
        seconds = min(policy.first_wait_seconds * 2 ** (attempt - 1), policy.longest_wait_seconds)
        seconds *= 1 - self._chance() / 2
        retry_after = _seconds(reply, "retry-after") or 0
        return Sleep(max(seconds, min(retry_after, policy.longest_wait_seconds)), reason)

    def _wait_for_quota(self, reply: HttpResponse, times: int) -> Sleep:
        # Clocks differ, so short waits follow.
        seconds = self._resets_at(reply) - self._clock.now() + _AFTER_MIDNIGHT_SECONDS
        return Sleep(seconds if times == 1 else _QUOTA_RETRY_SECONDS, "the day's quota is spent")

    def _resets_at(self, reply: HttpResponse) -> int:
        now = self._clock.now()
        reset = _seconds(reply, "ratelimit-reset")
        return now + (_DAY_SECONDS - now % _DAY_SECONDS if reset is None or reset > _DAY_SECONDS else reset)

    def _must_renew(self, refusals: int) -> bool:
        age = self._clock.now() - self._token_since
        return age > _YOUNG_SECONDS or refusals % _TOKEN_ATTEMPTS == 0


def _check_attempts(path: str, attempt: int, policy: RetryPolicy, problem: BadResponse) -> None:
    if attempt >= min(policy.attempts, problem.max_attempts or policy.attempts):
        kind = BrokenList if problem.code == BROKEN_LIST else GaveUp
        raise kind(f"{path}: tried {'once' if attempt == 1 else f'{attempt} times'}; last failure: {problem.message}")


def _seconds(reply: HttpResponse | NoResponse, header: str) -> int | None:
    value = reply.headers.get(header, "") if isinstance(reply, HttpResponse) else ""
    return int(value) if value.isascii() and value.isdigit() and len(value) <= _MAX_DIGITS else None


def _final(problem: BadResponse, status: int) -> Refused:
    if problem.kind == "account":
        return AccountUnavailable(
            responses.unavailable_reason(problem.message), status, problem.code, problem.message, problem.log_id
        )
    return Refused(status, problem.code, problem.message, problem.log_id)
