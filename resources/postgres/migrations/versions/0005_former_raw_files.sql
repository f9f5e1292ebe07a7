-- Raw bytes that a document no longer has: erasing the document must delete them from the raw store, too.
CREATE TABLE former_raw (
  document_id uuid NOT NULL,
  content_hash char(64) NOT NULL,
  source_id uuid NOT NULL REFERENCES sources ON DELETE CASCADE,
  PRIMARY KEY (document_id, content_hash)
);

CREATE FUNCTION rag_remember_former_raw() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_OP = 'DELETE' THEN
    INSERT INTO former_raw (document_id, content_hash, source_id)
      SELECT o.document_id, o.content_hash, o.source_id FROM gone o JOIN sources s ON s.id = o.source_id
      WHERE o.content_hash IS NOT NULL ORDER BY 1, 2 ON CONFLICT DO NOTHING;
  ELSE
    INSERT INTO former_raw (document_id, content_hash, source_id)
      SELECT o.document_id, o.content_hash, o.source_id
      FROM gone o JOIN fresh n ON n.source_id = o.source_id AND n.key = o.key
      WHERE o.content_hash IS NOT NULL AND o.content_hash IS DISTINCT FROM n.content_hash
      ORDER BY 1, 2 ON CONFLICT DO NOTHING;
  END IF;
  RETURN NULL;
END $$;
CREATE TRIGGER source_entries_changed AFTER UPDATE ON source_entries
  REFERENCING OLD TABLE AS gone NEW TABLE AS fresh FOR EACH STATEMENT EXECUTE FUNCTION rag_remember_former_raw();
CREATE TRIGGER source_entries_deleted AFTER DELETE ON source_entries
  REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION rag_remember_former_raw();
