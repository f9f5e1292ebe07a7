"""Alembic's entry: runs the versions on the connection that `resources.postgres.schema.migrate` passes in."""

from alembic import context

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    version_table="rag_alembic_version",  # Dagster may keep its own alembic_version in the same database
    transaction_per_migration=True,
)
with context.begin_transaction():
    context.run_migrations()
