-- Servers that hide what was retrieved, and failures that can be told.

-- A session that retrieved it ended with the +OK to QUIT, where that hides it.
ALTER TABLE message ADD COLUMN popped INTEGER NOT NULL DEFAULT 0;

DROP INDEX message_known;

CREATE INDEX message_known ON message (
    account, state, unique_id, octets_listed, archived_at, accounted, doubtful, marked,
    altered, arrived_at, popped
);

ALTER TABLE failure ADD COLUMN first REAL NOT NULL DEFAULT 0;  -- since when; 0: not known

ALTER TABLE failure ADD COLUMN why TEXT NOT NULL DEFAULT '';   -- the last sentence
