"""The fingerprint that the rows of a chunk in Milvus must have, as an SQL expression."""

from __future__ import annotations

from typing import LiteralString


def row_fingerprint(
    chunk: LiteralString, document: LiteralString, source: LiteralString
) -> LiteralString:
    """SQL: the fingerprint under the model %(model)s. The arguments are the query's aliases of the three tables."""
    return f"""rag_row_fingerprint(%(model)s, {chunk}.text_hash, {document}.id, {document}.source_type, {source}.name,
      coalesce({chunk}.language, {document}.language), {chunk}.position, {document}.created_at, {chunk}.chunk_type,
      {document}.author, {document}.category, {document}.filter_tags)"""
