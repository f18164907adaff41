-- The exchange. Ids are UUIDv7 and instants microseconds of UTC, both made by the caller.
-- A column type is a name both databases accept; SQLite only keeps its affinity.

CREATE TABLE organisations (
    id UUID PRIMARY KEY,
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    quota BIGINT NOT NULL CHECK (quota >= 0),
    -- Bytes promised to uploads and kept by documents; moved in the transaction of each change.
    used BIGINT NOT NULL CHECK (used >= 0),
    -- The court that an office belongs to.
    court UUID REFERENCES organisations (id),
    -- Bounds of retention in days; where absent, the operator's.
    retention_min BIGINT,
    retention_max BIGINT,
    retention_usual BIGINT,
    -- Whether its people may be given what could not be analysed for viruses.
    takes_unanalysed BOOLEAN NOT NULL,
    created BIGINT NOT NULL
);

-- Whatever can be written to: a person, or a service whose members share its box.
CREATE TABLE boxes (
    id UUID PRIMARY KEY,
    kind TEXT NOT NULL,
    organisation UUID NOT NULL REFERENCES organisations (id),
    -- In lower case: one address, one box.
    address TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    -- What the person does there, as the directory shows it.
    function TEXT NOT NULL,
    -- Headings of the experts' nomenclature, for experts.
    speciality TEXT NOT NULL,
    -- Name, function and speciality without case and accents, for the directory's search.
    folded TEXT NOT NULL,
    created BIGINT NOT NULL,
    -- From then on nobody comes in by it and nobody writes to it; its past stays.
    closed BIGINT
);
CREATE INDEX boxes_organisation ON boxes (organisation, folded);
CREATE INDEX boxes_folded ON boxes (folded, id);

-- A person's box, with what opens it.
CREATE TABLE accounts (
    id UUID PRIMARY KEY REFERENCES boxes (id),
    -- argon2id, PHC string.
    password TEXT,
    -- Number on the monthly list of experts.
    expert_number TEXT UNIQUE,
    -- The person asked that their account no longer be used; only they undo it.
    opted_out BIGINT
);

-- Who reads and writes in a service's box.
CREATE TABLE service_members (
    service UUID NOT NULL REFERENCES boxes (id),
    account UUID NOT NULL REFERENCES accounts (id),
    added BIGINT NOT NULL,
    PRIMARY KEY (service, account)
);
CREATE INDEX service_members_account ON service_members (account, service);

-- What a person is in an organisation; rights come from nothing else.
CREATE TABLE roles (
    account UUID NOT NULL REFERENCES accounts (id),
    organisation UUID NOT NULL REFERENCES organisations (id),
    role TEXT NOT NULL,
    granted BIGINT NOT NULL,
    PRIMARY KEY (account, organisation, role)
);
CREATE INDEX roles_organisation ON roles (organisation, role);

-- Someone acts for someone else, under their own name: « X pour Y ».
CREATE TABLE delegations (
    id UUID PRIMARY KEY,
    delegator UUID NOT NULL REFERENCES accounts (id),
    delegate UUID NOT NULL REFERENCES accounts (id),
    -- delegation: chosen; absence: the substitute of someone who is away.
    kind TEXT NOT NULL,
    -- In this procedure only.
    procedure UUID,
    starts BIGINT NOT NULL,
    ends BIGINT NOT NULL,
    revoked BIGINT,
    created BIGINT NOT NULL
);
CREATE INDEX delegations_delegator ON delegations (delegator, ends);
CREATE INDEX delegations_delegate ON delegations (delegate, ends);

CREATE TABLE sessions (
    id UUID PRIMARY KEY,
    account UUID NOT NULL REFERENCES accounts (id),
    -- SHA-256 of the secret: a copy of the database opens no session.
    secret BYTEA NOT NULL UNIQUE,
    created BIGINT NOT NULL,
    seen BIGINT NOT NULL,
    expires BIGINT NOT NULL
);

CREATE TABLE access_tokens (
    id UUID PRIMARY KEY,
    account UUID NOT NULL REFERENCES accounts (id),
    name TEXT NOT NULL,
    secret BYTEA NOT NULL UNIQUE,
    created BIGINT NOT NULL,
    expires BIGINT NOT NULL,
    revoked BIGINT
);
CREATE INDEX access_tokens_account ON access_tokens (account);

CREATE TABLE deposits (
    id UUID PRIMARY KEY,
    -- The box it comes from, and who in person prepared it.
    sender UUID NOT NULL REFERENCES boxes (id),
    author UUID NOT NULL REFERENCES accounts (id),
    organisation UUID NOT NULL REFERENCES organisations (id),
    subject TEXT NOT NULL,
    reference TEXT,
    state TEXT NOT NULL,
    retention_days BIGINT NOT NULL,
    -- Raised first in every transaction that decides by the state of the whole deposit: it serialises them.
    version BIGINT NOT NULL,
    created BIGINT NOT NULL,
    sent BIGINT,
    available BIGINT,
    expires BIGINT
);
CREATE INDEX deposits_sender ON deposits (sender, state, id);
CREATE INDEX deposits_expires ON deposits (state, expires);
CREATE UNIQUE INDEX deposits_reference ON deposits (sender, reference) WHERE state = 'draft';

