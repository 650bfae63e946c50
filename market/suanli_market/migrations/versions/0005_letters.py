"""Transactions are carried to their answer at one nonce; when time ends a lease is kept beside it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """What was under way has no known hash: it is as dropped, and its rows wait again."""
    for name in ("fee", "tip"):
        op.add_column("chain_transaction", sa.Column(name, sa.String(), nullable=False, server_default="0"))
    for name in ("gas", "raises"):
        op.add_column("chain_transaction", sa.Column(name, sa.Integer(), nullable=False, server_default="0"))
    op.add_column("chain_transaction", sa.Column("block", sa.Integer(), nullable=True))
    op.create_index("ix_chain_transaction_block", "chain_transaction", ["block"])
    op.create_table(
        "chain_version",
        sa.Column("hash", sa.String(), primary_key=True),
        sa.Column("transaction", sa.Integer(), nullable=False, index=True),
    )
    op.execute(
        "INSERT OR IGNORE INTO chain_version SELECT hash, max(id) FROM chain_transaction "
        "WHERE hash IS NOT NULL GROUP BY hash"
    )
    prepared = "SELECT id FROM chain_transaction WHERE state = 'prepared'"
    for table, waits in (("match", "pending"), ("receipt", "queued")):
        op.execute(
            f'UPDATE "{table}" SET "transaction" = NULL '  # noqa: S608
            f"WHERE state = '{waits}' AND \"transaction\" IN ({prepared})"
        )
    op.execute("UPDATE chain_transaction SET state = 'dropped' WHERE state = 'prepared'")
    op.add_column("lease", sa.Column("due_at", sa.Integer(), nullable=True))
    op.create_index("ix_lease_due_at", "lease", ["due_at"])
    op.execute(
        "UPDATE lease SET due_at = 0 WHERE bid IS NOT NULL AND state IN ('open', 'stopped', 'claimed', 'disputed')"
    )


def downgrade() -> None:
    """Back to transactions that are sent again at another nonce."""
    op.drop_index("ix_lease_due_at", table_name="lease")
    op.drop_column("lease", "due_at")
    op.drop_table("chain_version")
    op.drop_index("ix_chain_transaction_block", table_name="chain_transaction")
    for name in ("block", "gas", "raises", "tip", "fee"):
        op.drop_column("chain_transaction", name)
