"""The columns of each asset: name, type, meaning and lineage. A test compares them with the stores."""

from __future__ import annotations

from collections.abc import Mapping

from rag_assets.pipeline.vectors import KINDS

#: Column -> (type in the store, meaning).
Columns = Mapping[str, tuple[str, str]]

_SOURCE_ENTRIES: Columns = {
    "source_id": ("uuid", "The source (table sources)."),
    "key": ("text", "The document's key in its source, such as a path or a URL."),
    "document_id": ("uuid", "The id of the document: UUIDv5 of source and key."),
    "locator": ("text", "Where the source reads the document from."),
    "change_token": (
        "text",
        "Size, mtime or version: another token means that it is fetched again.",
    ),
    "size": ("bigint", "Bytes, if the source reports them."),
    "content_hash": ("character(64)", "SHA-256 of the raw bytes, under which they are stored."),
    "error": ("text", "Why it could not be fetched."),
    "removed_hash": (
        "character(64)",
        "The content at which its document was deleted in SQL; it stays out until the content changes.",
    ),
    "fetched_at": ("timestamp with time zone", "When it was fetched last."),
    "fetched_run": ("text", "The Dagster run that fetched it."),
}

_DOCUMENTS: Columns = {
    "id": ("uuid", "UUIDv5 of source and key: the same document keeps its id."),
    "title": ("character varying(1000)", "From the metadata, the first heading or the file name."),
    "content": ("text", "The text: decoded, parsed and repaired."),
    "source_type": ("character varying(50)", "The type of its source, such as folder or web."),
    "source_id": ("text", "The name of the source and the key: SOURCE/KEY."),
    "source_url": ("text", "The address of the original."),
    "author": ("character varying(255)", "From the document's metadata or front matter."),
    "language": ("character(2)", "ISO 639-1 code, prescribed by the source or detected."),
    "category": ("character varying(100)", "From front matter; a filter of searches."),
    "tags": ("text[]", "From front matter; a filter of searches."),
    "word_count": ("integer", "Words of the content."),
    "char_count": ("integer", "Characters of the content."),
    "chunk_count": ("integer", "Chunks of the content."),
    "processing_status": (
        "character varying(20)",
        "Whether text and chunks are current: pending, processing, completed or failed.",
    ),
    "indexing_status": (
        "character varying(20)",
        "Whether all vectors are in Milvus: pending, indexing, completed or failed.",
    ),
    "error_message": ("text", "Why it could not be read or indexed."),
    "created_at": ("timestamp with time zone", "When it was first seen."),
    "updated_at": ("timestamp with time zone", "When the row changed last."),
    "indexed_at": ("timestamp with time zone", "When all its vectors were in Milvus."),
    "source_uuid": ("uuid", "The source (table sources); deleting it deletes the document."),
    "source_key": ("text", "The document's key in its source."),
    "raw_hash": ("character(64)", "SHA-256 of the raw bytes that the content was parsed from."),
    "parser_fingerprint": ("text", "The parser and its options; another one: parsed again."),
    "chunker_fingerprint": ("text", "The chunker and its options; another one: split again."),
    "indexed_as": ("text", "The model and the kinds of vectors that it was indexed with."),
    "mime_type": ("text", "The detected format of the raw bytes."),
    "is_markdown": ("boolean", "Whether the content is Markdown, and is split along its headings."),
    "metadata": ("jsonb", "Further metadata of the document, as its format has them."),
    "search_vector": ("tsvector", "Full text of title and content: rag_tsquery() searches it."),
    "parsed_run": ("text", "The Dagster run that parsed it."),
    "chunked_run": ("text", "The Dagster run that split it."),
    "indexed_run": ("text", "The Dagster run that indexed it."),
    "version": ("integer", "The number of this version; earlier ones are in document_versions."),
    "versioned_at": ("timestamp with time zone", "The begin of this version; NULL: created_at."),
    "filter_tags": (
        "text[]",
        "The tags as Milvus stores them: at most 64, each cut to 100 characters.",
    ),
}

