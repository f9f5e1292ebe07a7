-- Runs ----------------------------------------------------------------------------------------------------------
-- The Dagster run that this session writes for: the writer sets it once, and its rows record it.
CREATE FUNCTION rag_run() RETURNS text LANGUAGE sql STABLE PARALLEL SAFE AS $$
  SELECT nullif(current_setting('rag.run', true), '')
$$;
ALTER TABLE source_entries ADD COLUMN fetched_run text;
ALTER TABLE documents ADD COLUMN parsed_run text, ADD COLUMN chunked_run text, ADD COLUMN indexed_run text;
ALTER TABLE embedding_files ADD COLUMN run text;

-- Syncs ---------------------------------------------------------------------------------------------------------
-- next_sync_at: NULL until the sensor has computed it from the schedule; after a failure, the time of the next try.
ALTER TABLE sources ADD COLUMN sync_run text,          -- the run of the latest sync
  ADD COLUMN failed_run text,                          -- the run that failed last: its retries are one failure
  ADD COLUMN sync_requested_at timestamptz;            -- when the sensor requested the sync that is due

CREATE FUNCTION rag_schedule_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  NEW.next_sync_at := NULL;
  RETURN NEW;
END $$;
CREATE TRIGGER sources_schedule_changed BEFORE UPDATE OF sync_schedule ON sources FOR EACH ROW
  WHEN (OLD.sync_schedule IS DISTINCT FROM NEW.sync_schedule AND OLD.next_sync_at IS NOT DISTINCT FROM NEW.next_sync_at)
  EXECUTE FUNCTION rag_schedule_changed();

-- Versions of documents -----------------------------------------------------------------------------------------
-- The current version is the document's row. A version is appended here, whole, when it is replaced or deleted, and never
-- changes. Its month is that of its end, so that a document that does not change for years loses no history.
ALTER TABLE documents ADD COLUMN version integer NOT NULL DEFAULT 1 CHECK (version >= 1),
  ADD COLUMN versioned_at timestamptz;                 -- the begin of this version; NULL: created_at

CREATE TABLE document_versions (
  document_id uuid NOT NULL,
  version integer NOT NULL,
  valid_from timestamptz NOT NULL,
  valid_to timestamptz NOT NULL,
  ended_by varchar(8) NOT NULL CHECK (ended_by IN ('replaced', 'deleted')),
  source_uuid uuid NOT NULL,
  source_key text NOT NULL,
  source_type varchar(50) NOT NULL,
  source_id text NOT NULL,
  title text NOT NULL,
  content text NOT NULL,
  source_url text,
  author text,
  language char(2),
  category text,
  tags text[],
  word_count integer NOT NULL,
  char_count integer NOT NULL,
  chunk_count integer NOT NULL,
  processing_status varchar(20) NOT NULL,
  indexing_status varchar(20) NOT NULL,
  error_message text,
  mime_type text,
  is_markdown boolean NOT NULL,
  metadata jsonb NOT NULL,
  raw_hash char(64),
  parser_fingerprint text,
  chunker_fingerprint text,
  indexed_as text,
  created_at timestamptz NOT NULL,
  indexed_at timestamptz,
  parsed_run text,
  chunked_run text,
  indexed_run text,
  ended_run text                                       -- the run that replaced or deleted it; NULL: SQL by hand
) PARTITION BY RANGE (valid_to);
CREATE INDEX document_versions_document ON document_versions (document_id, valid_to);
CREATE INDEX document_versions_key ON document_versions (source_key);
-- Rows whose month was not made in time: an insert never fails, and the month takes them over once it is made.
CREATE TABLE document_versions_default PARTITION OF document_versions DEFAULT;

-- Makes the partition of a month (in UTC), if there is none. Returns its name.
CREATE FUNCTION create_document_versions_month(day timestamptz) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
  lower timestamptz := date_trunc('month', day AT TIME ZONE 'UTC') AT TIME ZONE 'UTC';
  upper timestamptz := (date_trunc('month', day AT TIME ZONE 'UTC') + interval '1 month') AT TIME ZONE 'UTC';
  month text := 'document_versions_' || to_char(day AT TIME ZONE 'UTC', 'YYYY_MM');
