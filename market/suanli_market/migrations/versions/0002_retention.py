"""When a lease was closed, and whether its sealed data was deleted since."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Leases that are closed already count from now on."""
    op.add_column("lease", sa.Column("closed_at", sa.Integer(), nullable=True))
    op.add_column("lease", sa.Column("swept", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.create_index(op.f("ix_lease_closed_at"), "lease", ["closed_at"], unique=False)
    op.execute("UPDATE lease SET closed_at = strftime('%s', 'now') WHERE state IN ('settled', 'released')")


def downgrade() -> None:
    """Back to the first tables."""
    op.drop_index(op.f("ix_lease_closed_at"), table_name="lease")
    op.drop_column("lease", "swept")
    op.drop_column("lease", "closed_at")
