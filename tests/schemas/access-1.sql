-- Clients and their tokens, beside the graph in a file that only its owner may read.

CREATE TABLE client (
    key           TEXT    PRIMARY KEY,
    name          TEXT    NOT NULL,
    secret_digest BLOB    NOT NULL CHECK (length(secret_digest) = 32),
    scopes        TEXT    NOT NULL,
    created_at    INTEGER NOT NULL,
    revoked_at    INTEGER
) STRICT;

CREATE TABLE token (
    digest     BLOB    PRIMARY KEY CHECK (length(digest) = 32),
    client     TEXT    NOT NULL REFERENCES client (key),
    expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX token_expiry ON token (expires_at);
