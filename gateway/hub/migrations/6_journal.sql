-- The evidence log over `events`: a Merkle tree in tiles, its signed heads, and the receipts made from it.

-- One row. Moved by compare-and-set on its size, in the transaction that gives events their places.
CREATE TABLE journal_head (
    one BIGINT PRIMARY KEY CHECK (one = 1),
    size BIGINT NOT NULL,
    -- Merkle tree hash of the first `size` leaves (RFC 6962, 2.1), hexadecimal.
    root TEXT NOT NULL,
    -- Leaves under the last checkpoint, and when it was signed.
    signed BIGINT NOT NULL,
    signed_at BIGINT NOT NULL,
    -- The process that has the work for now, so that others leave it alone. Correctness does not lie in it.
    holder UUID,
    until BIGINT NOT NULL,
    -- Rows below this place may have left at the end of their retention; an event of the log says so.
    pruned BIGINT NOT NULL
);
INSERT INTO journal_head (one, size, root, signed, signed_at, until, pruned)
VALUES (1, 0, 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855', 0, 0, 0, 0);

-- C2SP tlog-tiles: up to 256 hashes one after the other; level 0 holds the hashes of the leaves.
CREATE TABLE journal_tiles (
    level BIGINT NOT NULL,
    idx BIGINT NOT NULL,
    hashes BYTEA NOT NULL,
    PRIMARY KEY (level, idx)
);

CREATE TABLE journal_checkpoints (
    size BIGINT PRIMARY KEY,
    at BIGINT NOT NULL,
    -- C2SP tlog-checkpoint, signed.
    note TEXT NOT NULL,
    -- RFC 3161 token in DER over the octets of the note, and when it was got.
    token BYTEA,
    stamped BIGINT
);
CREATE INDEX journal_checkpoints_at ON journal_checkpoints (at, size);
CREATE INDEX journal_checkpoints_stamped ON journal_checkpoints (stamped) WHERE stamped IS NOT NULL;

-- Receipts stay when documents are erased: they are the register's, and no key opens or closes them.
CREATE TABLE receipts (
    id UUID PRIMARY KEY,
    kind TEXT NOT NULL,
    deposit UUID NOT NULL REFERENCES deposits (id),
    -- The event that it is given for.
    event UUID NOT NULL,
    -- The box that it is about: the recipient who was handed the documents; the sender for the others.
    box UUID NOT NULL REFERENCES boxes (id),
    created BIGINT NOT NULL,
    json TEXT NOT NULL,
    pdf BYTEA NOT NULL,
    UNIQUE (deposit, kind, box)
);
CREATE INDEX receipts_deposit ON receipts (deposit, id);

-- To whom a receipt is given.
CREATE TABLE receipt_parties (
    box UUID NOT NULL REFERENCES boxes (id),
    receipt UUID NOT NULL REFERENCES receipts (id),
    PRIMARY KEY (box, receipt)
);
