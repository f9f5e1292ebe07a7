-- The page on which a chunk begins, if its document has pages; its language, if it is not the document's.
ALTER TABLE document_chunks
  ADD COLUMN page integer CHECK (page >= 1),
  ADD COLUMN language char(2) CHECK (language ~ '^[a-z]{2}$');
