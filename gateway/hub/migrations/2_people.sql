-- People: what the directory's search, managers, invitations and the experts' list need.

-- Raised by each change of a box that someone may have read before: a stale change is refused.
ALTER TABLE boxes ADD COLUMN version BIGINT NOT NULL DEFAULT 0;
CREATE INDEX boxes_kind ON boxes (kind, folded, id);

-- The account is no longer on the experts' list; the list, and nothing else, takes it back.
ALTER TABLE accounts ADD COLUMN delisted BIGINT;

-- The words by which the directory finds a box, folded. In octets: both databases compare these the same way,
-- whatever the collation, so that the words with a prefix are one range of the index.
CREATE TABLE box_words (
    box UUID NOT NULL REFERENCES boxes (id),
    -- any: of name, function, speciality, organisation and court; speciality: of that alone.
    field TEXT NOT NULL,
    word BYTEA NOT NULL,
    PRIMARY KEY (box, field, word)
);
CREATE INDEX box_words_word ON box_words (field, word, box);

CREATE TABLE invitations (
    id UUID PRIMARY KEY,
    account UUID NOT NULL REFERENCES accounts (id),
    -- join: the first time; return: after the person had left.
    purpose TEXT NOT NULL,
    -- SHA-256 of the secret, which is made when the mail is written and stands nowhere else.
    secret BYTEA UNIQUE,
    created BIGINT NOT NULL,
    -- Set with the secret; before, and after it is ended early, the instant from which it is of no use.
    expires BIGINT,
    used BIGINT
);
CREATE INDEX invitations_account ON invitations (account, id);

-- The export of one's own data.
CREATE INDEX events_actor ON events (actor, id) WHERE actor IS NOT NULL;
