-- The follow graph. One file; readers and one writer at a time (WAL).

-- Accounts, with the fields that a page needs. `folded` is the username as compared (NULL: the account does not have
-- a username, and appears in no list), `username` the one in responses. An erased account has a NULL key and nothing
-- else; its row stays, so that its id is never reused. Times are of the latest event that set the field. `revision`
-- counts changes of a name or visibility over the whole table, for the caches of readers; 0 until the first change.
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

-- The latest claim of each account to each username. Claims outlive a rename, so that a late event cannot win a name
-- that was given up.
CREATE TABLE claim (
    folded  TEXT    NOT NULL,
    account INTEGER NOT NULL REFERENCES account (id),
    at      INTEGER NOT NULL,
    PRIMARY KEY (folded, account)
) STRICT, WITHOUT ROWID;

CREATE INDEX claim_account ON claim (account);

-- Other profile fields of accounts, if a source has set them.
CREATE TABLE profile (
    account INTEGER NOT NULL REFERENCES account (id),
    field   TEXT    NOT NULL,
    value   ANY     NOT NULL,
    at      INTEGER NOT NULL,
    PRIMARY KEY (account, field)
) STRICT, WITHOUT ROWID;

-- Visible entries of lists, in blocks. `block` is the owner's id in the upper 32 bits, and the first second that the
-- block may hold in the lower 32 bits; it reaches up to the owner's next block. The only block of a list begins at 0,
-- the first of several at 1. blocks.py explains `entries` and `displaced`. A page is one range of the primary key, read
-- backwards.
CREATE TABLE following (block INTEGER PRIMARY KEY, entries BLOB NOT NULL, displaced BLOB) STRICT;
CREATE TABLE followers (block INTEGER PRIMARY KEY, entries BLOB NOT NULL, displaced BLOB) STRICT;

-- Hidden entries: their account does not appear in lists. Relocation moves them to and from the same positions.
CREATE TABLE following_aside (block INTEGER PRIMARY KEY, entries BLOB NOT NULL, displaced BLOB) STRICT;
CREATE TABLE followers_aside (block INTEGER PRIMARY KEY, entries BLOB NOT NULL, displaced BLOB) STRICT;

-- Numbers of entries of lists with several blocks.
CREATE TABLE following_count (owner INTEGER PRIMARY KEY, entries INTEGER NOT NULL) STRICT;
CREATE TABLE followers_count (owner INTEGER PRIMARY KEY, entries INTEGER NOT NULL) STRICT;
CREATE TABLE following_aside_count (owner INTEGER PRIMARY KEY, entries INTEGER NOT NULL) STRICT;
CREATE TABLE followers_aside_count (owner INTEGER PRIMARY KEY, entries INTEGER NOT NULL) STRICT;

-- Slot runs: adjacent taken slots of a list, each run as long as possible, so that the nearest free slot is found
-- without a walk through a burst. A single slot has a row only if its entry is hidden or has ended.
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

-- Pairs that are not plain: a plain pair has one follow, at its true second in both lists. `moments` is the set of
-- events (pair_table.py), NULL for a single follow at `started_at`. The other columns are the open interval.
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

-- Ended intervals. They keep their slots.
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

-- Future events: they claimed a time after their receipt. `at` is the second that counted instead.
CREATE TABLE postdated (
    account    INTEGER NOT NULL,
    other      INTEGER NOT NULL,
    event      TEXT    NOT NULL,
    claimed_at INTEGER NOT NULL,
    at         INTEGER NOT NULL,
    PRIMARY KEY (account, other, event, claimed_at)
) STRICT, WITHOUT ROWID;

-- Relocations: accounts whose entries in others' lists are being hidden, shown again, or (erased) removed.
-- `direction` is the account's own list that is being walked, down to `position` so far. `merge`: readers must merge
-- visible and hidden entries meanwhile, since visible ones are missing, or the account's own lists must not be read.
CREATE TABLE moving (
    account   INTEGER PRIMARY KEY,
    merge     INTEGER NOT NULL,
    direction TEXT    NOT NULL,
    position  INTEGER NOT NULL
) STRICT;

CREATE INDEX moving_merge ON moving (account) WHERE merge;

-- Lists with an interval, open or ended, at a slot later than its true start, because all earlier slots were taken. In
-- all other lists, an interval that began by a second has a slot at or before that second.
CREATE TABLE late (
    owner     INTEGER NOT NULL,
    direction TEXT    NOT NULL,
    PRIMARY KEY (owner, direction)
) STRICT, WITHOUT ROWID;

-- Tombstones of erased accounts: HMACs of their keys and usernames under the store's secret.
CREATE TABLE tombstone (mac BLOB PRIMARY KEY) STRICT, WITHOUT ROWID;
CREATE TABLE secret (value BLOB NOT NULL) STRICT;
INSERT INTO secret VALUES (randomblob(32));
