-- The follow graph. One file; readers and one writer at a time (WAL).

-- Accounts, with what a page needs of them. `folded` is the username as compared (NULL: the account has none, and is
-- no row), `username` as answered. An erased account has a NULL key and nothing else; its row stays, so that
-- its id is never another's. The times are those of the latest event that set the field. `revision` counts changes of
-- a name or visibility over the whole table, so that readers learn what to forget; 0 until the first change.
CREATE TABLE account (
    id              INTEGER PRIMARY KEY,
    key             TEXT    UNIQUE,
    folded          TEXT    UNIQUE,
    username        TEXT    NOT NULL,
    username_at     INTEGER NOT NULL,
    display_name    TEXT    NOT NULL,
    display_name_at INTEGER NOT NULL,
    visibility      INTEGER NOT NULL CHECK (visibility BETWEEN 0 AND 3),
    visibility_at   INTEGER NOT NULL,
    revision        INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE INDEX account_changed ON account (revision) WHERE revision > 0;

-- Every claim that was ever made to a username, by each account its latest. Claims outlive a rename, so that a late
-- event cannot win a name that is gone.
CREATE TABLE claim (
    folded  TEXT    NOT NULL,
    account INTEGER NOT NULL REFERENCES account (id),
    at      INTEGER NOT NULL,
    PRIMARY KEY (folded, account)
) STRICT, WITHOUT ROWID;

CREATE INDEX claim_account ON claim (account);

-- The rest of what a source says of an account; only where it says something.
CREATE TABLE profile (
    account INTEGER NOT NULL REFERENCES account (id),
    field   TEXT    NOT NULL,
    value   ANY     NOT NULL,
    at      INTEGER NOT NULL,
    PRIMARY KEY (account, field)
) STRICT, WITHOUT ROWID;

-- Lists, packed: `block` is the owner's id in the upper and the first second it may hold in the lower 32 bits; it
-- reaches up to the next block of that owner. The only block of a list begins at 0, the first of several at 1.
-- `entries` and `displaced` are explained in blocks.py. A page is one range of the primary key, read backwards.
CREATE TABLE following (block INTEGER PRIMARY KEY, entries BLOB NOT NULL, displaced BLOB) STRICT;
CREATE TABLE followers (block INTEGER PRIMARY KEY, entries BLOB NOT NULL, displaced BLOB) STRICT;

-- Out of the way of pages: entries whose account is no row. They go back to the same positions.
CREATE TABLE following_aside (block INTEGER PRIMARY KEY, entries BLOB NOT NULL, displaced BLOB) STRICT;
CREATE TABLE followers_aside (block INTEGER PRIMARY KEY, entries BLOB NOT NULL, displaced BLOB) STRICT;

-- How many entries the lists of several blocks have.
CREATE TABLE following_count (owner INTEGER PRIMARY KEY, entries INTEGER NOT NULL) STRICT;
CREATE TABLE followers_count (owner INTEGER PRIMARY KEY, entries INTEGER NOT NULL) STRICT;
CREATE TABLE following_aside_count (owner INTEGER PRIMARY KEY, entries INTEGER NOT NULL) STRICT;
CREATE TABLE followers_aside_count (owner INTEGER PRIMARY KEY, entries INTEGER NOT NULL) STRICT;

-- Stretches of adjacent occupied seconds of a list, each as long as it can be, so that the nearest free second is
-- found without walking along a burst. A single second is here only if its entry is not in the list's own blocks.
CREATE TABLE following_taken (
    owner INTEGER NOT NULL,
    first INTEGER NOT NULL,
    last  INTEGER NOT NULL CHECK (last >= first),
    PRIMARY KEY (owner, first)
) STRICT, WITHOUT ROWID;
CREATE TABLE followers_taken (
    owner INTEGER NOT NULL,
    first INTEGER NOT NULL,
    last  INTEGER NOT NULL CHECK (last >= first),
    PRIMARY KEY (owner, first)
) STRICT, WITHOUT ROWID;

-- Pairs of which there is more to say than one follow that stands on its own second in both lists. `moments` is the
-- set of its events (pairs.py), NULL for a single follow at `started_at`; the other columns tell the open interval.
CREATE TABLE pair (
    follower           INTEGER NOT NULL,
    followee           INTEGER NOT NULL,
    moments            BLOB,
    started_at         INTEGER,
    following_position INTEGER,
    followers_position INTEGER,
    PRIMARY KEY (follower, followee)
) STRICT, WITHOUT ROWID;

CREATE INDEX pair_over ON pair (followee) WHERE started_at IS NULL;

-- Intervals that have ended. Their positions stay theirs.
CREATE TABLE ended (
    follower           INTEGER NOT NULL,
    followee           INTEGER NOT NULL,
    started_at         INTEGER NOT NULL,
    ended_at           INTEGER NOT NULL CHECK (ended_at > started_at),
    following_position INTEGER NOT NULL,
    followers_position INTEGER NOT NULL,
    PRIMARY KEY (follower, followee, started_at)
) STRICT, WITHOUT ROWID;

CREATE UNIQUE INDEX ended_following ON ended (follower, following_position);
CREATE UNIQUE INDEX ended_followers ON ended (followee, followers_position);

-- Events that claimed a time in the future when they came, and the time that counted instead (postdated.py).
CREATE TABLE postdated (
    account    INTEGER NOT NULL,
    other      INTEGER NOT NULL,
    event      TEXT    NOT NULL,
    claimed_at INTEGER NOT NULL,
    at         INTEGER NOT NULL,
    PRIMARY KEY (account, other, event, claimed_at)
) STRICT, WITHOUT ROWID;

-- Accounts whose entries in others' lists are being moved aside, back, or (erased) away. `direction` is the one of
-- the account's own lists that is being walked, done down to `position`. `merge`: readers cannot go by the range of
-- pages alone meanwhile, since entries are missing there, or the account's own lists should be gone.
CREATE TABLE moving (
    account   INTEGER PRIMARY KEY,
    merge     INTEGER NOT NULL,
    direction TEXT    NOT NULL,
    position  INTEGER NOT NULL
) STRICT;

CREATE INDEX moving_merge ON moving (account) WHERE merge;

-- Lists in which some interval stands, or stood, on a second later than its true start: the seconds from 1 to its start
-- were full. In all others nothing that began by a second stands behind it.
CREATE TABLE late (
    owner     INTEGER NOT NULL,
    direction TEXT    NOT NULL,
    PRIMARY KEY (owner, direction)
) STRICT, WITHOUT ROWID;

-- What is left of erased accounts: HMACs of their keys and usernames under the store's secret.
CREATE TABLE tombstone (mac BLOB PRIMARY KEY) STRICT, WITHOUT ROWID;
CREATE TABLE secret (value BLOB NOT NULL) STRICT;
INSERT INTO secret VALUES (randomblob(32));
