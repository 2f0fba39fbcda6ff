"""Run migrations on the connection that `storage` hands over: within its transaction, so all or nothing."""

from alembic import context

from reconciler.audit import schema

context.configure(connection=context.config.attributes["connection"], target_metadata=schema.metadata)
context.run_migrations()
