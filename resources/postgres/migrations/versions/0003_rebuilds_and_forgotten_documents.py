"""Collections that replace others, and erased documents: the SQL file of the same name."""

from pathlib import Path

from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    # The driver's own cursor: SQLAlchemy would read `:name` and `%` in the functions as parameters.
    connection = op.get_bind().connection.driver_connection
    assert connection is not None
    connection.execute(Path(__file__).with_suffix(".sql").read_text(encoding="utf-8"))
