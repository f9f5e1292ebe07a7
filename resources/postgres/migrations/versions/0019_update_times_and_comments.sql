-- `updated_at` changes with its row, also under SQL that does not set it. Statements that set it themselves, as ours do,
-- pay for one comparison a row; others for a second update of each row (1.6 to 6 times as long). Triggers on statements
-- would take half of that, but would cost ours a third more: they keep both forms of every row.

-- sources has no generated columns, so a trigger before the update costs nothing more (see 0017).
CREATE FUNCTION rag_source_touched() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  NEW.updated_at := now();
  RETURN NEW;
END $$;
CREATE TRIGGER sources_touched BEFORE UPDATE ON sources FOR EACH ROW
  WHEN (NEW.updated_at = OLD.updated_at AND NEW.* IS DISTINCT FROM OLD.*) EXECUTE FUNCTION rag_source_touched();

-- After the update, because of the generated search vectors (see 0017). `<> now()`: other triggers update the same row
-- again, in the same transaction. A time that a statement sets itself stays, unless one of these triggers follows.
CREATE FUNCTION rag_document_touched() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  UPDATE documents SET updated_at = now() WHERE id = NEW.id AND updated_at <> now();
  RETURN NULL;
END $$;
CREATE TRIGGER documents_touched AFTER UPDATE ON documents FOR EACH ROW
  WHEN (NEW.updated_at = OLD.updated_at AND NEW.updated_at <> now() AND NEW.* IS DISTINCT FROM OLD.*)
  EXECUTE FUNCTION rag_document_touched();

-- Searches write search_count and last_search_score: they count a chunk, they do not change it.
CREATE FUNCTION rag_chunk_touched() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  UPDATE document_chunks SET updated_at = now() WHERE id = NEW.id AND updated_at <> now();
  RETURN NULL;
END $$;
CREATE TRIGGER document_chunks_touched
  AFTER UPDATE OF id, document_id, content, chunk_type, position, section_title, hierarchy_level, parent_chunk_id,
    token_count, char_count, dense_vector_id, sparse_vector_id, multi_vector_id, embedding_status, embedding_error,
    created_at, embedded_at, source_uuid, text_hash, page, language ON document_chunks FOR EACH ROW
  WHEN (NEW.updated_at = OLD.updated_at AND NEW.updated_at <> now() AND NEW.* IS DISTINCT FROM OLD.*)
  EXECUTE FUNCTION rag_chunk_touched();

-- Comments ------------------------------------------------------------------------------------------------------
COMMENT ON TABLE sources IS 'Where documents come from: a folder, a website, a repository, a database, a bucket.';
COMMENT ON COLUMN sources.id IS 'The source''s id. It stays the same when the source is changed.';
COMMENT ON COLUMN sources.source_type IS 'The type of the source: folder, files, git, web, sql, csv, jsonl or parquet';
COMMENT ON COLUMN sources.name IS 'The name, which is also the Dagster partition: 1 to 100 letters, digits, `.`, `_`, `-` and spaces.';
COMMENT ON COLUMN sources.connection_config IS 'The options of the type, without credentials.';
COMMENT ON COLUMN sources.credentials_encrypted IS 'The credentials, encrypted with the key of the deployment; NULL: none.';
COMMENT ON COLUMN sources.sync_schedule IS 'When the source is synced (cron); NULL: RAG_SYNC_SCHEDULE.';
COMMENT ON COLUMN sources.last_sync_at IS 'When the last complete sync ended.';
COMMENT ON COLUMN sources.next_sync_at IS 'When the next sync is due; NULL: not computed yet. After a failure: the next attempt.';
COMMENT ON COLUMN sources.sync_status IS 'The state of the latest sync: pending, running, completed or failed.';
COMMENT ON COLUMN sources.total_documents IS 'The number of documents at the end of the last sync.';
COMMENT ON COLUMN sources.successful_documents IS 'The documents among them that could be read.';
COMMENT ON COLUMN sources.failed_documents IS 'The documents among them that could not be fetched or read.';
COMMENT ON COLUMN sources.is_active IS 'Whether schedules and sensors sync and check the source.';
COMMENT ON COLUMN sources.error_count IS 'Failed syncs in a row.';
COMMENT ON COLUMN sources.last_error IS 'The reason of the last failed sync; NULL after a complete one.';
COMMENT ON COLUMN sources.created_at IS 'When the source was registered.';
COMMENT ON COLUMN sources.updated_at IS 'When the row changed last.';
COMMENT ON COLUMN sources.sync_run IS 'The sync that runs or ran last.';
COMMENT ON COLUMN sources.failed_run IS 'The sync that failed last: its retries count as one failure.';
COMMENT ON COLUMN sources.sync_requested_at IS 'When the sensor requested the sync that is due.';
COMMENT ON COLUMN sources.listed_sync IS 'The latest sync whose listing of the source is complete.';

