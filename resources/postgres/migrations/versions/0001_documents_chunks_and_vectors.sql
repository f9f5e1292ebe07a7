-- Sources, documents and chunks as other services read them (docs/explanation/schema.md), and the records that keep Parquet and
-- Milvus equal to them.

-- Text search ---------------------------------------------------------------------------------------------------
-- Scripts without spaces become character bigrams under the `simple` configuration, which every stock server has.
-- Hangul too: Korean particles are glued to their words. Arabic yeh and kaf are folded into the Persian ones.
-- With `ends` the last character of a run is a token too: then each character begins a token, and a query of one
-- character (cat, water and book are such words) finds it as a prefix.
CREATE FUNCTION rag_search_text(t text, ends boolean) RETURNS text LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE STRICT AS $$
BEGIN
  IF octet_length(t) = length(t) THEN  -- ASCII: nothing to do, and most of many corpora
    RETURN t;
  END IF;
  IF t ~ '[\u0600-\u06ff]' THEN
    t := translate(t, E'\u064A\u0643\u0649\u200C\u0640', E'\u06CC\u06A9\u06CC ');
  END IF;
  IF t !~ '[\u3005-\u3007\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff]' THEN
    RETURN t;
  END IF;
  RETURN (
    SELECT string_agg(CASE WHEN part[1] IS NULL THEN part[2] WHEN length(part[1]) = 1 THEN part[1] ELSE (
        SELECT string_agg(pair, ' ') FROM (
          SELECT ch || coalesce(lead(ch) OVER (ORDER BY n), CASE WHEN ends THEN '' END) AS pair
          FROM unnest(string_to_array(part[1], NULL)) WITH ORDINALITY AS chars(ch, n)) AS pairs) END, ' ')
    FROM regexp_matches(t,
      '([\u3005-\u3007\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff]+)|([^\u3005-\u3007\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff]+)',
      'g') AS part);
END $$;

-- A tsvector has at most 1 MB: of a longer text only the beginning is indexed (its chunks are indexed whole).
CREATE FUNCTION rag_tsvector(t text) RETURNS tsvector LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE STRICT AS $$
DECLARE n integer := 400000;
BEGIN
  IF length(t) < 60000 THEN
    RETURN to_tsvector('simple', rag_search_text(t, true));
  END IF;
  LOOP
    BEGIN
      RETURN to_tsvector('simple', rag_search_text(left(t, n), true));
    EXCEPTION WHEN program_limit_exceeded THEN
      n := n / 2;
    END;
  END LOOP;
END $$;

