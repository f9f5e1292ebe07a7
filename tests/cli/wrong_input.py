"""Wrong commands: what each one must say, and its exit code. The data of a test in `test_rag.py`."""

from __future__ import annotations

#: name -> (arguments, variables, parts of the message)
WRONG: dict[str, tuple[list[str], dict[str, str], list[str]]] = {
    "missing folder": (
        ["ingest", "/no/such/folder"],
        {},
        ["/no/such/folder does not exist. There is no source"],
    ),
    "ingest language": (
        ["ingest", "DOCS", "--name", "x", "--language", "jap"],
        {},
        ["language", "'jap'"],
    ),
    "ingest unknown source": (["ingest", "nobody"], {}, ["'nobody'", "known: "]),
    "ingest another folder's name": (
        ["ingest", "PARENT", "--name", "docs"],
        {},
        ["'docs'", "--name"],
    ),
    "search language": (["search", "x", "--language", "jap"], {}, ["language", "'jap'"]),
    "search mode": (["search", "x", "--mode", "psychic"], {}, ["psychic", "hybrid"]),
    "search mode not kept": (["search", "x", "--mode", "multi"], {}, ["multi", "RAG_VECTORS"]),
    "search rerank": (
        ["search", "x", "--rerank"],
        {},
        ["RAG_RERANKER=cross-encoder", "RAG_RERANKER=endpoint", "RAG_VECTORS=dense,sparse,multi"],
    ),
    "search k": (["search", "x", "-k", "0"], {}, ["k: expected 1 to 100, found 0"]),
    "search labels": (
        [
            "search",
            "x",
            "--tag",
            "a",
            "--tag",
            "",
            "--category",
            "",
            "--author",
            "",
            "--chunk-type",
            "",
        ],
        {},
        [f"{name}: expected text" for name in ("tags", "category", "author", "chunk_type")],
    ),
    "search blank": (["search", "  "], {}, ["text", "blank"]),
    "search unknown source": (["search", "x", "--source", "doc"], {}, ["'doc'", "Perhaps: docs"]),
    "check unknown source": (["check", "--source", "nobody"], {}, ["'nobody'", "known: "]),
    "explain unknown key": (["explain", "hour.md"], {}, ["'hour.md'", "Perhaps: docs/hours.md"]),
    "explain unknown source": (["explain", "x", "--source", "nobody"], {}, ["'nobody'"]),
    "explain at": (
        ["explain", "hours.md", "--at", "noon"],
        {},
        ["--at: expected a time such as", "'noon'"],
    ),
    "explain too early": (
        ["explain", "hours.md", "--at", "2001-01-01"],
        {},
        ["hours.md was not there at 2001-01-01", "until now"],
    ),
    "duplicates of an unknown source": (["duplicates", "--source", "nobody"], {}, ["'nobody'"]),
    "remove unknown source": (["sources", "remove", "nobody", "--yes"], {}, ["'nobody'"]),
    "source name": (["sources", "add", 'a"b/c', "--path", "DOCS"], {}, ["cannot name a source"]),
    "source schedule": (
        ["sources", "add", "x", "--path", "DOCS", "--schedule", "often"],
        {},
        ["schedule: expected a cron", "'often'"],
    ),
    "source twice": (["sources", "add", "docs", "--path", "DOCS"], {}, ["'docs' already"]),
    "RAG_VECTORS": (["search", "x"], {"RAG_VECTORS": "dens"}, ["RAG_VECTORS", "dense, sparse"]),
    "RAG_EMBEDDER": (["search", "x"], {"RAG_EMBEDDER": "word2vec"}, ["word2vec", "lexical"]),
    "RAG_EMBEDDER class": (["search", "x"], {"RAG_EMBEDDER": "no.module:C"}, ["no.module:C"]),
    "two variables": (
        ["status"],
        {"RAG_SEARCH_LIMIT": "0", "RAG_VECTORS": "x"},
        ["RAG_SEARCH_LIMIT", "RAG_VECTORS"],
    ),
    "PostgreSQL down": (
        ["search", "x"],
        {"RAG_POSTGRES_URL": "postgresql://u:hush@127.0.0.1:1/x"},
        ["PostgreSQL does not answer"],
    ),
    "PostgreSQL down at up": (
        ["up"],
        {"RAG_POSTGRES_URL": "postgresql://u:hush@127.0.0.1:1/x"},
        ["PostgreSQL does not answer"],
    ),
    "PostgreSQL down at status": (
        ["status"],
        {"RAG_POSTGRES_URL": "postgresql://u:hush@127.0.0.1:1/x"},
        ["PostgreSQL does not answer"],
    ),
    "PostgreSQL without a URL": (
        ["up"],
        {"RAG_POSTGRES_URL": "u:hush@host/x"},
        ["postgresql://user:password@host:port/database"],
    ),
    "Milvus down": (
        ["search", "x"],
        {"RAG_MILVUS_URI": "http://127.0.0.1:1"},
        ["Milvus at http://127.0.0.1:1"],
    ),
    "Milvus down at check": (
        ["check", "--source", "docs"],
        {"RAG_MILVUS_URI": "http://127.0.0.1:1"},
        ["checks could not be run: Milvus at", "Milvus at http://127.0.0.1:1"],
    ),
}

#: Cases in which nothing is wrong but a store that cannot be reached: exit code 4, not 2.
UNREACHABLE = {name for name in WRONG if " down" in name}
