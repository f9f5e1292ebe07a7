-- MinHash signatures of documents' texts (rag_assets/pipeline/near_duplicates.py). A row is deleted with its document, and
-- when the text changes: another text is a new, later row. The next sync replaces signatures of another algorithm.
CREATE TABLE document_signatures (
  document_id uuid PRIMARY KEY REFERENCES documents ON DELETE CASCADE,
  ordinal bigint GENERATED ALWAYS AS IDENTITY UNIQUE,  -- the order of arrival, under one lock
  source_uuid uuid NOT NULL,
  algorithm text NOT NULL,
  signature smallint[],                    -- NULL: the text is too short
  duplicate_of bigint,                     -- ordinal of the first similar one before it: never a cycle
  similarity real
);
CREATE INDEX document_signatures_duplicate_of ON document_signatures (duplicate_of) WHERE duplicate_of IS NOT NULL;
CREATE INDEX document_signatures_marked ON document_signatures (source_uuid) WHERE duplicate_of IS NOT NULL;

-- A hash of each band of eight rows: documents that share one are compared.
CREATE TABLE signature_bands (
  band bigint NOT NULL,
  ordinal bigint NOT NULL,
  PRIMARY KEY (band, ordinal)
);
CREATE FUNCTION rag_bands(signature smallint[]) RETURNS SETOF bigint LANGUAGE sql IMMUTABLE PARALLEL SAFE STRICT AS $$
  SELECT hash_array_extended(signature[8 * n + 1 : 8 * n + 8], n) FROM generate_series(0, array_length(signature, 1) / 8 - 1) AS n
$$;

-- Deleted signatures. The next sync of any source compares the documents again that were marked with them; until then
-- the view does not show these.
CREATE TABLE gone_signatures (ordinal bigint PRIMARY KEY);

CREATE VIEW near_duplicates AS
  SELECT s.document_id, o.document_id AS near_duplicate_of, s.similarity, s.source_uuid
  FROM document_signatures s JOIN document_signatures o ON o.ordinal = s.duplicate_of;

CREATE FUNCTION rag_signatures_gone() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  DELETE FROM signature_bands b USING (SELECT ordinal, rag_bands(signature) AS band FROM gone) AS g
    WHERE b.band = g.band AND b.ordinal = g.ordinal;
  -- Rows of its own only: those that it marked may be locked by others, and nobody is waited for.
  INSERT INTO gone_signatures SELECT ordinal FROM gone WHERE signature IS NOT NULL;
  RETURN NULL;
END $$;
CREATE TRIGGER document_signatures_gone AFTER DELETE ON document_signatures
  REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION rag_signatures_gone();

CREATE FUNCTION rag_text_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  DELETE FROM document_signatures WHERE document_id = NEW.id;
  RETURN NULL;
END $$;
CREATE TRIGGER documents_text_changed AFTER UPDATE OF content ON documents FOR EACH ROW
  WHEN (OLD.content IS DISTINCT FROM NEW.content) EXECUTE FUNCTION rag_text_changed();
