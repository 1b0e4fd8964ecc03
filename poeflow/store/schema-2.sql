-- Version 2: stored answers and the ledger of outputs join the history. A body of `contents` is
-- JSON as text, or as a blob that zlib compressed.

-- A stored answer by its fingerprint: that of its request, 32 bytes.
CREATE TABLE answers (
    simulated INTEGER NOT NULL,
    fingerprint BLOB NOT NULL,
    answer INTEGER NOT NULL REFERENCES contents (id),
    request INTEGER REFERENCES contents (id),
    answered_by TEXT,                       -- the model that stood in
    said BLOB,                              -- the hash of its text and reasoning
    stored REAL NOT NULL,                   -- Unix seconds
    PRIMARY KEY (simulated, fingerprint)
) WITHOUT ROWID;

-- The request that a conversation ended with, by its first.
CREATE TABLE ends (
    simulated INTEGER NOT NULL,
    first BLOB NOT NULL,
    last BLOB NOT NULL,
    PRIMARY KEY (simulated, first)
) WITHOUT ROWID;

-- The ledger: the hash of every output file that was written, before the file is replaced.
CREATE TABLE outputs (
    simulated INTEGER NOT NULL,
    place TEXT NOT NULL,                    -- the checkout
    path TEXT NOT NULL,
    sha256 TEXT NOT NULL,
    PRIMARY KEY (simulated, place, path, sha256)
) WITHOUT ROWID;

-- Instances whose result is what an answer says, word for word.
CREATE TABLE quoted (
    instance INTEGER PRIMARY KEY REFERENCES instances (id),
    answer INTEGER NOT NULL REFERENCES contents (id)
);
