"""PostgreSQL and Milvus Lite run by us under one home folder; `stack` is the module to import."""
