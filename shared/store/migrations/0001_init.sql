-- Version 1. The same text runs on SQLite and PostgreSQL: BIGINT and TEXT alone, times in microseconds since the epoch.

-- Where the store stands. `floor` is the oldest revision that can still be rebuilt; `epoch` the youngest writer seen.
CREATE TABLE head (
    id BIGINT PRIMARY KEY CHECK (id = 1),
    revision BIGINT NOT NULL,
    epoch BIGINT NOT NULL,
    floor BIGINT NOT NULL
);
INSERT INTO head (id, revision, epoch, floor) VALUES (1, 0, 0, 0);

CREATE TABLE revision (
    n BIGINT PRIMARY KEY,
    committed_us BIGINT NOT NULL,
    source TEXT NOT NULL,
    summary TEXT NOT NULL,
    digest TEXT NOT NULL
);

-- The objects as of head.
CREATE TABLE object (
    kind TEXT NOT NULL,
    namespace TEXT NOT NULL,
    name TEXT NOT NULL,
    body TEXT NOT NULL,
    hash BIGINT NOT NULL,
    revision BIGINT NOT NULL,
    PRIMARY KEY (kind, namespace, name)
);

-- What each revision changed; a NULL body is a deletion.
CREATE TABLE change (
    revision BIGINT NOT NULL,
    kind TEXT NOT NULL,
    namespace TEXT NOT NULL,
    name TEXT NOT NULL,
    op TEXT NOT NULL CHECK (op IN ('upsert', 'delete')),
    body TEXT,
    hash BIGINT,
    PRIMARY KEY (revision, kind, namespace, name),
    CHECK ((op = 'upsert') = (body IS NOT NULL) AND (op = 'upsert') = (hash IS NOT NULL))
);
CREATE INDEX change_by_object ON change (kind, namespace, name, revision);

-- What the last analysis of a source found, as JSON.
CREATE TABLE finding (
    source TEXT PRIMARY KEY,
    findings TEXT NOT NULL,
    saved_us BIGINT NOT NULL
);

CREATE TABLE lease (
    name TEXT PRIMARY KEY,
    holder TEXT NOT NULL,
    epoch BIGINT NOT NULL,
    until_us BIGINT NOT NULL
);
