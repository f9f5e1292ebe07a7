-- The page that a chunk begins on, of documents that have pages; its language, where it is not the document's.
ALTER TABLE document_chunks
  ADD COLUMN page integer CHECK (page >= 1),
  ADD COLUMN language char(2) CHECK (language ~ '^[a-z]{2}$');
