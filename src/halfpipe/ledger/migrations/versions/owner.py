"""The working directory that uses the ledger."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add the column; the next load fills it."""
    op.add_column("halfpipe_lock", sa.Column("owner", sa.String(32)))
