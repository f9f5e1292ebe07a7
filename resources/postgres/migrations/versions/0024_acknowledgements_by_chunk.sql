-- One index instead of two. It begins with the column that differs: the names of all collections begin alike, and an
-- insert compared them at each level of the index.
ALTER TABLE vector_rows DROP CONSTRAINT vector_rows_pkey,
  ADD CONSTRAINT vector_rows_pkey PRIMARY KEY (chunk_id, collection);
DROP INDEX vector_rows_chunk;
