-- No query compares whole texts, and a full-text search uses its index without statistics. Those of these columns took
-- half of the time of each ANALYZE; autovacuum runs several during a first load.
ALTER TABLE documents ALTER content SET STATISTICS 0, ALTER search_vector SET STATISTICS 0;
ALTER TABLE document_chunks ALTER content SET STATISTICS 0, ALTER search_vector SET STATISTICS 0;
