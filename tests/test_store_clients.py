"""Clients and tokens; for every store."""

from msgspec.structs import replace

from retinue.access.client_rows import CLOCK_SKEW_SECONDS
from retinue.model import TOKEN_SECONDS, ClientChange, Quota, QuotaKey, RateLimit, RegisteredClient, Secrets, TokenGrant
from support.backends import BackendFactory
from support.store_contract import run


def test_clients_and_tokens(new_backend: BackendFactory) -> None:
    """Clients are kept, listed and changed; tokens are found until they are forgotten or their client may not ask."""
    backend = new_backend()
    access = backend.open_access()
    window = {"not_before": 50, "not_after": 1500}
    quota = Quota(7, None, 9, RateLimit(3, 60))
    one = RegisteredClient("k1", "One", frozenset({"s", "t"}), 100, contact="c", notes="n", quota=quota, **window)
    two = RegisteredClient("k2", "Two", frozenset({"s"}), 200)
    digests = [bytes([n]) * 32 for n in range(4)]

    async def story() -> None:
        assert await access.find_client("k1") is None
        first, second = await access.add_client(one, digests[0]), await access.add_client(two, digests[1])
        assert [replace(one, id=first.id), replace(two, id=second.id)] == [first, second]
        assert (first, Secrets(digests[0])) == await access.find_client("k1")
        assert [first, second] == await access.clients()
        for number, digest in enumerate(digests):
            await access.add_token(digest, first.id if number else second.id, 1000 + number)
        earliest = 1001 - TOKEN_SECONDS - CLOCK_SKEW_SECONDS
        grant = TokenGrant("k1", frozenset({"s", "t"}), max(50, earliest), 1001, QuotaKey(first.id, 100), quota)
        assert grant == await access.find_grant(digests[1])
        assert await access.find_grant(b"x" * 32) is None
        assert await access.forget_tokens(1001) == 2
        assert [None, None] == [await access.find_grant(digest) for digest in digests[:2]]
        assert not await access.remove_token(digests[2], second.id)
        assert await access.remove_token(digests[2], first.id)
        assert not await access.remove_token(digests[2], first.id)
        change = ClientChange(scopes=frozenset({"u"}), not_after=1002, rate=None, list_calls=1)
        assert [True, False] == [await access.change_client(key, change) for key in ("k1", "nobody")]
        changed = await access.find_grant(digests[3])
        assert changed is not None
        assert (frozenset({"u"}), 1002) == (changed.scopes, changed.expires_at)
        assert Quota(1, None, 9, None) == changed.quota
        assert await access.change_client("k1", ClientChange())
        assert await access.rotate_secret("k1", digests[3], 700)
        found = await access.find_client("k1")
        assert found is not None
        assert Secrets(digests[3], digests[0], 700) == found[1]
        assert await access.suspend_client("k1", 250)
        assert await access.find_grant(digests[3]) is None
        assert await access.suspend_client("k1", None)
        assert await access.find_grant(digests[3]) is not None
        assert [True, True, False] == [
            await access.revoke_client(key, at) for key, at in (("k1", 3), ("k1", 4), ("x", 5))
        ]
        assert [3, None] == [client.revoked_at for client in await access.clients()]
        assert await access.find_grant(digests[3]) is None

    run(story())
    access.close()
    backend.close()
