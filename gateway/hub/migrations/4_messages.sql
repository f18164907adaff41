-- Messages: threads, drafts, what was sent, and the boxes it lies in.

CREATE TABLE threads (
    id UUID PRIMARY KEY,
    procedure UUID REFERENCES procedures (id),
    subject TEXT NOT NULL,
    created BIGINT NOT NULL,
    -- When the last message of it was sent.
    last BIGINT NOT NULL
);

CREATE TABLE messages (
    id UUID PRIMARY KEY,
    -- Absent in a draft that begins a thread.
    thread UUID REFERENCES threads (id),
    procedure UUID REFERENCES procedures (id),
    kind TEXT NOT NULL,
    -- draft, sent. What was sent never changes again.
    state TEXT NOT NULL,
    -- The box it comes from; who in person wrote it, and for whom when by a delegation.
    sender UUID NOT NULL REFERENCES boxes (id),
    author UUID NOT NULL REFERENCES accounts (id),
    on_behalf UUID REFERENCES accounts (id),
    subject TEXT NOT NULL,
    body TEXT NOT NULL,
    -- Subject and body without case and accents, for phrases; empty until sent.
    folded TEXT NOT NULL,
    reply_to UUID REFERENCES messages (id),
    corrects UUID REFERENCES messages (id),
    forwards UUID REFERENCES messages (id),
    deposit UUID UNIQUE REFERENCES deposits (id),
    version BIGINT NOT NULL,
    created BIGINT NOT NULL,
    sent BIGINT
);
CREATE INDEX messages_drafts ON messages (sender, id) WHERE state = 'draft';
CREATE INDEX messages_thread ON messages (thread, kind);
CREATE INDEX messages_corrects ON messages (corrects) WHERE corrects IS NOT NULL;
CREATE INDEX messages_procedure ON messages (procedure, id) WHERE procedure IS NOT NULL;

-- To whom a draft is to go.
CREATE TABLE addressees (
    message UUID NOT NULL REFERENCES messages (id),
    box UUID NOT NULL REFERENCES boxes (id),
    role TEXT NOT NULL,
    PRIMARY KEY (message, box)
);

-- Documents of another message's deposit that this message passes on.
CREATE TABLE forwarded_documents (
    message UUID NOT NULL REFERENCES messages (id),
    document UUID NOT NULL REFERENCES documents (id),
    PRIMARY KEY (message, document)
);
CREATE INDEX forwarded_documents_document ON forwarded_documents (document, message);

-- A sent message in a box.
CREATE TABLE deliveries (
    box UUID NOT NULL REFERENCES boxes (id),
    message UUID NOT NULL REFERENCES messages (id),
    thread UUID NOT NULL REFERENCES threads (id),
    procedure UUID,
    at BIGINT NOT NULL,
    -- sender, to, copy. A box that writes to itself has the message once, as a recipient's.
    role TEXT NOT NULL,
    -- First opening in this box, and by whom in person.
    read BIGINT,
    read_by UUID REFERENCES accounts (id),
    archived BIGINT,
    -- By the sender: from then on it is not there.
    withdrawn BIGINT,
    PRIMARY KEY (box, message)
);
-- A sent message in a box is in one of the first three, and each list of a box is one range of one of them, read
-- backwards. SQLite takes, of those that serve equally, the one that was made last: the narrowest stands last.
CREATE INDEX deliveries_received ON deliveries (box, at, message)
    WHERE role <> 'sender' AND archived IS NULL AND withdrawn IS NULL;
CREATE INDEX deliveries_sent ON deliveries (box, at, message)
    WHERE role = 'sender' AND archived IS NULL AND withdrawn IS NULL;
CREATE INDEX deliveries_archived ON deliveries (box, at, message)
    WHERE archived IS NOT NULL AND withdrawn IS NULL;
CREATE INDEX deliveries_unread ON deliveries (box, at, message)
    WHERE role <> 'sender' AND archived IS NULL AND withdrawn IS NULL AND read IS NULL;
CREATE INDEX deliveries_thread ON deliveries (thread, box);
CREATE INDEX deliveries_message ON deliveries (message);

-- Who opened it, person by person, in a box that several share.
CREATE TABLE readings (
    box UUID NOT NULL REFERENCES boxes (id),
    message UUID NOT NULL REFERENCES messages (id),
    account UUID NOT NULL REFERENCES accounts (id),
    at BIGINT NOT NULL,
    PRIMARY KEY (message, box, account)
);

CREATE TABLE labels (
    id UUID PRIMARY KEY,
    box UUID NOT NULL REFERENCES boxes (id),
    name TEXT NOT NULL,
    folded TEXT NOT NULL,
    UNIQUE (box, folded)
);

CREATE TABLE delivery_labels (
    label UUID NOT NULL REFERENCES labels (id),
    message UUID NOT NULL REFERENCES messages (id),
    PRIMARY KEY (label, message)
);
CREATE INDEX delivery_labels_message ON delivery_labels (message, label);

-- The words of what was sent: stems, without case and accents.
CREATE TABLE message_words (
    word TEXT NOT NULL,
    message UUID NOT NULL REFERENCES messages (id),
    PRIMARY KEY (word, message)
);
