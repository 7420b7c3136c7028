"""The contract of clients, tokens and audit checkpoints: what each backend stores beside the graph."""

from typing import Protocol

from msgspec import Struct

from retinue.model import ClientChange, RegisteredClient, Secrets, TokenGrant


class AccessStore(Protocol):
    """Clients and tokens. Secrets and tokens are SHA-256 digests of 32 bytes."""

    async def add_client(self, client: RegisteredClient, secret: bytes) -> RegisteredClient:
        """Store a client and its secret's digest; return it with its id."""
        ...

    async def find_client(self, key: str) -> tuple[RegisteredClient, Secrets] | None:
        """Return a client and the digests of its secrets."""
        ...

    async def clients(self) -> list[RegisteredClient]:
        """Return all clients, oldest first."""
        ...

    async def change_client(self, key: str, change: ClientChange) -> bool:
        """Change some fields; return False for an unknown client. Writes."""
        ...

    async def rotate_secret(self, key: str, secret: bytes, former_until: int) -> bool:
        """Replace a client's secret; the former one is valid until a second. Writes."""
        ...

    async def suspend_client(self, key: str, at: int | None) -> bool:
        """Suspend a client, or resume it (None). Writes."""
        ...

    async def revoke_client(self, key: str, at: int) -> bool:
        """Revoke a client and its tokens, for good. Writes."""
        ...

    async def add_token(self, digest: bytes, client_id: int, expires_at: int) -> None:
        """Store a token. Writes, without blocking the event loop."""
        ...

    async def remove_token(self, digest: bytes, client_id: int) -> bool:
        """Remove a client's token; return False for an unknown one. Writes."""
        ...

    async def find_grant(self, digest: bytes) -> TokenGrant | None:
        """Return a token's grant if its client is not suspended or revoked."""
        ...

    async def forget_tokens(self, expired_at: int) -> int:
        """Remove tokens that expired by a second; return their number. Writes."""
        ...


class Checkpoint(Struct, frozen=True):
    """The store's record of the audit log's hash chain.

    `count` and `hash` are those of the last record that is surely in the log, `before_count` and `before_hash` those of
    the record before the oldest retained file. While `is_open`, the log may have more records.
    """

    secret: bytes
    count: int
    hash: bytes
    before_count: int
    before_hash: bytes
    is_open: bool


class AuditStore(Protocol):
    """The checkpoint of the audit log."""

    async def audit_checkpoint(self) -> Checkpoint:
        """Return the checkpoint."""
        ...

    async def save_audit_checkpoint(self, checkpoint: Checkpoint) -> None:
        """Save the checkpoint except its secret. Writes, without blocking the event loop."""
        ...