CREATE FUNCTION rag_tsquery(t text) RETURNS tsquery LANGUAGE sql IMMUTABLE PARALLEL SAFE STRICT AS $$
  SELECT regexp_replace(plainto_tsquery('simple', rag_search_text(t, false))::text,
    '''([\u3005-\u3007\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff])''', '''\1'':*', 'g')::tsquery
$$;

-- Sources -------------------------------------------------------------------------------------------------------
CREATE TABLE sources (
  id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  source_type varchar(50) NOT NULL,
  name varchar(255) NOT NULL,
  connection_config jsonb NOT NULL,
  credentials_encrypted text,
  sync_schedule varchar(100),
  last_sync_at timestamptz,
  next_sync_at timestamptz,
  sync_status varchar(20) NOT NULL DEFAULT 'pending'
    CHECK (sync_status IN ('pending', 'running', 'completed', 'failed')),
  total_documents integer NOT NULL DEFAULT 0 CHECK (total_documents >= 0),
  successful_documents integer NOT NULL DEFAULT 0 CHECK (successful_documents >= 0),
  failed_documents integer NOT NULL DEFAULT 0 CHECK (failed_documents >= 0),
  is_active boolean NOT NULL DEFAULT true,
  error_count integer NOT NULL DEFAULT 0 CHECK (error_count >= 0),
  last_error text,
  created_at timestamptz NOT NULL DEFAULT now(),
  updated_at timestamptz NOT NULL DEFAULT now(),
  UNIQUE (source_type, name)
);
CREATE UNIQUE INDEX sources_name ON sources (name);  -- the name is the partition key
CREATE INDEX sources_source_type ON sources (source_type);
CREATE INDEX sources_is_active ON sources (is_active);
CREATE INDEX sources_due ON sources (next_sync_at, source_type) WHERE is_active;

-- The entries of each source's last listing: asset source_documents.
CREATE TABLE source_entries (
  source_id uuid NOT NULL REFERENCES sources ON DELETE CASCADE,
  key text NOT NULL,
  document_id uuid NOT NULL,
  locator text NOT NULL,
  change_token text NOT NULL,
  size bigint,
  content_hash char(64),
  error text,
  removed_hash char(64),  -- its document was deleted in SQL at this content: it stays out until the content changes
  fetched_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (source_id, key),
  CHECK ((content_hash IS NULL) = (error IS NOT NULL))
);
CREATE INDEX source_entries_content_hash ON source_entries (content_hash);
CREATE INDEX source_entries_document ON source_entries (document_id);

-- Documents -----------------------------------------------------------------------------------------------------
CREATE TABLE documents (
  id uuid PRIMARY KEY,
  title varchar(1000) NOT NULL,
  content text NOT NULL,
  source_type varchar(50) NOT NULL,
  source_id text NOT NULL,
  source_url text,
  author varchar(255),
  language char(2) DEFAULT 'ja' CHECK (language ~ '^[a-z]{2}$'),
  category varchar(100),
  tags text[],
  word_count integer NOT NULL DEFAULT 0 CHECK (word_count >= 0),
  char_count integer NOT NULL DEFAULT 0 CHECK (char_count >= 0),
  chunk_count integer NOT NULL DEFAULT 0 CHECK (chunk_count >= 0),
  processing_status varchar(20) NOT NULL DEFAULT 'pending'
    CHECK (processing_status IN ('pending', 'processing', 'completed', 'failed')),
  indexing_status varchar(20) NOT NULL DEFAULT 'pending'
    CHECK (indexing_status IN ('pending', 'indexing', 'completed', 'failed')),
  error_message text,
  created_at timestamptz NOT NULL DEFAULT now(),
  updated_at timestamptz NOT NULL DEFAULT now(),
  indexed_at timestamptz,
  -- beyond the reference
  source_uuid uuid NOT NULL REFERENCES sources ON DELETE CASCADE,
  source_key text NOT NULL,
  raw_hash char(64),
  parser_fingerprint text,
  chunker_fingerprint text,
  indexed_as text,
  mime_type text,
  is_markdown boolean NOT NULL DEFAULT false,
  metadata jsonb NOT NULL DEFAULT '{}',
  search_vector tsvector GENERATED ALWAYS AS (rag_tsvector(title || E'\n' || content)) STORED,
  UNIQUE (source_type, source_id),
  UNIQUE (source_uuid, source_key)
);
CREATE INDEX documents_status ON documents (processing_status, indexing_status);
CREATE INDEX documents_created_at ON documents (created_at DESC);
CREATE INDEX documents_language ON documents (language);
CREATE INDEX documents_category ON documents (category);
CREATE INDEX documents_tags ON documents USING gin (tags);
CREATE INDEX documents_search ON documents USING gin (search_vector) WITH (gin_pending_list_limit = 262144);
-- For the last stages: documents whose vectors are not done. Empty if there is no work.
CREATE INDEX documents_to_index ON documents (source_uuid) WHERE indexing_status <> 'completed';

-- Chunks --------------------------------------------------------------------------------------------------------
CREATE TABLE document_chunks (
  id uuid PRIMARY KEY,
  document_id uuid NOT NULL REFERENCES documents ON DELETE CASCADE,
  content text NOT NULL,
  chunk_type varchar(50) NOT NULL DEFAULT 'text',
  position integer NOT NULL CHECK (position >= 0),
  section_title varchar(500),
  hierarchy_level integer NOT NULL DEFAULT 1 CHECK (hierarchy_level >= 1),
  parent_chunk_id uuid REFERENCES document_chunks ON DELETE SET NULL DEFERRABLE INITIALLY DEFERRED,
  token_count integer NOT NULL DEFAULT 0 CHECK (token_count >= 0),
  char_count integer NOT NULL DEFAULT 0 CHECK (char_count >= 0),
  dense_vector_id varchar(255),
  sparse_vector_id varchar(255),
  multi_vector_id varchar(255),
  embedding_status varchar(20) NOT NULL DEFAULT 'pending'
    CHECK (embedding_status IN ('pending', 'processing', 'completed', 'failed')),
  embedding_error text,
  last_search_score double precision,
  search_count integer NOT NULL DEFAULT 0 CHECK (search_count >= 0),
  created_at timestamptz NOT NULL DEFAULT now(),
  updated_at timestamptz NOT NULL DEFAULT now(),
  embedded_at timestamptz,
  -- beyond the reference
  source_uuid uuid NOT NULL,
  text_hash char(32) NOT NULL,
  search_vector tsvector GENERATED ALWAYS AS (rag_tsvector(content)) STORED
);
CREATE INDEX document_chunks_position ON document_chunks (document_id, position);
CREATE INDEX document_chunks_embedding_status ON document_chunks (embedding_status);
CREATE INDEX document_chunks_vector_ids ON document_chunks (dense_vector_id, sparse_vector_id);
CREATE INDEX document_chunks_section ON document_chunks (hierarchy_level, section_title);
CREATE INDEX document_chunks_parent ON document_chunks (parent_chunk_id);
-- New entries wait in a list of up to 256 MB, which autovacuum merges beside the writer and not in its statements.
CREATE INDEX document_chunks_search ON document_chunks USING gin (search_vector) WITH (gin_pending_list_limit = 262144);
CREATE INDEX document_chunks_done ON document_chunks (embedding_status, document_id, position)
  WHERE embedding_status = 'completed';
CREATE INDEX document_chunks_text_hash ON document_chunks (text_hash);

-- Embeddings ----------------------------------------------------------------------------------------------------
-- A file is recorded after it was renamed into place; a text's embedding is (model_fingerprint, text_hash).
CREATE TABLE embedding_files (
  id uuid PRIMARY KEY,
  path text NOT NULL UNIQUE,
  model_fingerprint varchar(64) NOT NULL,
  kinds text[] NOT NULL,
  row_count integer NOT NULL CHECK (row_count > 0),
  byte_count bigint NOT NULL,
  checksum char(64) NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE embeddings (
  model_fingerprint varchar(64) NOT NULL,
  text_hash char(32) NOT NULL,
  file_id uuid NOT NULL REFERENCES embedding_files ON DELETE CASCADE,
  row_index integer NOT NULL CHECK (row_index >= 0),
  kinds text[] NOT NULL,
  PRIMARY KEY (model_fingerprint, text_hash)
);
CREATE INDEX embeddings_file ON embeddings (file_id, row_index);

-- Vectors -------------------------------------------------------------------------------------------------------
CREATE TABLE vector_collections (
  name varchar(255) PRIMARY KEY,           -- physical name in Milvus
  alias varchar(255) NOT NULL,             -- the name that readers use
  kind varchar(10) NOT NULL CHECK (kind IN ('dense', 'sparse', 'multi')),
  model_fingerprint varchar(64) NOT NULL,
  dimension integer NOT NULL,
  milvus_id text NOT NULL,                 -- another id under the same name: the collection was lost
  state varchar(10) NOT NULL CHECK (state IN ('building', 'serving')),
  created_at timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX vector_collections_serving ON vector_collections (alias) WHERE state = 'serving';

-- The rows that Milvus acknowledged. Without a row here, Milvus may have an old row, a new one, or none.
CREATE TABLE vector_rows (
  collection varchar(255) NOT NULL REFERENCES vector_collections ON DELETE CASCADE,
  chunk_id uuid NOT NULL,
  row_fingerprint char(32) NOT NULL,
  row_count integer NOT NULL DEFAULT 1,    -- rows in Milvus: a multi-vector takes one for each token
  epoch bigint NOT NULL,
  acknowledged_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (collection, chunk_id)
);
CREATE INDEX vector_rows_chunk ON vector_rows (chunk_id);

-- The outbox: rows that Milvus must delete. An entry is deleted only after Milvus confirmed.
CREATE TABLE vector_deletions (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  source_uuid uuid NOT NULL,
  kind varchar(10) NOT NULL,
  chunk_id uuid NOT NULL,
  row_count integer,                       -- rows that Milvus acknowledged; NULL: unknown, it may have some
  enqueued_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX vector_deletions_source ON vector_deletions (source_uuid, kind, id);
CREATE INDEX vector_deletions_chunk ON vector_deletions (chunk_id);

-- One writer a partition, and the epoch of the latest one. Acknowledgements of an earlier one are rejected.
CREATE TABLE partition_writers (
  partition text PRIMARY KEY,
  epoch bigint NOT NULL,
  holder text NOT NULL,
  taken_at timestamptz NOT NULL DEFAULT now()
);

-- The fingerprint of a stored row, equal for the three kinds of a chunk. Its change is an upsert, never a model call.
CREATE FUNCTION rag_row_fingerprint(model text, text_hash text, document uuid, source_type text, source text,
                                    language text, pos integer, created timestamptz)
RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT left(encode(sha256(convert_to(
    octet_length(model) || ':' || model || octet_length(text_hash) || ':' || text_hash || document::text ||
    octet_length(source_type) || ':' || source_type || octet_length(source) || ':' || source ||
    coalesce(language, '  ') || pos || ':' || floor(extract(epoch FROM created))::bigint, 'UTF8')), 'hex'), 32)
$$;

-- Any deletion of chunks, by any statement, queues a deletion in Milvus.
CREATE FUNCTION rag_enqueue_vector_deletions() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO vector_deletions (source_uuid, kind, chunk_id, row_count)
    SELECT gone.source_uuid, v.kind, gone.id,
      CASE WHEN count(r.row_count) = count(*) THEN max(r.row_count) END  -- one collection of two may hold more
    FROM gone CROSS JOIN vector_collections v
    LEFT JOIN vector_rows r ON r.collection = v.name AND r.chunk_id = gone.id
    GROUP BY gone.source_uuid, v.kind, gone.id;
  DELETE FROM vector_rows USING gone WHERE vector_rows.chunk_id = gone.id;
  RETURN NULL;
END $$;
CREATE TRIGGER document_chunks_deleted AFTER DELETE ON document_chunks
  REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION rag_enqueue_vector_deletions();

-- A document that is deleted while its source still has it was deleted by a person: the next sync must not restore it.
-- (If the source loses it, its entry is deleted first, and nothing is marked.)
CREATE FUNCTION rag_document_deleted() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  UPDATE source_entries SET removed_hash = content_hash FROM gone WHERE source_entries.document_id = gone.id;
  RETURN NULL;
END $$;
CREATE TRIGGER documents_deleted AFTER DELETE ON documents
  REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION rag_document_deleted();

-- A statement edited a field that rows in Milvus have beside the vector: the document's rows there are outdated. An AFTER
-- trigger: with a BEFORE one PostgreSQL would compute search_vector again in every update.
CREATE FUNCTION rag_document_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  UPDATE documents SET indexing_status = 'pending' WHERE id = NEW.id AND indexing_status = 'completed';
  RETURN NULL;
END $$;
CREATE TRIGGER documents_changed AFTER UPDATE OF language, source_type, created_at ON documents FOR EACH ROW
  WHEN ((OLD.language, OLD.source_type, OLD.created_at) IS DISTINCT FROM (NEW.language, NEW.source_type, NEW.created_at))
  EXECUTE FUNCTION rag_document_changed();
