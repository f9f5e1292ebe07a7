"""PostgreSQL, the store of record: connections, the schema, and the tables by room."""
