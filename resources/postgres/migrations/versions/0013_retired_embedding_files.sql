-- A file that a compaction has replaced: nothing points at it any more, and it is deleted a day later, when no reader that
-- had looked up a row of it before can still be about to read it.
ALTER TABLE embedding_files ADD COLUMN retired_at timestamptz;