COMMENT ON TABLE source_entries IS 'The entries of each source at its last listing: asset source_documents.';
COMMENT ON COLUMN source_entries.source_id IS 'The source.';
COMMENT ON COLUMN source_entries.key IS 'The key of the entry in its source, such as a path or a URL.';
COMMENT ON COLUMN source_entries.document_id IS 'The id of the document: UUIDv5 of source and key.';
COMMENT ON COLUMN source_entries.locator IS 'Where the source fetches the entry.';
COMMENT ON COLUMN source_entries.change_token IS 'Another token means another content: size and time, ETag, blob id …';
COMMENT ON COLUMN source_entries.size IS 'Bytes; NULL: the source does not report them.';
COMMENT ON COLUMN source_entries.content_hash IS 'SHA-256 of the fetched bytes, their name in the raw store; NULL: not fetched.';
COMMENT ON COLUMN source_entries.error IS 'Why the entry could not be fetched; NULL: it was.';
COMMENT ON COLUMN source_entries.removed_hash IS 'The content at which the document was deleted by SQL: it stays out until the content changes.';
COMMENT ON COLUMN source_entries.fetched_at IS 'When the entry was fetched.';
COMMENT ON COLUMN source_entries.fetched_run IS 'The Dagster run that fetched it.';

COMMENT ON TABLE documents IS 'The text of each document, and the state of its processing: asset documents.';
COMMENT ON COLUMN documents.id IS 'UUIDv5 of the source''s id and the key: the same after each sync.';
COMMENT ON COLUMN documents.title IS 'The title, from the document or its key.';
COMMENT ON COLUMN documents.content IS 'The text, from which the chunks are split.';
COMMENT ON COLUMN documents.source_type IS 'The type of the source.';
COMMENT ON COLUMN documents.source_id IS '`<source>/<key>`, unique among sources of a type.';
COMMENT ON COLUMN documents.source_url IS 'The address of the document for readers, if it has one.';
COMMENT ON COLUMN documents.author IS 'The author, from front matter or the file''s properties.';
COMMENT ON COLUMN documents.language IS 'The detected language, two lower-case letters; NULL: undetermined.';
COMMENT ON COLUMN documents.category IS 'The category, from front matter.';
COMMENT ON COLUMN documents.tags IS 'The tags, from front matter.';
COMMENT ON COLUMN documents.word_count IS 'Parts of the text between blanks.';
COMMENT ON COLUMN documents.char_count IS 'Characters of the text.';
COMMENT ON COLUMN documents.chunk_count IS 'Chunks of the text.';
COMMENT ON COLUMN documents.processing_status IS 'Whether text and chunks are current: pending, processing, completed or failed.';
COMMENT ON COLUMN documents.indexing_status IS 'Whether all vectors are in Milvus: pending, indexing, completed or failed.';
COMMENT ON COLUMN documents.error_message IS 'Why the document could not be read; NULL: it could.';
COMMENT ON COLUMN documents.created_at IS 'When the document was read first. Rows in Milvus have it in seconds.';
COMMENT ON COLUMN documents.updated_at IS 'When the row changed last.';
COMMENT ON COLUMN documents.indexed_at IS 'When indexing was completed last.';
COMMENT ON COLUMN documents.source_uuid IS 'The source.';
COMMENT ON COLUMN documents.source_key IS 'The key in the source, such as a path or a URL.';
COMMENT ON COLUMN documents.raw_hash IS 'SHA-256 of the bytes that the text was read from; NULL: never read.';
COMMENT ON COLUMN documents.parser_fingerprint IS 'The parser and its version. Another one: the document is read again.';
COMMENT ON COLUMN documents.chunker_fingerprint IS 'The chunker and its options. Another one, or NULL: the text is split again.';
COMMENT ON COLUMN documents.indexed_as IS 'The model and kinds of vectors of the last completed indexing.';
COMMENT ON COLUMN documents.mime_type IS 'The detected type of the file.';
COMMENT ON COLUMN documents.is_markdown IS 'Whether the text is Markdown and is split along its headings.';
COMMENT ON COLUMN documents.metadata IS 'Further facts from the document: pages, front matter, encoding …';
COMMENT ON COLUMN documents.search_vector IS 'Full text of title and content; compare with rag_tsquery(text).';
COMMENT ON COLUMN documents.parsed_run IS 'The Dagster run that wrote the text.';
COMMENT ON COLUMN documents.chunked_run IS 'The Dagster run that split it.';
COMMENT ON COLUMN documents.indexed_run IS 'The Dagster run that completed its indexing.';
COMMENT ON COLUMN documents.version IS 'The number of the current version, from 1.';
COMMENT ON COLUMN documents.versioned_at IS 'When the current version began; NULL: at created_at.';
COMMENT ON COLUMN documents.filter_tags IS 'The tags that a search can filter by: the first 64, each cut to 100 characters.';

