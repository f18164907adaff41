-- What the antivirus says of each document.

-- pending, clean, infected or not_analysed.
ALTER TABLE documents ADD COLUMN scan TEXT NOT NULL DEFAULT 'pending';
-- Of not_analysed: too_large, encrypted, engine_down or disabled.
ALTER TABLE documents ADD COLUMN scan_reason TEXT;
-- Of infected: what the engine calls it.
ALTER TABLE documents ADD COLUMN scan_signature TEXT;
-- Since when the engine has failed on it; it is asked again for a time, then no more.
ALTER TABLE documents ADD COLUMN scan_failing BIGINT;

-- What was sealed before there was an antivirus.
UPDATE documents SET scan = 'not_analysed', scan_reason = 'disabled' WHERE state NOT IN ('receiving', 'finishing');

-- For what is asked again by the operator.
CREATE INDEX documents_unanalysed ON documents (scan_reason, id) WHERE scan = 'not_analysed';
