-- What to do about a result, and the kind of fault, as columns: decisions no longer read the command.
ALTER TABLE check_results RENAME COLUMN mend TO command;
ALTER TABLE check_results
  ADD COLUMN remedy varchar(7) CHECK (remedy IN ('repair', 'rebuild', 'check', 'person')),
  ADD COLUMN inconsistency varchar(17)
    CHECK (inconsistency IN ('orphaned_chunks', 'missing_vectors', 'status_mismatches', 'index_issues'));

UPDATE check_results SET command = '' WHERE outcome = 'passed';
UPDATE check_results SET
  remedy = CASE
    WHEN command LIKE 'rag repair%' THEN 'repair'
    WHEN command LIKE 'rag rebuild%' THEN 'rebuild'
    WHEN command LIKE 'rag check%' THEN 'check'
    ELSE 'person' END,
  inconsistency = CASE
    WHEN check_name IN ('chunks_have_documents', 'deleted_chunks_have_left_milvus') THEN 'orphaned_chunks'
    WHEN check_name LIKE '%\_vectors\_match\_postgres' OR check_name = 'chunk_embeddings_are_in_parquet'
      THEN 'missing_vectors'
    WHEN check_name IN ('statuses_agree', 'chunk_positions_are_contiguous') THEN 'status_mismatches'
    WHEN check_name LIKE '%\_index\_is\_as\_declared' OR check_name LIKE '%\_alias\_points\_to\_current\_model'
      OR check_name LIKE '%\_vectors\_are\_found\_by\_search' THEN 'index_issues' END,
  -- Another digest than before, of all ids instead of the shown ones. An empty one equals the next of the same outcome,
  -- so `since` and the counted repairs stay.
  finding = ''
WHERE outcome <> 'passed';

ALTER TABLE check_results ADD CHECK ((outcome = 'passed') = (remedy IS NULL));
