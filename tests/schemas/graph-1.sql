-- The follow graph. One file; readers and one writer at a time (WAL).

-- Accounts, with what a page needs of them. `folded` is the username as compared (NULL: the account has lost it),
-- `username` as answered. `named_at` is the second of the claim to the username. `revision` counts changes of a
-- name or visibility over the whole table, so that readers learn what to forget; 0 until the first change.
CREATE TABLE account (
    id           INTEGER PRIMARY KEY,
    key          TEXT    NOT NULL UNIQUE,
    folded       TEXT    UNIQUE,
    username     TEXT    NOT NULL,
    display_name TEXT    NOT NULL,
    visibility   INTEGER NOT NULL CHECK (visibility BETWEEN 0 AND 3),
    named_at     INTEGER NOT NULL,
    revision     INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE INDEX account_changed ON account (revision) WHERE revision > 0;

-- The rest of what a source says of an account; only where it says something.
CREATE TABLE profile (
    account         INTEGER PRIMARY KEY REFERENCES account (id),
    bio_description TEXT,
    avatar_url      TEXT,
    bio_url         TEXT,
    is_verified     INTEGER,
    likes_count     INTEGER CHECK (likes_count >= 0),
    video_count     INTEGER CHECK (video_count >= 0)
) STRICT;

-- Following lists. A page is one range of the primary key, read backwards. `position` is the follow's own second
-- in this list; `followed_at` is its true second, NULL where that is the position.
CREATE TABLE following (
    follower    INTEGER NOT NULL REFERENCES account (id),
    position    INTEGER NOT NULL CHECK (position >= 1),
    followee    INTEGER NOT NULL REFERENCES account (id),
    followed_at INTEGER,
    PRIMARY KEY (follower, position)
) STRICT, WITHOUT ROWID;

CREATE UNIQUE INDEX following_pair ON following (follower, followee);

-- Stretches of two or more adjacent occupied seconds of a list, each as long as it can be, so that the nearest
-- free second is found without walking along a burst.
CREATE TABLE following_run (
    follower INTEGER NOT NULL,
    first    INTEGER NOT NULL,
    last     INTEGER NOT NULL CHECK (last > first),
    PRIMARY KEY (follower, first)
) STRICT, WITHOUT ROWID;
