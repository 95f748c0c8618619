-- The ledger as it began. Migrations run in order, each in one transaction, once.
-- "popf": tells this file from any other SQLite database.
PRAGMA application_id = 0x706f7066;

CREATE TABLE ledger (
    only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
    id TEXT NOT NULL CHECK (length(id) = 12),    -- in the name of each archived file
    highest INTEGER NOT NULL                     -- sequence number given so far
) STRICT;

INSERT INTO ledger VALUES (1, lower(hex(randomblob(6))), 0);

-- One row for each message: recorded -> published -> removed. A row is damaged while
-- its copy is known to be missing or altered: no message is taken for it then.
-- AUTOINCREMENT: a row's id is never given twice.
CREATE TABLE message (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    account TEXT NOT NULL,
    unique_id TEXT,                              -- as last listed, octets as latin-1
    octets_listed INTEGER,                       -- as last listed
    octets INTEGER NOT NULL,                     -- as received
    stored INTEGER NOT NULL,
    form TEXT NOT NULL,
    header_digest BLOB NOT NULL CHECK (length(header_digest) = 32),
    content_digest BLOB NOT NULL CHECK (length(content_digest) = 32),
    likeness BLOB CHECK (length(likeness) = 32), -- none: its header names it not
    format TEXT NOT NULL,
    directory TEXT NOT NULL,
    base TEXT NOT NULL,
    name TEXT NOT NULL,
    spool TEXT,                                  -- the spool file's folder, if not tmp/
    begins_at INTEGER,                           -- of an mbox: where its octets stand
    length INTEGER,
    bare_digest BLOB CHECK (length(bare_digest) = 32), -- without readers' headers
    number INTEGER NOT NULL,
    state TEXT NOT NULL CHECK (
        state IN ('recorded', 'published', 'removed', 'damaged')
    ),
    accounted INTEGER NOT NULL DEFAULT 0,        -- the last complete listing had it
    doubtful INTEGER NOT NULL DEFAULT 0,         -- its unique-id says nothing
    marked INTEGER NOT NULL DEFAULT 0,           -- DELE was sent, no +OK to QUIT came
    altered INTEGER NOT NULL DEFAULT 0,          -- other octets at each RETR
    arrived_at REAL NOT NULL,                    -- topmost Received, else its visit
    recorded_at REAL NOT NULL,
    archived_at REAL CHECK (archived_at IS NOT NULL OR state = 'recorded'),
    removed_at REAL CHECK (removed_at IS NOT NULL OR state <> 'removed')
) STRICT;

-- Holds all that selection asks for, so that a visit never reads the wide rows.
CREATE INDEX message_known ON message (
    account, state, unique_id, octets_listed, archived_at, accounted, doubtful, marked,
    altered, arrived_at
);

CREATE INDEX message_by_content ON message (account, content_digest);

CREATE INDEX message_by_header ON message (account, header_digest);

CREATE INDEX message_by_likeness ON message (account, likeness)
WHERE likeness IS NOT NULL;

-- Finds who else archived the same message in the same mbox.
CREATE INDEX message_by_bare ON message (bare_digest) WHERE bare_digest IS NOT NULL;

CREATE INDEX message_open ON message (account, base) WHERE state = 'recorded';

-- Messages that could not be retrieved, until they are.
CREATE TABLE failure (
    account TEXT NOT NULL,
    unique_id TEXT NOT NULL,
    visits INTEGER NOT NULL,
    last REAL NOT NULL,
    PRIMARY KEY (account, unique_id)
) STRICT, WITHOUT ROWID;

-- What is remembered of an account between visits, as JSON: shown, never joined.
CREATE TABLE account_state (
    account TEXT PRIMARY KEY,
    state TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- When each account's archive was last read against these rows, and what it showed.
CREATE TABLE verification (
    account TEXT PRIMARY KEY,
    ended REAL NOT NULL,
    damaged INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
