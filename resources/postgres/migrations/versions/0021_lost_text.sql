-- The documents whose text was read in part: `metadata` states the lost share. Few rows, counted after each sync.
CREATE INDEX documents_text_lost ON documents (source_uuid) WHERE metadata ? 'text_lost';
COMMENT ON COLUMN document_chunks.page IS
  'The page of a PDF, or the slide of a presentation, on which it begins, from 1; NULL for other formats.';