CREATE TABLE recipients (
    deposit UUID NOT NULL REFERENCES deposits (id),
    box UUID NOT NULL REFERENCES boxes (id),
    added BIGINT NOT NULL,
    -- By the sender: from then on it is not theirs to see.
    withdrawn BIGINT,
    PRIMARY KEY (deposit, box)
);
CREATE INDEX recipients_box ON recipients (box, deposit);

CREATE TABLE documents (
    id UUID PRIMARY KEY,
    deposit UUID NOT NULL REFERENCES deposits (id),
    name TEXT NOT NULL,
    media_type TEXT NOT NULL,
    size BIGINT,
    sha256 BYTEA,
    state TEXT NOT NULL,
    -- Object of the signed manifest, and the fingerprint of the hub certificate its key is wrapped for.
    manifest TEXT,
    wrapped_for TEXT,
    created BIGINT NOT NULL,
    finished BIGINT
);
CREATE INDEX documents_deposit ON documents (deposit, id);
CREATE INDEX documents_wrapped ON documents (wrapped_for);

CREATE TABLE uploads (
    id UUID PRIMARY KEY,
    owner UUID NOT NULL REFERENCES accounts (id),
    organisation UUID NOT NULL REFERENCES organisations (id),
    kind TEXT NOT NULL,
    -- pending: receives; complete: all bytes durable; ended: expired, terminated or erased.
    state TEXT NOT NULL,
    deposit UUID REFERENCES deposits (id),
    document UUID REFERENCES documents (id),
    -- The Upload-Metadata header as it was given.
    metadata TEXT NOT NULL,
    -- The Upload-Concat header of a final upload.
    concat TEXT,
    size BIGINT,
    -- The durable offset: every byte before it is sealed in the store and named by a row of segments.
    received BIGINT NOT NULL,
    reserved BIGINT NOT NULL,
    segments BIGINT NOT NULL,
    -- Raised by each writer; a writer whose number is no longer the row's has lost the upload.
    fence BIGINT NOT NULL,
    -- PKESK packets; gone once erased.
    wrapped_key BYTEA,
    wrapped_for TEXT,
    -- SHA-256 midstates sealed under the document key: at received, and at the start of the last segment.
    digest BYTEA,
    digest_before BYTEA,
    created BIGINT NOT NULL,
    expires BIGINT NOT NULL
);
CREATE INDEX uploads_owner ON uploads (owner, state, id);
CREATE INDEX uploads_expires ON uploads (state, expires);
CREATE INDEX uploads_deposit ON uploads (deposit);
CREATE INDEX uploads_document ON uploads (document);
CREATE INDEX uploads_wrapped ON uploads (wrapped_for);

CREATE TABLE segments (
    upload UUID NOT NULL REFERENCES uploads (id),
    idx BIGINT NOT NULL,
    start BIGINT NOT NULL,
    length BIGINT NOT NULL,
    object TEXT NOT NULL UNIQUE,
    object_length BIGINT NOT NULL,
    salt BYTEA NOT NULL,
    tag BYTEA NOT NULL,
    PRIMARY KEY (upload, idx)
);

-- A document is its parts in order, each a complete upload with a key of its own.
CREATE TABLE document_parts (
    document UUID NOT NULL REFERENCES documents (id),
    part BIGINT NOT NULL,
    upload UUID NOT NULL UNIQUE REFERENCES uploads (id),
    -- Where the part begins in the document; told when the document's size is known.
    start BIGINT NOT NULL,
    PRIMARY KEY (document, part)
);

-- The journal: written in the transaction of the act. Identifiers and digests, never content or names.
CREATE TABLE events (
    id UUID PRIMARY KEY,
    at BIGINT NOT NULL,
    kind TEXT NOT NULL,
    -- Who did it in person, and for whom when by a delegation.
    actor UUID,
    on_behalf UUID,
    deposit UUID,
    document UUID,
    procedure UUID,
    message UUID,
    detail TEXT NOT NULL,
    -- Its place in the log, once a job has given it one.
    seq BIGINT UNIQUE
);
CREATE INDEX events_unsequenced ON events (id) WHERE seq IS NULL;
CREATE INDEX events_procedure ON events (procedure, id) WHERE procedure IS NOT NULL;
CREATE INDEX events_message ON events (message, id) WHERE message IS NOT NULL;
CREATE INDEX events_deposit ON events (deposit, id);
CREATE INDEX events_document ON events (document, id);
