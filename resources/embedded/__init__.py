"""PostgreSQL and Milvus Lite as servers of one home folder; `stack` is the module to import."""
