-- Clients and their tokens, in a file beside the graph that only its owner may read.

CREATE TABLE client (
    id            INTEGER PRIMARY KEY,
    key           TEXT    NOT NULL UNIQUE,
    name          TEXT    NOT NULL,
    contact       TEXT    NOT NULL,
    notes         TEXT    NOT NULL,
    scopes        TEXT    NOT NULL,
    created_at    INTEGER NOT NULL,
    not_before    INTEGER,
    not_after     INTEGER,
    suspended_at  INTEGER,
    revoked_at    INTEGER,
    -- The daily quota and the short-term limit. NULL means no limit.
    list_calls    INTEGER,
    list_rows     INTEGER,
    other_calls   INTEGER,
    rate_calls    INTEGER,
    rate_seconds  INTEGER,
    -- SHA-256. The former secret is valid until the given second, so that a client has time to change to the new one.
    secret        BLOB    NOT NULL CHECK (length(secret) = 32),
    former_secret BLOB    CHECK (length(former_secret) = 32),
    former_until  INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE TABLE token (
    digest     BLOB    PRIMARY KEY CHECK (length(digest) = 32),
    client     INTEGER NOT NULL REFERENCES client (id),
    expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX token_expiry ON token (expires_at);

-- One row: the checkpoint of the audit log's hash chain. Records are numbered from 1.
CREATE TABLE audit (
    secret       BLOB    NOT NULL CHECK (length(secret) = 32),
    -- The last record known to be in the log.
    count        INTEGER NOT NULL,
    hash         BLOB    NOT NULL,
    -- The last record before the oldest file that is kept.
    before_count INTEGER NOT NULL,
    before_hash  BLOB    NOT NULL,
    -- Whether records may follow the last known one, because a server is running or was killed.
    is_open      INTEGER NOT NULL
) STRICT;

INSERT INTO audit VALUES (randomblob(32), 0, zeroblob(20), 0, zeroblob(20), 0);