_DOCUMENT_CHUNKS: Columns = {
    "id": ("uuid", "UUIDv5 of document, content and occurrence: unchanged text keeps its id."),
    "document_id": ("uuid", "The document; deleting it deletes the chunk."),
    "content": ("text", "The text of the chunk, as it is embedded."),
    "chunk_type": ("character varying(50)", "text, heading, code, table or list."),
    "position": ("integer", "Place in the document: 0, 1, 2 … without a gap."),
    "section_title": ("character varying(500)", "The heading above the chunk."),
    "hierarchy_level": ("integer", "The depth of that heading, from 1."),
    "parent_chunk_id": ("uuid", "The chunk with the heading above it."),
    "token_count": ("integer", "An estimate: words; Han and kana characters count one by one."),
    "char_count": ("integer", "Characters."),
    "dense_vector_id": (
        "character varying(255)",
        "Its row in dense_collection, once acknowledged.",
    ),
    "sparse_vector_id": (
        "character varying(255)",
        "Its row in sparse_collection, once acknowledged.",
    ),
    "multi_vector_id": (
        "character varying(255)",
        "Its first row in multi_collection, once acknowledged.",
    ),
    "embedding_status": (
        "character varying(20)",
        "pending, processing, completed or failed.",
    ),
    "embedding_error": ("text", "Why the text could not be embedded."),
    "rejected_as": (
        "text",
        "The model and the kinds for which the text could not be embedded: not tried again for these.",
    ),
    "last_search_score": ("double precision", "The score of its last hit."),
    "search_count": ("integer", "How often a search returned it; written in batches."),
    "created_at": ("timestamp with time zone", "When the chunk was first written."),
    "updated_at": ("timestamp with time zone", "When the row changed last."),
    "embedded_at": ("timestamp with time zone", "When all its vectors were in Milvus."),
    "source_uuid": ("uuid", "The source of its document."),
    "text_hash": ("character(32)", "Hash of the content: equal texts are embedded once."),
    "search_vector": ("tsvector", "Full text of the content: rag_tsquery() searches it."),
    "page": (
        "integer",
        "The page of a PDF, or the slide of a presentation, on which the chunk begins.",
    ),
    "language": ("character(2)", "If it differs from the document's."),
}

_CHUNK_EMBEDDINGS: Columns = {
    "text_hash": ("string", "Hash of the embedded text: document_chunks.text_hash."),
    "dense": ("float vector", "One vector for the text."),
    "sparse": ("float vector", "Weights of its terms."),
    "multi": ("float vector", "One vector for each of its tokens."),
}

_VECTORS: Columns = {
    "id": ("VARCHAR", "The chunk's id with the kind: the same chunk keeps its row."),
    "document_id": ("VARCHAR", "documents.id"),
    "source_type": ("VARCHAR", "documents.source_type"),
    "source": ("VARCHAR", "The name of the source."),
    "language": ("VARCHAR", "The chunk's language, else the document's."),
    "chunk_position": ("INT32", "document_chunks.position"),
    "created_timestamp": ("INT64", "documents.created_at, in seconds."),
    "chunk_type": ("VARCHAR", "document_chunks.chunk_type; empty: none."),
    "author": ("VARCHAR", "documents.author; empty: none."),
    "category": ("VARCHAR", "documents.category; empty: none."),
    "tags": ("ARRAY", "documents.filter_tags"),
    "row_fingerprint": (
        "VARCHAR",
        "Hash of the vector's text, its model and all fields of the row.",
    ),
}

#: Asset -> the columns of its table, file or collection.
COLUMNS: Mapping[str, Columns] = {
    "source_documents": _SOURCE_ENTRIES,
    "documents": _DOCUMENTS,
    "document_chunks": _DOCUMENT_CHUNKS,
    "chunk_embeddings": _CHUNK_EMBEDDINGS,
    "dense_vectors": {**_VECTORS, "vector": ("FLOAT_VECTOR", "chunk_embeddings.dense")},
    "sparse_vectors": {
        **_VECTORS,
        "vector": ("SPARSE_FLOAT_VECTOR", "chunk_embeddings.sparse"),
        "vocabulary_size": ("INT32", "The number of terms of the vector."),
    },
    "multi_vectors": {
        **_VECTORS,
        "vector": ("FLOAT_VECTOR", "The vector of one token, from chunk_embeddings.multi."),
        "chunk_id": ("VARCHAR", "document_chunks.id: a chunk has one row for each token."),
        "token_count": ("INT32", "The number of the chunk's rows."),
        "token_positions": ("JSON", "The place of the token in the chunk."),
    },
}

#: Asset -> column -> the columns (asset, column) that its values are computed from.
LINEAGE: Mapping[str, Mapping[str, tuple[tuple[str, str], ...]]] = {
    "documents": {
        "id": (("source_documents", "document_id"),),
        "source_key": (("source_documents", "key"),),
        "raw_hash": (("source_documents", "content_hash"),),
        "content": (("source_documents", "content_hash"),),
    },
    "document_chunks": {
        "id": (("documents", "id"), ("documents", "content")),
        "document_id": (("documents", "id"),),
        "content": (("documents", "content"),),
        "section_title": (("documents", "content"),),
        "source_uuid": (("documents", "source_uuid"),),
        "text_hash": (("documents", "content"),),
    },
    "chunk_embeddings": {
        "text_hash": (("document_chunks", "text_hash"),),
        **dict.fromkeys(KINDS, (("document_chunks", "content"),)),
    },
    **{
        f"{kind}_vectors": {
            "id": (("document_chunks", "id"),),
            "vector": (("chunk_embeddings", kind),),
            "document_id": (("document_chunks", "document_id"),),
            "language": (("document_chunks", "language"), ("documents", "language")),
            "chunk_position": (("document_chunks", "position"),),
            "chunk_type": (("document_chunks", "chunk_type"),),
            "source_type": (("documents", "source_type"),),
            "created_timestamp": (("documents", "created_at"),),
            "author": (("documents", "author"),),
            "category": (("documents", "category"),),
            "tags": (("documents", "filter_tags"),),
        }
        for kind in KINDS
    },
}
