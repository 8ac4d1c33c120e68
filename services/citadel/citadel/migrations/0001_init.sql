-- Version 1. The same text runs on SQLite and PostgreSQL, but for ROWID_KEY, which is put in: the type of a key that is the row's own
-- number. Times are seconds since the epoch; texts that do not apply are empty.

-- Where everything stands. Its one row orders all writers of all replicas: each of them begins by updating it.
CREATE TABLE citadel_head (
    id BIGINT PRIMARY KEY CHECK (id = 1),
    -- The last entry of the journal, and its hash in hexadecimal.
    sequence BIGINT NOT NULL,
    hash TEXT NOT NULL,
    -- The key that signs certificates; empty: each replica's folder says.
    issuer TEXT NOT NULL,
    -- Grows with each revocation and each lift.
    revocations BIGINT NOT NULL,
    -- Grows with each change of citadel_trust.
    trust BIGINT NOT NULL
);
INSERT INTO citadel_head (id, sequence, hash, issuer, revocations, trust) VALUES (1, 0, '', '', 0, 0);

CREATE TABLE citadel_journal (
    sequence ROWID_KEY PRIMARY KEY,
    at BIGINT NOT NULL,
    event TEXT NOT NULL,
    serial TEXT NOT NULL,
    spiffe_id TEXT NOT NULL,
    requester TEXT NOT NULL,
    attestation TEXT NOT NULL,
    node TEXT NOT NULL,
    not_after BIGINT NOT NULL,
    detail TEXT NOT NULL,
    issuer TEXT NOT NULL,
    replaces TEXT NOT NULL,
    hash BYTEA NOT NULL
);
-- Appending is what issuing costs, so the journal has the two indexes alone that grow at their end: serial numbers begin with the time, and
-- lives are alike. A renewal is looked up by the first; the second finds the certificates that live, and what is asked of those is few enough
-- to be looked through.
CREATE INDEX citadel_journal_serial ON citadel_journal (serial) WHERE serial <> '';
CREATE INDEX citadel_journal_end ON citadel_journal (not_after) WHERE event = 'issued';

-- The journal again, narrow enough to be looked through for an identity or a node: a hash of each (ledger::trace), 0 for none.
CREATE TABLE citadel_trace (
    sequence ROWID_KEY PRIMARY KEY,
    spiffe_id BIGINT NOT NULL,
    node BIGINT NOT NULL
);

-- What is trusted; no row before the first start.
CREATE TABLE citadel_trust (
    id BIGINT PRIMARY KEY CHECK (id = 1),
    -- 'self-signed' or 'plugged-in'.
    mode TEXT NOT NULL,
    -- rotation::State as JSON.
    state TEXT NOT NULL,
    -- The bundle that is announced: its number, and the message TrustBundle, encoded.
    generation BIGINT NOT NULL,
    bundle BYTEA NOT NULL,
    -- The revocation lists in it, with what is known of each, as JSON.
    crls TEXT NOT NULL,
    -- citadel_head.revocations that the bundle was made from.
    revocations BIGINT NOT NULL
);

-- Every root there was. The key is there from birth to retirement: PKCS#8 in PEM, or sealed.
CREATE TABLE citadel_root (
    fingerprint TEXT PRIMARY KEY,
    issuer TEXT NOT NULL,
    certificate TEXT NOT NULL,
    private_key TEXT,
    made_at BIGINT NOT NULL
);

CREATE TABLE citadel_revocation (
    id BIGINT PRIMARY KEY,
    at BIGINT NOT NULL,
    requester TEXT NOT NULL,
    reason TEXT NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('spiffe-id', 'serial', 'node', 'issued')),
    value TEXT NOT NULL,
    hold BOOLEAN NOT NULL,
    from_at BIGINT NOT NULL,
    to_at BIGINT NOT NULL,
    lifted_at BIGINT NOT NULL
);

-- The certificates a revocation means, that were live when it was made.
CREATE TABLE citadel_revoked (
    revocation BIGINT NOT NULL,
    serial TEXT NOT NULL,
    issuer TEXT NOT NULL,
    not_after BIGINT NOT NULL,
    PRIMARY KEY (revocation, serial)
);

-- Join tokens. The secret is not there, only its SHA-256.
CREATE TABLE citadel_token (
    id TEXT PRIMARY KEY,
    hash BYTEA NOT NULL,
    spiffe_id TEXT NOT NULL,
    node TEXT NOT NULL,
    not_after BIGINT NOT NULL,
    used_at BIGINT NOT NULL
);

CREATE TABLE citadel_lease (
    name TEXT PRIMARY KEY,
    holder TEXT NOT NULL,
    epoch BIGINT NOT NULL,
    until_us BIGINT NOT NULL
);
