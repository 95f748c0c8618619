-- Two equal messages of one listing stay two.

-- How far left_behind had come when a listing did not show the message any more.
ALTER TABLE message ADD COLUMN vanished INTEGER;

-- Messages that a session listed and did not archive: none of them is one that vanishes
-- from a later listing, however equal the two are. AUTOINCREMENT: it tells what was first.
CREATE TABLE left_behind (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    account TEXT NOT NULL,
    unique_id TEXT NOT NULL,
    octets_listed INTEGER,
    UNIQUE (account, unique_id)
) STRICT;
