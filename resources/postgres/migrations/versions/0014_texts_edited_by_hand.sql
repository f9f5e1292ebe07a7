-- A text that is edited by SQL is split again. (A sync that parses a document again clears the fingerprint itself.)
CREATE FUNCTION rag_content_edited() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  NEW.chunker_fingerprint := NULL;
  NEW.char_count := length(NEW.content);
  NEW.processing_status := 'pending';
  NEW.indexing_status := 'pending';
  RETURN NEW;
END $$;
CREATE TRIGGER documents_content_edited BEFORE UPDATE OF content ON documents FOR EACH ROW
  WHEN (NEW.content IS DISTINCT FROM OLD.content AND NEW.chunker_fingerprint IS NOT NULL)
  EXECUTE FUNCTION rag_content_edited();

-- A chunk's text_hash also names its embedding: a search would find an edited text by the old text's embedding.
CREATE FUNCTION rag_chunk_content_edited() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION 'document_chunks.content is split from documents.content: edit that, and run rag ingest';
END $$;
CREATE TRIGGER document_chunks_content_edited BEFORE UPDATE OF content, text_hash ON document_chunks FOR EACH ROW
  WHEN ((NEW.content, NEW.text_hash) IS DISTINCT FROM (OLD.content, OLD.text_hash))
  EXECUTE FUNCTION rag_chunk_content_edited();
