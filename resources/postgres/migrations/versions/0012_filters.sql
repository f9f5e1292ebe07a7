-- Searches filter by author, category, tags and chunk type too: rows in Milvus have these fields, and their fingerprint
-- covers them. Older collections lack the fields: `rag rebuild milvus` replaces them.

-- The tags that a search can filter by: the first 64 that are not empty, each cut to 100 characters, which is the limit of
-- Milvus's array (25 KB a row at most). Only this function cuts; PostgreSQL compares with its result.
CREATE FUNCTION rag_filter_tags(tags text[]) RETURNS text[] LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT coalesce(array_agg(left(tag, 100) ORDER BY n), '{}') FROM (
    SELECT tag, n FROM unnest(tags) WITH ORDINALITY AS given(tag, n) WHERE tag <> '' ORDER BY n LIMIT 64) AS kept
$$;
-- Stored, since each chunk's fingerprint needs them. This rewrites the table, once.
ALTER TABLE documents ADD COLUMN filter_tags text[] NOT NULL GENERATED ALWAYS AS (rag_filter_tags(tags)) STORED;

-- STABLE like the functions that it calls: only then PostgreSQL inlines it into queries (5 us a row instead of 20).
DROP FUNCTION rag_row_fingerprint(text, text, uuid, text, text, text, integer, timestamptz);
CREATE FUNCTION rag_row_fingerprint(model text, text_hash text, document uuid, source_type text, source text,
                                    language text, pos integer, created timestamptz, chunk_type text, author text,
                                    category text, tags text[])
RETURNS text LANGUAGE sql STABLE PARALLEL SAFE AS $$
  SELECT left(encode(sha256(convert_to(
    octet_length(model) || ':' || model || octet_length(text_hash) || ':' || text_hash || document::text ||
    octet_length(source_type) || ':' || source_type || octet_length(source) || ':' || source ||
    coalesce(language, '  ') || pos || ':' || floor(extract(epoch FROM created))::bigint || ':' ||
    octet_length(chunk_type) || ':' || chunk_type ||
    octet_length(coalesce(author, '')) || ':' || coalesce(author, '') ||
    octet_length(coalesce(category, '')) || ':' || coalesce(category, '') ||
    array_to_json(tags), 'UTF8')), 'hex'), 32)
$$;

DROP TRIGGER documents_changed ON documents;
CREATE TRIGGER documents_changed
  AFTER UPDATE OF language, source_type, created_at, author, category, tags ON documents FOR EACH ROW
  WHEN ((OLD.language, OLD.source_type, OLD.created_at, OLD.author, OLD.category, OLD.filter_tags)
    IS DISTINCT FROM (NEW.language, NEW.source_type, NEW.created_at, NEW.author, NEW.category, NEW.filter_tags))
  EXECUTE FUNCTION rag_document_changed();
