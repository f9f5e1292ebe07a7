-- Sources in shards: parts of their documents by ranges of ids, synced side by side (rag_assets/pipeline/shards.py).

-- The sync that the runs of a source's shards belong to; without shards a sync is one run.
CREATE FUNCTION rag_sync() RETURNS text LANGUAGE sql STABLE PARALLEL SAFE AS $$
  SELECT coalesce(nullif(current_setting('rag.sync', true), ''), rag_run())
$$;
ALTER TABLE sources ADD COLUMN listed_sync text;  -- the latest sync whose listing is complete

-- The shards that a sync has finished; with all of them the source is synced.
CREATE TABLE synced_shards (
  source_id uuid NOT NULL REFERENCES sources ON DELETE CASCADE,
  shard integer NOT NULL,
  sync text NOT NULL,
  PRIMARY KEY (source_id, shard)
);

-- The shard that would write the chunk again also drains its entry. NULL: entries from before shards existed.
ALTER TABLE vector_deletions ADD COLUMN document_id uuid;
CREATE OR REPLACE FUNCTION rag_enqueue_vector_deletions() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO vector_deletions (source_uuid, document_id, kind, chunk_id, row_count)
    SELECT gone.source_uuid, gone.document_id, v.kind, gone.id,
      CASE WHEN count(r.row_count) = count(*) THEN max(r.row_count) END  -- one collection of two may hold more
    FROM gone CROSS JOIN vector_collections v
    LEFT JOIN vector_rows r ON r.collection = v.name AND r.chunk_id = gone.id
    GROUP BY gone.source_uuid, gone.document_id, v.kind, gone.id;
  DELETE FROM vector_rows USING gone WHERE vector_rows.chunk_id = gone.id;
  RETURN NULL;
END $$;