COMMENT ON TABLE document_chunks IS 'The parts of the documents that are embedded and found: asset document_chunks.';
COMMENT ON COLUMN document_chunks.id IS 'UUIDv5 of the document''s id, the text and its occurrence: independent of the position.';
COMMENT ON COLUMN document_chunks.document_id IS 'The document.';
COMMENT ON COLUMN document_chunks.content IS 'The exact text that is embedded.';
COMMENT ON COLUMN document_chunks.chunk_type IS 'The kind of text: text, heading, code, table, list …';
COMMENT ON COLUMN document_chunks.position IS 'The place in the document: 0, 1, 2 … without a gap.';
COMMENT ON COLUMN document_chunks.section_title IS 'The heading above the chunk.';
COMMENT ON COLUMN document_chunks.hierarchy_level IS 'The depth of the section, from 1.';
COMMENT ON COLUMN document_chunks.parent_chunk_id IS 'The chunk that opens the enclosing section.';
COMMENT ON COLUMN document_chunks.token_count IS 'Estimated tokens: words, with Han and kana characters counted one by one.';
COMMENT ON COLUMN document_chunks.char_count IS 'Characters of the text.';
COMMENT ON COLUMN document_chunks.dense_vector_id IS 'The id of its row in dense_collection; NULL: not written.';
COMMENT ON COLUMN document_chunks.sparse_vector_id IS 'The id of its row in sparse_collection; NULL: not written.';
COMMENT ON COLUMN document_chunks.multi_vector_id IS 'The beginning of the ids of its rows in multi_collection; NULL: not written.';
COMMENT ON COLUMN document_chunks.embedding_status IS 'Whether all vectors are in Milvus: pending, processing, completed or failed.';
COMMENT ON COLUMN document_chunks.embedding_error IS 'Why the text could not be embedded; NULL: it could.';
COMMENT ON COLUMN document_chunks.last_search_score IS 'The score of its last hit. Does not change updated_at.';
COMMENT ON COLUMN document_chunks.search_count IS 'How often a search returned it. Does not change updated_at.';
COMMENT ON COLUMN document_chunks.created_at IS 'When the chunk appeared in its document.';
COMMENT ON COLUMN document_chunks.updated_at IS 'When the row changed last, apart from search_count and last_search_score.';
COMMENT ON COLUMN document_chunks.embedded_at IS 'When its vectors were acknowledged last.';
COMMENT ON COLUMN document_chunks.source_uuid IS 'The source of the document.';
COMMENT ON COLUMN document_chunks.text_hash IS 'Hash of the text. With the model''s fingerprint it names the embedding.';
COMMENT ON COLUMN document_chunks.search_vector IS 'Full text of the content; compare with rag_tsquery(text).';
COMMENT ON COLUMN document_chunks.page IS 'The page on which it begins, from 1; NULL: the document has no pages.';
COMMENT ON COLUMN document_chunks.language IS 'Its language, if it differs from the document''s.';

