-- The history of runs, version 1. Records are JSON, as poeflow/records.py has them.

CREATE TABLE runs (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    flow TEXT NOT NULL,
    started REAL NOT NULL,       -- Unix seconds
    simulated INTEGER NOT NULL,
    record TEXT NOT NULL,
    exit_code INTEGER,           -- NULL while it is at work, and for ever where it was killed
    ending TEXT
);
CREATE INDEX runs_of_a_flow ON runs (flow, id);

-- Each request once, whoever sent it and however often; attachments are hashes.
CREATE TABLE bodies (
    fingerprint TEXT PRIMARY KEY,
    body TEXT NOT NULL
) WITHOUT ROWID;

CREATE TABLE instances (
    id INTEGER PRIMARY KEY,
    run INTEGER NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    fingerprint TEXT,
    record TEXT NOT NULL         -- the request is in bodies
);
CREATE INDEX instances_of_a_run ON instances (run);
CREATE INDEX instances_of_a_body ON instances (fingerprint);

CREATE TABLE requests (
    id INTEGER PRIMARY KEY,
    run INTEGER NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    instance TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    record TEXT NOT NULL,        -- the request is in bodies
    answer TEXT                  -- NULL: the outcome is unknown, it may have been billed
);
CREATE INDEX requests_of_a_run ON requests (run, instance);
CREATE INDEX requests_of_a_body ON requests (fingerprint);
CREATE INDEX requests_answered ON requests (id) WHERE answer IS NOT NULL;
