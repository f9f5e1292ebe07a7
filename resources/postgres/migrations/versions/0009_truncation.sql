-- TRUNCATE fires no DELETE triggers, so Milvus would keep the rows. It becomes the DELETE that it means.
CREATE FUNCTION rag_truncate_is_delete() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  EXECUTE format('DELETE FROM %I.%I', TG_TABLE_SCHEMA, TG_TABLE_NAME);
  RETURN NULL;
END $$;
CREATE TRIGGER sources_truncated BEFORE TRUNCATE ON sources FOR EACH STATEMENT EXECUTE FUNCTION rag_truncate_is_delete();
CREATE TRIGGER documents_truncated BEFORE TRUNCATE ON documents FOR EACH STATEMENT EXECUTE FUNCTION rag_truncate_is_delete();
CREATE TRIGGER document_chunks_truncated BEFORE TRUNCATE ON document_chunks
  FOR EACH STATEMENT EXECUTE FUNCTION rag_truncate_is_delete();