COMMENT ON TABLE embedding_files IS 'The Parquet files of embeddings: asset chunk_embeddings. A file is recorded once it has its final name.';
COMMENT ON COLUMN embedding_files.id IS 'The file''s id.';
COMMENT ON COLUMN embedding_files.path IS 'The path below RAG_STORAGE_URL.';
COMMENT ON COLUMN embedding_files.model_fingerprint IS 'The model that made the vectors.';
COMMENT ON COLUMN embedding_files.kinds IS 'The kinds of vectors in it: dense, sparse, multi.';
COMMENT ON COLUMN embedding_files.row_count IS 'Rows of the file.';
COMMENT ON COLUMN embedding_files.byte_count IS 'Bytes of the file.';
COMMENT ON COLUMN embedding_files.checksum IS 'SHA-256 of the file.';
COMMENT ON COLUMN embedding_files.created_at IS 'When the file was recorded.';
COMMENT ON COLUMN embedding_files.run IS 'The Dagster run that wrote it.';
COMMENT ON COLUMN embedding_files.retired_at IS 'When a compaction replaced it; it is deleted a day later. NULL: in use.';

COMMENT ON TABLE embeddings IS 'The Parquet file and row of the embedding of each text under each model.';
COMMENT ON COLUMN embeddings.model_fingerprint IS 'The model that made the vectors.';
COMMENT ON COLUMN embeddings.text_hash IS 'Hash of the text.';
COMMENT ON COLUMN embeddings.file_id IS 'The file.';
COMMENT ON COLUMN embeddings.row_index IS 'The row in the file, from 0.';
COMMENT ON COLUMN embeddings.kinds IS 'The kinds of vectors in the row.';

COMMENT ON TABLE vector_collections IS 'The physical collections in Milvus. At most one of a model and kind is written by syncs.';
COMMENT ON COLUMN vector_collections.name IS 'The physical name: <alias>__<model fingerprint>, after a rebuild <alias>__g2__<model fingerprint>.';
COMMENT ON COLUMN vector_collections.alias IS 'The name that readers use.';
COMMENT ON COLUMN vector_collections.kind IS 'The kind of vectors: dense, sparse or multi.';
COMMENT ON COLUMN vector_collections.model_fingerprint IS 'The model that made the vectors.';
COMMENT ON COLUMN vector_collections.dimension IS 'Dimension of the vectors; 0: sparse.';
COMMENT ON COLUMN vector_collections.milvus_id IS 'Milvus''s identity of the collection. Another one under the same name: the collection was lost.';
COMMENT ON COLUMN vector_collections.state IS 'building (written, not read yet), serving, rebuilding (filled to replace a serving one), retired.';
COMMENT ON COLUMN vector_collections.created_at IS 'When the collection was created.';

