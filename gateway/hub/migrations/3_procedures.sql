-- Procedures (dossiers): references, members, pieces, exhibits. Nothing here is ever deleted but references.

CREATE TABLE procedures (
    id UUID PRIMARY KEY,
    -- In whose name it was opened; it keeps at least one manager.
    organisation UUID NOT NULL REFERENCES organisations (id),
    title TEXT NOT NULL,
    -- The title without case and accents, for the search.
    folded TEXT NOT NULL,
    state TEXT NOT NULL,
    -- Raised by each change of title, references or state: the ETag.
    version BIGINT NOT NULL,
    created BIGINT NOT NULL,
    opened_by UUID NOT NULL REFERENCES accounts (id),
    closed BIGINT
);

-- Identifiers of other systems, exactly as typed.
CREATE TABLE procedure_references (
    procedure UUID NOT NULL REFERENCES procedures (id),
    kind TEXT NOT NULL,
    value TEXT NOT NULL,
    -- Letters and digits only, in lower case.
    folded TEXT NOT NULL,
    -- Place in the list.
    idx BIGINT NOT NULL,
    PRIMARY KEY (procedure, kind, folded)
);
CREATE INDEX procedure_references_folded ON procedure_references (folded, kind, procedure);

CREATE TABLE procedure_members (
    procedure UUID NOT NULL REFERENCES procedures (id),
    box UUID NOT NULL REFERENCES boxes (id),
    role TEXT NOT NULL,
    -- May see restricted pieces (secret de l'instruction).
    restricted BOOLEAN NOT NULL,
    version BIGINT NOT NULL,
    added BIGINT NOT NULL,
    added_by UUID NOT NULL REFERENCES accounts (id),
    -- From these instants on the membership gives nothing.
    ends BIGINT,
    removed BIGINT,
    PRIMARY KEY (procedure, box)
);
CREATE INDEX procedure_members_box ON procedure_members (box, procedure);

CREATE TABLE pieces (
    id UUID PRIMARY KEY,
    procedure UUID NOT NULL REFERENCES procedures (id),
    document UUID NOT NULL REFERENCES documents (id),
    cote TEXT,
    -- The cote in letters and digits, lower case.
    folded_cote TEXT,
    title TEXT NOT NULL,
    restricted BOOLEAN NOT NULL,
    version BIGINT NOT NULL,
    filed BIGINT NOT NULL,
    -- The box whose membership allowed it.
    filed_by UUID NOT NULL REFERENCES boxes (id),
    withdrawn BIGINT,
    withdrawn_by UUID REFERENCES accounts (id),
    motive TEXT
);
CREATE INDEX pieces_procedure ON pieces (procedure, id);
CREATE INDEX pieces_document ON pieces (document, procedure);
CREATE UNIQUE INDEX pieces_cote ON pieces (procedure, folded_cote) WHERE withdrawn IS NULL;
CREATE UNIQUE INDEX pieces_once ON pieces (procedure, document) WHERE withdrawn IS NULL;

CREATE TABLE exhibits (
    id UUID PRIMARY KEY,
    procedure UUID NOT NULL REFERENCES procedures (id),
    number TEXT NOT NULL,
    -- The number in letters and digits, lower case.
    folded_number TEXT NOT NULL,
    label TEXT NOT NULL,
    state TEXT NOT NULL,
    place TEXT NOT NULL,
    version BIGINT NOT NULL,
    created BIGINT NOT NULL,
    created_by UUID NOT NULL REFERENCES accounts (id),
    UNIQUE (procedure, folded_number)
);
CREATE INDEX exhibits_procedure ON exhibits (procedure, id);

CREATE TABLE exhibit_movements (
    exhibit UUID NOT NULL REFERENCES exhibits (id),
    -- The exhibit's version that the movement made.
    version BIGINT NOT NULL,
    state TEXT NOT NULL,
    place TEXT NOT NULL,
    -- When it moved, as told, and when that was written down.
    at BIGINT NOT NULL,
    told BIGINT NOT NULL,
    author UUID NOT NULL REFERENCES accounts (id),
    note TEXT,
    PRIMARY KEY (exhibit, version)
);
