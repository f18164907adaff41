-- Notices, their mails and webhooks; reminders and reports; legal holds.

CREATE TABLE notices (
    id UUID PRIMARY KEY,
    kind TEXT NOT NULL,
    -- To whom: a person, or a service whose members are told.
    box UUID NOT NULL REFERENCES boxes (id),
    deposit UUID,
    document UUID,
    procedure UUID,
    message UUID,
    created BIGINT NOT NULL
);
CREATE INDEX notices_created ON notices (created);

-- What a person chose; what is not here is as the kind has it.
CREATE TABLE notice_preferences (
    account UUID NOT NULL REFERENCES accounts (id),
    kind TEXT NOT NULL,
    channel TEXT NOT NULL,
    timing TEXT NOT NULL,
    PRIMARY KEY (account, kind, channel)
);

-- A notice as one person gets it.
CREATE TABLE notice_copies (
    id UUID PRIMARY KEY,
    notice UUID NOT NULL REFERENCES notices (id),
    account UUID NOT NULL REFERENCES accounts (id),
    -- own, member (of the service), substitute (of someone who is away).
    reason TEXT NOT NULL,
    -- Whether the portal lists it.
    shown BOOLEAN NOT NULL,
    -- none; waiting: for its job; daily: for its digest; gathered: for the digest's job; sent; bounced.
    mail TEXT NOT NULL,
    -- When the digest goes that it is part of.
    due BIGINT,
    settled BIGINT,
    UNIQUE (notice, account)
);
CREATE INDEX notice_copies_account ON notice_copies (account, id);
CREATE INDEX notice_copies_daily ON notice_copies (due) WHERE mail = 'daily';
CREATE INDEX notice_copies_gathered ON notice_copies (account) WHERE mail = 'gathered';

-- Boxes whose address was refused for good the last time that something was sent there.
CREATE TABLE bounces (
    box UUID PRIMARY KEY REFERENCES boxes (id),
    since BIGINT NOT NULL,
    last BIGINT NOT NULL,
    -- The SMTP reply code; none when the address is malformed or the server put us off for days.
    code BIGINT
);

-- The OpenPGP certificate that mail to a box is encrypted to.
CREATE TABLE box_certificates (
    box UUID PRIMARY KEY REFERENCES boxes (id),
    certificate BYTEA NOT NULL,
    fingerprint TEXT NOT NULL,
    added BIGINT NOT NULL
);

CREATE TABLE webhooks (
    id UUID PRIMARY KEY,
    organisation UUID NOT NULL REFERENCES organisations (id),
    url TEXT NOT NULL,
    -- Kinds of notice, one space between two; empty for all.
    kinds TEXT NOT NULL,
    -- The Ed25519 seed as PKESK packets for the hub's certificate, and its public key.
    wrapped_key BYTEA NOT NULL,
    wrapped_for TEXT NOT NULL,
    public_key BYTEA NOT NULL,
    created BIGINT NOT NULL,
    created_by UUID NOT NULL REFERENCES accounts (id),
    removed BIGINT
);
CREATE INDEX webhooks_organisation ON webhooks (organisation, id);
CREATE INDEX webhooks_wrapped ON webhooks (wrapped_for);

CREATE TABLE webhook_deliveries (
    id UUID PRIMARY KEY,
    webhook UUID NOT NULL REFERENCES webhooks (id),
    notice UUID NOT NULL REFERENCES notices (id),
    -- waiting, delivered, dead (given up: may be asked for again), cancelled (the webhook was removed).
    state TEXT NOT NULL,
    attempts BIGINT NOT NULL,
    -- Of the last attempt: the HTTP status, or what went wrong before there was one.
    status BIGINT,
    failure TEXT,
    created BIGINT NOT NULL,
    settled BIGINT,
    UNIQUE (webhook, notice)
);
CREATE INDEX webhook_deliveries_state ON webhook_deliveries (webhook, state, id);
CREATE INDEX webhook_deliveries_notice ON webhook_deliveries (notice);

-- When the reminder before expiry was decided: sent to who had not read, passed over otherwise.
ALTER TABLE recipients ADD COLUMN reminder BIGINT;
-- When the sender was told who had not read.
ALTER TABLE deposits ADD COLUMN reported BIGINT;
UPDATE deposits SET reported = expires WHERE state = 'expired';
CREATE INDEX deposits_unreported ON deposits (expires) WHERE reported IS NULL AND available IS NOT NULL;

-- Deletion suspended, with a motive and an author.
CREATE TABLE holds (
    id UUID PRIMARY KEY,
    organisation UUID NOT NULL REFERENCES organisations (id),
    -- One of the two.
    deposit UUID,
    procedure UUID,
    motive TEXT NOT NULL,
    placed BIGINT NOT NULL,
    placed_by UUID NOT NULL REFERENCES accounts (id),
    -- Whom they acted for.
    placed_for UUID REFERENCES accounts (id),
    lifted BIGINT,
    lifted_by UUID REFERENCES accounts (id),
    lifted_for UUID REFERENCES accounts (id),
    lift_motive TEXT,
    CHECK ((deposit IS NULL) <> (procedure IS NULL))
);
CREATE INDEX holds_organisation ON holds (organisation, id);
CREATE INDEX holds_deposit ON holds (deposit) WHERE lifted IS NULL AND deposit IS NOT NULL;
CREATE INDEX holds_procedure ON holds (procedure) WHERE lifted IS NULL AND procedure IS NOT NULL;