COMMENT ON TABLE vector_rows IS 'The rows that Milvus acknowledged. Without a row here, Milvus may have an old row, a new one, or none.';
COMMENT ON COLUMN vector_rows.collection IS 'The physical collection.';
COMMENT ON COLUMN vector_rows.chunk_id IS 'The chunk.';
COMMENT ON COLUMN vector_rows.row_fingerprint IS 'Hash of the embedding''s key and of every field beside the vector.';
COMMENT ON COLUMN vector_rows.row_count IS 'Rows in Milvus: a multi-vector has one for each token.';
COMMENT ON COLUMN vector_rows.epoch IS 'The epoch of the writer that wrote it.';
COMMENT ON COLUMN vector_rows.acknowledged_at IS 'When Milvus confirmed it.';

COMMENT ON TABLE vector_deletions IS 'The outbox: rows that Milvus must delete. An entry is deleted once Milvus has confirmed.';
COMMENT ON COLUMN vector_deletions.id IS 'The order of the entries.';
COMMENT ON COLUMN vector_deletions.source_uuid IS 'The source of the deleted chunk.';
COMMENT ON COLUMN vector_deletions.kind IS 'The kind of vectors: dense, sparse or multi.';
COMMENT ON COLUMN vector_deletions.chunk_id IS 'The deleted chunk. The ids in Milvus follow from it.';
COMMENT ON COLUMN vector_deletions.row_count IS 'Rows that Milvus acknowledged; NULL: unknown, it may have some.';
COMMENT ON COLUMN vector_deletions.enqueued_at IS 'When the chunk was deleted.';
COMMENT ON COLUMN vector_deletions.document_id IS 'The document: it decides which shard deletes. NULL: from before shards existed.';

COMMENT ON TABLE partition_writers IS 'The latest writer of each partition. Acknowledgements of an earlier epoch are rejected.';
COMMENT ON COLUMN partition_writers.partition IS 'The partition: a source, or one shard of it.';
COMMENT ON COLUMN partition_writers.epoch IS 'The number of the writer; each new one has a higher number.';
COMMENT ON COLUMN partition_writers.holder IS 'The process that writes or wrote.';
COMMENT ON COLUMN partition_writers.taken_at IS 'When it began.';

COMMENT ON TABLE synced_shards IS 'The shards that a sync has finished; with all of them the source is synced.';
COMMENT ON COLUMN synced_shards.source_id IS 'The source.';
COMMENT ON COLUMN synced_shards.shard IS 'The number of the shard, from 1.';
COMMENT ON COLUMN synced_shards.sync IS 'The sync.';

COMMENT ON TABLE check_results IS 'The last result of each asset check of each source, in its full and in its quick form.';
COMMENT ON COLUMN check_results.source_id IS 'The source.';
COMMENT ON COLUMN check_results.asset IS 'The asset that the check belongs to.';
COMMENT ON COLUMN check_results.check_name IS 'The check. A quick form has the name of the full one that it samples for.';
COMMENT ON COLUMN check_results.form IS 'full or quick.';
COMMENT ON COLUMN check_results.outcome IS 'passed, failed or undetermined.';
COMMENT ON COLUMN check_results.sentence IS 'The finding, for people.';
COMMENT ON COLUMN check_results.command IS 'The command that fixes it; empty: none.';
COMMENT ON COLUMN check_results.finding IS 'A hash of the finding: another finding is another failure.';
COMMENT ON COLUMN check_results.since IS 'Outcome and finding have been the same since then.';
COMMENT ON COLUMN check_results.checked_at IS 'When the check began to read.';
COMMENT ON COLUMN check_results.run_id IS 'The Dagster run of the check.';
COMMENT ON COLUMN check_results.repairs IS 'Repairs that began since then and did not fix it.';
COMMENT ON COLUMN check_results.repaired_at IS 'When the last of these repairs began or ended.';
COMMENT ON COLUMN check_results.repair_run_id IS 'The Dagster run of that repair.';
COMMENT ON COLUMN check_results.remedy IS 'Who fixes it: repair, rebuild, check (again) or person; NULL: passed.';
COMMENT ON COLUMN check_results.inconsistency IS 'orphaned_chunks, missing_vectors, status_mismatches or index_issues; NULL: none of them, or passed.';

