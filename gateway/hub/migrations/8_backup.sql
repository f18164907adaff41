-- Backups that are being made: until then no object is deleted, so that whatever the copy of the database names is
-- still there to be copied. A backup that was killed is believed no longer than its row says.
CREATE TABLE backups (
    id UUID PRIMARY KEY,
    until BIGINT NOT NULL
);
