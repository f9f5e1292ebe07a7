-- Collections: a `rebuilding` one is filled to replace a serving one, and syncs do not write it; a `retired` one was
-- replaced and is dropped. At most one of a model and kind is building or serving: the one that syncs write.
ALTER TABLE vector_collections DROP CONSTRAINT vector_collections_state_check;
ALTER TABLE vector_collections ADD CONSTRAINT vector_collections_state_check
  CHECK (state IN ('building', 'serving', 'rebuilding', 'retired'));
CREATE UNIQUE INDEX vector_collections_written ON vector_collections (kind, model_fingerprint)
  WHERE state IN ('building', 'serving');
CREATE UNIQUE INDEX vector_collections_rebuilding ON vector_collections (kind) WHERE state = 'rebuilding';

-- Texts that a document no longer has: erasing the document must delete them from Parquet, too.
CREATE TABLE former_texts (
  document_id uuid NOT NULL,
  text_hash char(32) NOT NULL,
  source_uuid uuid NOT NULL,
  PRIMARY KEY (document_id, text_hash)
);
CREATE INDEX former_texts_source ON former_texts (source_uuid);

CREATE FUNCTION rag_remember_former_texts() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  -- Of a source that is removed nothing can be asked any more.
  INSERT INTO former_texts (document_id, text_hash, source_uuid)
    SELECT DISTINCT gone.document_id, gone.text_hash, gone.source_uuid FROM gone
    JOIN sources s ON s.id = gone.source_uuid ORDER BY 1, 2
    ON CONFLICT DO NOTHING;
  RETURN NULL;
END $$;
CREATE TRIGGER document_chunks_former_texts AFTER DELETE ON document_chunks
  REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION rag_remember_former_texts();

CREATE FUNCTION rag_source_deleted() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  DELETE FROM former_texts USING gone WHERE former_texts.source_uuid = gone.id;
  RETURN NULL;
END $$;
CREATE TRIGGER sources_deleted AFTER DELETE ON sources
  REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION rag_source_deleted();

-- Documents that were erased on request: no sync reads their key again. By the name of the source, so that this also
-- applies to a source that is registered again. The key itself is not kept. Without a receipt the work is not finished.
CREATE TABLE forgotten (
  source varchar(255) NOT NULL,
  key_hash char(64) NOT NULL,              -- SHA-256 of the key
  document_id uuid NOT NULL,
  source_uuid uuid NOT NULL,
  chunk_ids uuid[] NOT NULL,               -- searched for in each store, until the receipt proves that they are gone
  text_hashes text[] NOT NULL,
  raw_hashes text[] NOT NULL,
  requested_at timestamptz NOT NULL DEFAULT now(),
  receipt jsonb,
  PRIMARY KEY (source, key_hash)
);
CREATE INDEX forgotten_document ON forgotten (document_id);
