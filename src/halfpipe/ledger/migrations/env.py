"""How Alembic finds the ledger: on the connection of whoever upgrades it, in that one's transaction."""

from alembic import context

from halfpipe.ledger.tables import METADATA, VERSION_TABLE

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA,
    version_table=VERSION_TABLE,
)
with context.begin_transaction():
    context.run_migrations()
