"""The log, its leases, checkpoints and evidence, and the caches beside them."""

from alembic import op

from reconciler.audit import schema

revision = "0001"
down_revision = None


def upgrade() -> None:
    """The same statements that make a new database in one go."""
    for statement in schema.SQLITE:
        op.get_bind().exec_driver_sql(statement)


def downgrade() -> None:
    raise NotImplementedError("an audit log is never taken down")
