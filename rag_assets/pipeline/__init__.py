"""Pure logic: no Dagster, no database, no network (a test enforces this)."""
