-- A rejected text stays rejected until the text, the model or the kinds change. Failures from before this version have
-- NULL: the next sync asks once more.
ALTER TABLE document_chunks ADD COLUMN rejected_as text;
CREATE INDEX document_chunks_rejected ON document_chunks (text_hash, rejected_as) WHERE rejected_as IS NOT NULL;
COMMENT ON COLUMN document_chunks.rejected_as IS 'The model and the kinds of vectors for which the text could not be embedded: not tried again for these; NULL: none.';

-- Vectors as little-endian float32 (sparse_indices: uint32), because searches read them once per process.
CREATE TABLE model_probes (
  model_fingerprint varchar(64) NOT NULL,
  text text NOT NULL,
  dense bytea,
  sparse_indices bytea,
  sparse_values bytea,
  multi bytea,
  recorded_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (model_fingerprint, text)
);
COMMENT ON TABLE model_probes IS 'Vectors of harmless texts from each model: another model behind the same name is recognised by them.';
COMMENT ON COLUMN model_probes.model_fingerprint IS 'The model.';
COMMENT ON COLUMN model_probes.text IS 'The text. It is in no document.';
COMMENT ON COLUMN model_probes.dense IS 'Its dense vector (float32); NULL: not kept.';
COMMENT ON COLUMN model_probes.sparse_indices IS 'The terms of its sparse vector (uint32); NULL: not kept.';
COMMENT ON COLUMN model_probes.sparse_values IS 'The weights of these terms (float32); NULL: not kept.';
COMMENT ON COLUMN model_probes.multi IS 'The mean of its token vectors (float32); NULL: not kept.';
COMMENT ON COLUMN model_probes.recorded_at IS 'When these vectors were recorded or accepted.';
