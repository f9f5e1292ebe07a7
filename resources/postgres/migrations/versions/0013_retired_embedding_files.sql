-- A file that a compaction has replaced: nothing refers to it any more. It is deleted a day later, when every reader that
-- had looked up a row of it has finished.
ALTER TABLE embedding_files ADD COLUMN retired_at timestamptz;

-- The embeddings of a text outlive its last chunk: an edit that is reverted, or a document that is restored within a
-- month, costs no model call.
ALTER TABLE former_texts ADD COLUMN since timestamptz NOT NULL DEFAULT now();
CREATE INDEX former_texts_text ON former_texts (text_hash);
CREATE OR REPLACE FUNCTION rag_remember_former_texts() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  -- Of a source that is removed nothing can be asked any more.
  INSERT INTO former_texts (document_id, text_hash, source_uuid)
    SELECT DISTINCT gone.document_id, gone.text_hash, gone.source_uuid FROM gone
    JOIN sources s ON s.id = gone.source_uuid ORDER BY 1, 2
    ON CONFLICT (document_id, text_hash) DO UPDATE SET since = now();
  RETURN NULL;
END $$;
CREATE VIEW wanted_texts AS
  SELECT text_hash FROM document_chunks
  UNION ALL SELECT text_hash FROM former_texts WHERE since > now() - interval '30 days';