COMMENT ON TABLE former_texts IS 'Texts that a document had: an erasure of the document deletes them from Parquet too.';
COMMENT ON COLUMN former_texts.document_id IS 'The document.';
COMMENT ON COLUMN former_texts.text_hash IS 'Hash of the text.';
COMMENT ON COLUMN former_texts.source_uuid IS 'The source.';
COMMENT ON COLUMN former_texts.since IS 'When its last chunk with this text was deleted. The embedding is kept for 30 days.';

COMMENT ON VIEW wanted_texts IS 'The texts whose embeddings are kept: of chunks, and of former texts of the last 30 days.';
COMMENT ON COLUMN wanted_texts.text_hash IS 'Hash of the text. A text may appear several times.';

COMMENT ON TABLE former_raw IS 'Raw bytes that a document had: an erasure of the document deletes them too.';
COMMENT ON COLUMN former_raw.document_id IS 'The document.';
COMMENT ON COLUMN former_raw.content_hash IS 'SHA-256 of the bytes, their name in the raw store.';
COMMENT ON COLUMN former_raw.source_id IS 'The source.';

COMMENT ON TABLE forgotten IS 'Documents that were erased on request: no sync reads their key again.';
COMMENT ON COLUMN forgotten.source IS 'The name of the source, so that the erasure also applies to a source that is registered again.';
COMMENT ON COLUMN forgotten.key_hash IS 'SHA-256 of the key; the key itself is not kept.';
COMMENT ON COLUMN forgotten.document_id IS 'The erased document.';
COMMENT ON COLUMN forgotten.source_uuid IS 'The source at that time.';
COMMENT ON COLUMN forgotten.chunk_ids IS 'Its chunks: searched for in each store until the receipt proves that they are gone.';
COMMENT ON COLUMN forgotten.text_hashes IS 'Its current and former texts.';
COMMENT ON COLUMN forgotten.raw_hashes IS 'Its current and former raw bytes.';
COMMENT ON COLUMN forgotten.requested_at IS 'When the erasure was requested.';
COMMENT ON COLUMN forgotten.receipt IS 'The proof of the erasure; NULL: not finished.';

COMMENT ON TABLE term_statistics IS 'How many texts of a source contain each term: the weights of the lexical embedder''s queries.';
COMMENT ON COLUMN term_statistics.model_fingerprint IS 'The model.';
COMMENT ON COLUMN term_statistics.source_id IS 'The source.';
COMMENT ON COLUMN term_statistics.texts IS 'The number of texts counted.';
COMMENT ON COLUMN term_statistics.terms IS 'Ascending term numbers, each with the number of its texts, compressed.';

