-- The follow graph: one file in WAL mode, with readers and one writer at a time. Each row is a key and a value with a
-- checksum; store/layout says what a value contains. A key of two numbers has the first one in its upper bits.

CREATE TABLE meta (key TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE account (key INTEGER PRIMARY KEY, value BLOB NOT NULL) STRICT;
CREATE TABLE account_key (key TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE username (key TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE claim (key TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE change (key INTEGER PRIMARY KEY, value BLOB NOT NULL) STRICT;
CREATE TABLE relocation (key INTEGER PRIMARY KEY, value BLOB NOT NULL) STRICT;
CREATE TABLE tombstone (key TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE future_event (key INTEGER PRIMARY KEY, value BLOB NOT NULL) STRICT;

CREATE TABLE following (key INTEGER PRIMARY KEY, value BLOB NOT NULL) STRICT;
CREATE TABLE following_hidden (key INTEGER PRIMARY KEY, value BLOB NOT NULL) STRICT;
CREATE TABLE following_run (key INTEGER PRIMARY KEY, value BLOB NOT NULL) STRICT;
CREATE TABLE following_facts (key INTEGER PRIMARY KEY, value BLOB NOT NULL) STRICT;
CREATE TABLE following_history (key INTEGER PRIMARY KEY, value BLOB NOT NULL) STRICT;

CREATE TABLE followers (key INTEGER PRIMARY KEY, value BLOB NOT NULL) STRICT;
CREATE TABLE followers_hidden (key INTEGER PRIMARY KEY, value BLOB NOT NULL) STRICT;
CREATE TABLE followers_run (key INTEGER PRIMARY KEY, value BLOB NOT NULL) STRICT;
CREATE TABLE followers_facts (key INTEGER PRIMARY KEY, value BLOB NOT NULL) STRICT;
CREATE TABLE followers_history (key INTEGER PRIMARY KEY, value BLOB NOT NULL) STRICT;