BEGIN
  IF to_regclass(month) IS NOT NULL THEN
    RETURN month;
  END IF;
  PERFORM pg_advisory_xact_lock(hashtextextended('rag-assets document_versions', 0));
  IF to_regclass(month) IS NOT NULL THEN
    RETURN month;
  END IF;
  LOCK TABLE document_versions_default IN ACCESS EXCLUSIVE MODE;
  EXECUTE format('CREATE TABLE %I (LIKE document_versions INCLUDING DEFAULTS INCLUDING CONSTRAINTS)', month);
  EXECUTE format('WITH moved AS (DELETE FROM document_versions_default WHERE valid_to >= %L AND valid_to < %L RETURNING *)
                  INSERT INTO %I SELECT * FROM moved', lower, upper, month);
  EXECUTE format('ALTER TABLE document_versions ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)', month, lower, upper);
  RETURN month;
END $$;

-- Drops the months that ended before `moment`, and the older rows of the default partition. Returns their names.
CREATE FUNCTION drop_document_versions_before(moment timestamptz) RETURNS text[] LANGUAGE plpgsql AS $$
DECLARE
  month text;
  dropped text[] := '{}';
BEGIN
  FOR month IN
    SELECT relname FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid
    WHERE inhparent = 'document_versions'::regclass AND relname ~ '^document_versions_\d{4}_\d\d$'
      AND (to_timestamp(right(relname, 7) || ' UTC', 'YYYY_MM') AT TIME ZONE current_setting('TimeZone')
           + interval '1 month') AT TIME ZONE 'UTC' <= moment
    ORDER BY relname
  LOOP
    EXECUTE format('DROP TABLE %I', month);
    dropped := dropped || month;
  END LOOP;
  DELETE FROM document_versions_default WHERE valid_to < moment;
  RETURN dropped;
END $$;

SELECT create_document_versions_month(now() + n * interval '1 month') FROM generate_series(0, 2) AS n;

CREATE FUNCTION rag_document_replaced() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO document_versions (document_id, version, valid_from, valid_to, ended_by, source_uuid, source_key,
    source_type, source_id, title, content, source_url, author, language, category, tags, word_count, char_count,
    chunk_count, processing_status, indexing_status, error_message, mime_type, is_markdown, metadata, raw_hash,
    parser_fingerprint, chunker_fingerprint, indexed_as, created_at, indexed_at, parsed_run, chunked_run, indexed_run,
    ended_run)
  VALUES (OLD.id, OLD.version, coalesce(OLD.versioned_at, OLD.created_at),
    CASE WHEN NEW.version = OLD.version THEN clock_timestamp() ELSE NEW.versioned_at END, 'replaced', OLD.source_uuid,
    OLD.source_key, OLD.source_type, OLD.source_id, OLD.title, OLD.content, OLD.source_url, OLD.author, OLD.language,
    OLD.category, OLD.tags, OLD.word_count, OLD.char_count, OLD.chunk_count, OLD.processing_status, OLD.indexing_status,
    OLD.error_message, OLD.mime_type, OLD.is_markdown, OLD.metadata, OLD.raw_hash, OLD.parser_fingerprint,
    OLD.chunker_fingerprint, OLD.indexed_as, OLD.created_at, OLD.indexed_at, OLD.parsed_run, OLD.chunked_run,
    OLD.indexed_run, rag_run());
  IF NEW.version = OLD.version THEN  -- a statement that knows nothing of versions
    UPDATE documents SET version = OLD.version + 1, versioned_at = clock_timestamp(), parsed_run = rag_run()
    WHERE id = NEW.id AND version = OLD.version;
  END IF;
  RETURN NULL;
END $$;
CREATE TRIGGER documents_replaced
  AFTER UPDATE OF title, content, source_url, author, language, category, tags, metadata, raw_hash ON documents
  FOR EACH ROW
  WHEN ((OLD.title, OLD.content, OLD.source_url, OLD.author, OLD.language, OLD.category, OLD.tags, OLD.metadata,
         OLD.raw_hash)
    IS DISTINCT FROM (NEW.title, NEW.content, NEW.source_url, NEW.author, NEW.language, NEW.category, NEW.tags,
                      NEW.metadata, NEW.raw_hash))
  EXECUTE FUNCTION rag_document_replaced();

CREATE FUNCTION rag_documents_ended() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO document_versions (document_id, version, valid_from, valid_to, ended_by, source_uuid, source_key,
    source_type, source_id, title, content, source_url, author, language, category, tags, word_count, char_count,
    chunk_count, processing_status, indexing_status, error_message, mime_type, is_markdown, metadata, raw_hash,
    parser_fingerprint, chunker_fingerprint, indexed_as, created_at, indexed_at, parsed_run, chunked_run, indexed_run,
    ended_run)
  SELECT id, version, coalesce(versioned_at, created_at), clock_timestamp(), 'deleted', source_uuid, source_key,
    source_type, source_id, title, content, source_url, author, language, category, tags, word_count, char_count,
    chunk_count, processing_status, indexing_status, error_message, mime_type, is_markdown, metadata, raw_hash,
    parser_fingerprint, chunker_fingerprint, indexed_as, created_at, indexed_at, parsed_run, chunked_run, indexed_run,
    rag_run()
  FROM gone;
  RETURN NULL;
END $$;
CREATE TRIGGER documents_ended AFTER DELETE ON documents
  REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION rag_documents_ended();