COMMENT ON TABLE document_versions IS 'Versions of documents that were replaced or deleted. Rows never change. Partitioned by month of valid_to.';
COMMENT ON COLUMN document_versions.document_id IS 'The document.';
COMMENT ON COLUMN document_versions.version IS 'The number of the version, from 1.';
COMMENT ON COLUMN document_versions.valid_from IS 'When the version began.';
COMMENT ON COLUMN document_versions.valid_to IS 'When it was replaced or deleted.';
COMMENT ON COLUMN document_versions.ended_by IS 'replaced or deleted.';
COMMENT ON COLUMN document_versions.source_uuid IS 'As in documents.';
COMMENT ON COLUMN document_versions.source_key IS 'As in documents.';
COMMENT ON COLUMN document_versions.source_type IS 'As in documents.';
COMMENT ON COLUMN document_versions.source_id IS 'As in documents.';
COMMENT ON COLUMN document_versions.title IS 'As in documents.';
COMMENT ON COLUMN document_versions.content IS 'As in documents.';
COMMENT ON COLUMN document_versions.source_url IS 'As in documents.';
COMMENT ON COLUMN document_versions.author IS 'As in documents.';
COMMENT ON COLUMN document_versions.language IS 'As in documents.';
COMMENT ON COLUMN document_versions.category IS 'As in documents.';
COMMENT ON COLUMN document_versions.tags IS 'As in documents.';
COMMENT ON COLUMN document_versions.word_count IS 'As in documents.';
COMMENT ON COLUMN document_versions.char_count IS 'As in documents.';
COMMENT ON COLUMN document_versions.chunk_count IS 'As in documents.';
COMMENT ON COLUMN document_versions.processing_status IS 'As in documents, at the end of the version.';
COMMENT ON COLUMN document_versions.indexing_status IS 'As in documents, at the end of the version.';
COMMENT ON COLUMN document_versions.error_message IS 'As in documents.';
COMMENT ON COLUMN document_versions.mime_type IS 'As in documents.';
COMMENT ON COLUMN document_versions.is_markdown IS 'As in documents.';
COMMENT ON COLUMN document_versions.metadata IS 'As in documents.';
COMMENT ON COLUMN document_versions.raw_hash IS 'As in documents.';
COMMENT ON COLUMN document_versions.parser_fingerprint IS 'As in documents.';
COMMENT ON COLUMN document_versions.chunker_fingerprint IS 'As in documents.';
COMMENT ON COLUMN document_versions.indexed_as IS 'As in documents.';
COMMENT ON COLUMN document_versions.created_at IS 'As in documents: when the document was read first.';
COMMENT ON COLUMN document_versions.indexed_at IS 'As in documents.';
COMMENT ON COLUMN document_versions.parsed_run IS 'As in documents.';
COMMENT ON COLUMN document_versions.chunked_run IS 'As in documents.';
COMMENT ON COLUMN document_versions.indexed_run IS 'As in documents.';
COMMENT ON COLUMN document_versions.ended_run IS 'The Dagster run that replaced or deleted it; NULL: SQL by hand.';

COMMENT ON TABLE document_signatures IS 'MinHash signatures of texts. A changed text is a new, later row.';
COMMENT ON COLUMN document_signatures.document_id IS 'The document.';
COMMENT ON COLUMN document_signatures.ordinal IS 'The order of arrival.';
COMMENT ON COLUMN document_signatures.source_uuid IS 'The source.';
COMMENT ON COLUMN document_signatures.algorithm IS 'The algorithm and its version. Another one: the next sync replaces the signature.';
COMMENT ON COLUMN document_signatures.signature IS '128 hashes of 16 bits; NULL: the text is too short.';
COMMENT ON COLUMN document_signatures.duplicate_of IS 'The ordinal of the first earlier document that is similar; NULL: none.';
COMMENT ON COLUMN document_signatures.similarity IS 'The estimated Jaccard similarity to it.';

COMMENT ON TABLE signature_bands IS 'A hash of each band of eight hashes: documents that share one are compared.';
COMMENT ON COLUMN signature_bands.band IS 'The hash of the band.';
COMMENT ON COLUMN signature_bands.ordinal IS 'The signature.';

COMMENT ON TABLE gone_signatures IS 'Deleted signatures: the next sync compares the documents again that were similar to them.';
COMMENT ON COLUMN gone_signatures.ordinal IS 'The deleted signature.';

COMMENT ON VIEW near_duplicates IS 'Documents whose text is nearly that of an earlier document.';
COMMENT ON COLUMN near_duplicates.document_id IS 'The document.';
COMMENT ON COLUMN near_duplicates.near_duplicate_of IS 'The earlier document.';
COMMENT ON COLUMN near_duplicates.similarity IS 'The estimated Jaccard similarity of the two.';
COMMENT ON COLUMN near_duplicates.source_uuid IS 'The source of the document.';

