"""Claims, disputes and retries of leases; what the chain's last steps changed, so that they can be undone."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """New facts of leases and bids, and the journal of the chain."""
    for name in ("claimed", "spent"):
        op.add_column("lease", sa.Column(name, sa.String(), nullable=False, server_default="0"))
    op.add_column("lease", sa.Column("claim_kind", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("bid", sa.Column("queued_at", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("bid", sa.Column("attempt", sa.Integer(), nullable=False, server_default="1"))
    op.add_column("bid", sa.Column("spent", sa.String(), nullable=False, server_default="0"))
    op.add_column("bid", sa.Column("previous", sa.Text(), nullable=False, server_default=""))
    op.execute("UPDATE bid SET queued_at = received_at / 1000")
    op.create_table(
        "chain_step",
        sa.Column("block", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("block_hash", sa.String(), nullable=False),
        sa.Column("opened", sa.Integer(), nullable=False),
    )
    op.create_table(
        "chain_change",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("block", sa.Integer(), nullable=False, index=True),
        sa.Column("table", sa.String(), nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("before", sa.Text(), nullable=True),
    )


def downgrade() -> None:
    """Back to leases that are open, stopped, settled or released."""
    op.drop_table("chain_change")
    op.drop_table("chain_step")
    for name in ("queued_at", "attempt", "spent", "previous"):
        op.drop_column("bid", name)
    for name in ("claim_kind", "spent", "claimed"):
        op.drop_column("lease", name)
