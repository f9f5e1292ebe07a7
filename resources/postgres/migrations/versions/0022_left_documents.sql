-- The documents that a sync left as they were, although their source has another content: they are being written, or
-- many turned into one content. Rewritten by each sync of the source.
CREATE TABLE left_documents (
  source_id uuid NOT NULL REFERENCES sources (id) ON DELETE CASCADE,
  key text NOT NULL,
  document_id uuid NOT NULL,
  reason text NOT NULL,
  left_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (source_id, key)
);
CREATE INDEX left_documents_document_id ON left_documents (document_id);
COMMENT ON TABLE left_documents IS
  'Documents that the last sync of their source left as they were, or did not take up yet. `rag explain` shows them.';
COMMENT ON COLUMN left_documents.source_id IS 'Its source.';
COMMENT ON COLUMN left_documents.key IS 'Key of the document in its source.';
COMMENT ON COLUMN left_documents.document_id IS 'The document, which may have no row yet.';
COMMENT ON COLUMN left_documents.reason IS 'Why the content of the source was not taken.';
COMMENT ON COLUMN left_documents.left_at IS 'When the sync left it.';

ALTER TABLE sources ADD COLUMN held_back text;
COMMENT ON COLUMN sources.held_back IS
  'Why documents keep their former contents until a person decides; NULL if none do. Such a sync ends as failed.';