COMMENT ON TABLE retrieval_sets IS 'Sets of queries with known answers, by which retrieval is measured.';
COMMENT ON COLUMN retrieval_sets.id IS 'The set''s id.';
COMMENT ON COLUMN retrieval_sets.source_id IS 'The source that is searched.';
COMMENT ON COLUMN retrieval_sets.name IS 'The name of the set.';
COMMENT ON COLUMN retrieval_sets.known_items IS 'Whether the queries were drawn from the source''s own chunks.';
COMMENT ON COLUMN retrieval_sets.created_at IS 'When the set was made.';

COMMENT ON TABLE retrieval_queries IS 'The queries of each set.';
COMMENT ON COLUMN retrieval_queries.set_id IS 'The set.';
COMMENT ON COLUMN retrieval_queries.query_id IS 'The id of the query in its set.';
COMMENT ON COLUMN retrieval_queries.text IS 'The text that is searched for.';

COMMENT ON TABLE retrieval_judgements IS 'The relevant results of each query.';
COMMENT ON COLUMN retrieval_judgements.set_id IS 'The set.';
COMMENT ON COLUMN retrieval_judgements.query_id IS 'The query.';
COMMENT ON COLUMN retrieval_judgements.position IS 'The place among the query''s judgements, from 0.';
COMMENT ON COLUMN retrieval_judgements.document_key IS 'The key of the relevant document.';
COMMENT ON COLUMN retrieval_judgements.passage IS 'The text of the relevant passage; NULL: any part of the document.';
COMMENT ON COLUMN retrieval_judgements.score IS 'The degree of relevance, from 1.';

COMMENT ON TABLE retrieval_evaluations IS 'The measurements with each set.';
COMMENT ON COLUMN retrieval_evaluations.id IS 'The number of the evaluation.';
COMMENT ON COLUMN retrieval_evaluations.set_id IS 'The set.';
COMMENT ON COLUMN retrieval_evaluations.run_id IS 'The Dagster run.';
COMMENT ON COLUMN retrieval_evaluations.model_fingerprint IS 'The model.';
COMMENT ON COLUMN retrieval_evaluations.measured_at IS 'When it was measured.';
COMMENT ON COLUMN retrieval_evaluations.queries IS 'The number of queries that were counted.';
COMMENT ON COLUMN retrieval_evaluations.outdated IS 'Queries whose answers the source no longer has: not counted.';
COMMENT ON COLUMN retrieval_evaluations.accepted_at IS 'When it was accepted; the one accepted last is the baseline of later ones.';

COMMENT ON TABLE retrieval_measures IS 'The measures of each evaluation, by mode of search.';
COMMENT ON COLUMN retrieval_measures.evaluation_id IS 'The evaluation.';
COMMENT ON COLUMN retrieval_measures.mode IS 'dense, sparse, hybrid or multi.';
COMMENT ON COLUMN retrieval_measures.measure IS 'The name of the measure, such as nDCG@10.';
COMMENT ON COLUMN retrieval_measures.value IS 'The value; a mean over queries where the measure is one.';
COMMENT ON COLUMN retrieval_measures.lower IS 'Lower bound of the 95 % confidence interval; NULL: not a mean.';
COMMENT ON COLUMN retrieval_measures.upper IS 'Upper bound of the 95 % confidence interval; NULL: not a mean.';

COMMENT ON TABLE retrieval_results IS 'The results of the single queries of each evaluation, for paired comparisons.';
COMMENT ON COLUMN retrieval_results.evaluation_id IS 'The evaluation.';
COMMENT ON COLUMN retrieval_results.mode IS 'dense, sparse, hybrid or multi.';
COMMENT ON COLUMN retrieval_results.query_ids IS 'The queries. The other arrays are in the same order.';
COMMENT ON COLUMN retrieval_results.ranks IS 'The rank of the first relevant result of each query; 0: none.';
COMMENT ON COLUMN retrieval_results.ndcg IS 'nDCG@10 of each query.';
