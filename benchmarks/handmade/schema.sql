-- What the hand-made service keeps. The index that pages are read from is made after the rows are in it (load.py).

CREATE TABLE account (
    id integer PRIMARY KEY,
    username text NOT NULL,
    display_name text NOT NULL,
    visibility text NOT NULL
);

-- `second` is when the follow happened, or, where another follow of the same list has that second already, the nearest
-- free earlier one: so a cursor of plain seconds tells any two rows of a list apart.
CREATE TABLE follow (
    follower integer NOT NULL,
    second bigint NOT NULL,
    followee integer NOT NULL
);

CREATE TABLE client (
    id integer PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    client_key text NOT NULL UNIQUE,
    secret_digest bytea NOT NULL
);

CREATE TABLE token (
    digest bytea PRIMARY KEY,
    client integer NOT NULL REFERENCES client,
    expires_at timestamptz NOT NULL
);
