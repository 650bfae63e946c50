"""The history of the tables' shape (Alembic); `Store.migrate` runs it at start."""
