"""Sources, documents, chunks, the records of embeddings, the outbox and its triggers: the SQL file of the same name."""

from pathlib import Path

from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    # The driver's own cursor: SQLAlchemy would read `:name` and `%` in the functions as parameters.
    connection = op.get_bind().connection.driver_connection
    assert connection is not None
    connection.execute(Path(__file__).with_suffix(".sql").read_text(encoding="utf-8"))
