"""Pure logic: no Dagster, no database, no network (a test holds it to that)."""
