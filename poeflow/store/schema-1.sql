-- The history of runs, version 1. Records are JSON, as poeflow/records.py has them.

CREATE TABLE runs (
    id INTEGER PRIMARY KEY AUTOINCREMENT,   -- a number never comes twice
    flow TEXT NOT NULL,
    started REAL NOT NULL,                  -- Unix seconds
    simulated INTEGER NOT NULL,
    record TEXT NOT NULL,
    exit_code INTEGER,                      -- NULL while it is at work, and for ever where killed
    ending TEXT
);
CREATE INDEX runs_of_a_flow ON runs (flow, id);

-- What is long is kept once, however many runs came to it; attachments are hashes.
CREATE TABLE contents (
    id INTEGER PRIMARY KEY,
    hash BLOB NOT NULL UNIQUE,
    kind TEXT NOT NULL,                     -- 'request', 'completion' or 'result'
    body TEXT NOT NULL
);

CREATE TABLE instances (
    id INTEGER PRIMARY KEY,
    run INTEGER NOT NULL REFERENCES runs (id),
    name TEXT NOT NULL,
    fingerprint TEXT,
    request INTEGER REFERENCES contents (id),
    result INTEGER REFERENCES contents (id),
    record TEXT NOT NULL
);
CREATE INDEX instances_of_a_run ON instances (run);
CREATE INDEX instances_with_a_result ON instances (fingerprint) WHERE result IS NOT NULL;

CREATE TABLE requests (
    id INTEGER PRIMARY KEY,
    run INTEGER NOT NULL REFERENCES runs (id),
    instance TEXT NOT NULL,
    request INTEGER NOT NULL REFERENCES contents (id),
    completion INTEGER REFERENCES contents (id),
    record TEXT NOT NULL,
    ending TEXT                             -- NULL: the outcome is unknown, it may have been billed
);
CREATE INDEX requests_of_a_run ON requests (run, instance);

-- Counts transactions, so that whoever looks sees that something was added.
CREATE TABLE changes (number INTEGER NOT NULL);
INSERT INTO changes (number) VALUES (0);
