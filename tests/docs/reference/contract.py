"""The schema that other services rely on, as data, and its differences from the actual one.

Columns may be added freely. The differences that a comparison finds are strings such as `documents.source_id:
varchar(255)`: what the reference says and the database does not.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from resources.milvus.collections import ALIASES, Layout, scalars
from tests.docs.reference.tables import Column, short_type

#: Table -> `column type [NOT NULL] [DEFAULT value]`, as the reference states them.
TABLES: Mapping[str, str] = {
    "documents": """
        id uuid, title varchar(1000) NOT NULL, content text NOT NULL, source_type varchar(50) NOT NULL,
        source_id varchar(255) NOT NULL, source_url text, author varchar(255), language char(2) DEFAULT 'ja',
        category varchar(100), tags text[], word_count integer, char_count integer, chunk_count integer,
        processing_status varchar(20), indexing_status varchar(20), error_message text, created_at timestamptz,
        updated_at timestamptz, indexed_at timestamptz""",
    "document_chunks": """
        id uuid, document_id uuid, content text NOT NULL, chunk_type varchar(50) DEFAULT 'text', position integer,
        section_title varchar(500), hierarchy_level integer, parent_chunk_id uuid, token_count integer,
        char_count integer, dense_vector_id varchar(255), sparse_vector_id varchar(255),
        multi_vector_id varchar(255), embedding_status varchar(20), embedding_error text, last_search_score float8,
        search_count integer, created_at timestamptz, updated_at timestamptz, embedded_at timestamptz""",
    "sources": """
        id uuid, source_type varchar(50), name varchar(255), connection_config jsonb NOT NULL,
        credentials_encrypted text, sync_schedule varchar(100), last_sync_at timestamptz, next_sync_at timestamptz,
        sync_status varchar(20), total_documents integer, successful_documents integer, failed_documents integer,
        is_active boolean, error_count integer, last_error text, created_at timestamptz, updated_at timestamptz""",
    "users": """
        id uuid, email varchar(255), username varchar(100), password_hash varchar(255), full_name varchar(255),
        avatar_url text, timezone varchar(50) DEFAULT 'Asia/Tokyo', role varchar(50) DEFAULT 'viewer',
        permissions text[], is_active boolean DEFAULT true, is_verified boolean DEFAULT false,
        failed_login_attempts integer, locked_until timestamptz, last_login_at timestamptz,
        password_changed_at timestamptz, created_at timestamptz, updated_at timestamptz""",
    "api_keys": """
        id uuid, user_id uuid, key_hash varchar(255), key_prefix varchar(20), name varchar(255), description text,
        permissions text[] NOT NULL, rate_limit_per_minute integer DEFAULT 100, usage_count integer,
        last_used_at timestamptz, is_active boolean, expires_at timestamptz, created_at timestamptz,
        updated_at timestamptz""",
}

#: Table -> its indexes, in the words of the page of tables.
INDEXES: Mapping[str, tuple[str, ...]] = {
    "documents": (
        "primary key (id)",
        "unique (source_type, source_id)",
        "index (processing_status, indexing_status)",
        "index (created_at DESC)",
        "index (language)",
        "index (category)",
        "index gin (tags)",
        "index gin (search_vector)",
    ),
    "document_chunks": (
        "primary key (id)",
        "index (document_id, position)",
        "index (embedding_status)",
        "index (dense_vector_id, sparse_vector_id)",
        "index (hierarchy_level, section_title)",
        "index (parent_chunk_id)",
        "index gin (search_vector)",
        "index (embedding_status, document_id, position) WHERE (embedding_status = 'completed')",
    ),
    "sources": (
        "primary key (id)",
        "index (source_type)",
        "index (is_active)",
        "unique (source_type, name)",
        "index (next_sync_at, source_type) WHERE is_active",
    ),
    "users": (
        "primary key (id)",
        "unique (email)",
        "unique (username)",
        "index (role)",
        "index (is_active)",
        "index gin (permissions)",
    ),
    "api_keys": (
        "primary key (id)",
        "unique (key_hash)",
        "index (user_id)",
        "index (is_active)",
        "index (expires_at) WHERE (expires_at IS NOT NULL)",
    ),
}

_COMMON = "document_id VARCHAR(255), source_type VARCHAR(50), chunk_position INT32, created_timestamp INT64"
#: Collection -> its fields beside the id.
COLLECTIONS: Mapping[str, str] = {
    "dense_collection": f"vector FLOAT_VECTOR(1024), language VARCHAR(2), {_COMMON}",
    "sparse_collection": f"vector SPARSE_FLOAT_VECTOR, language VARCHAR(2), vocabulary_size INT32, {_COMMON}",
    "multi_collection": f"vector FLOAT_VECTOR(1024), token_count INT32, token_positions JSON, {_COMMON}",
    "chatbot collections": "",
}


def table_differences(columns: Iterable[Column], shown: Iterable[str]) -> set[str]:
    """`shown`: `table index` of each index in the words of the page."""
    actual: dict[str, dict[str, Column]] = {}
    for column in columns:
        actual.setdefault(column.relation, {})[column.name] = column
    differences = set()
    for name, text in TABLES.items():
        if name not in actual:
            differences.add(f"{name}: table")
            continue
        for declared in text.split(","):
            words = declared.split()
            column = actual[name].get(words[0])
            if column is None:
                differences.add(f"{name}.{words[0]}: column")
                continue
            if short_type(column.type) != words[1]:
                differences.add(f"{name}.{words[0]}: {words[1]}")
            if "NOT NULL" in declared and not column.not_null:
                differences.add(f"{name}.{words[0]}: NOT NULL")
            if "DEFAULT" in declared and not (column.default or "").startswith(words[-1]):
                differences.add(f"{name}.{words[0]}: DEFAULT {words[-1]}")
    present = set(shown)
    differences |= {
        f"{name}: {index}"
        for name, declared in INDEXES.items()
        for index in declared
        if f"{name} {index}" not in present
    }
    return differences


def collection_differences(layouts: Iterable[Layout]) -> set[str]:
    """`layouts`: those of the default settings."""
    actual = {ALIASES[layout.kind]: _fields(layout) for layout in layouts}
    differences = set()
    for name, text in COLLECTIONS.items():
        if name not in actual:
            differences.add(f"{name}: collection")
            continue
        for declared in text.split(", "):
            field, field_type = declared.split()
            if actual[name].get(field) != field_type:
                differences.add(f"{name}.{field}: {field_type}")
    return differences


def _fields(layout: Layout) -> dict[str, str]:
    vector = layout.vector_type.name
    if layout.kind != "sparse":
        vector += f"({layout.dimension})"
    fields = {"vector": vector}
    for name, (data_type, parameters) in scalars(layout.kind).items():
        length = parameters.get("max_length")
        fields[name] = f"{data_type.name}({length})" if length else data_type.name
    return fields
