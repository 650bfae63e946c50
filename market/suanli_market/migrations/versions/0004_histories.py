"""Leases that a reorganisation took, so that their data is deleted too; which history the events' numbers belong to."""

from __future__ import annotations

import time

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """What lies here of leases that are gone already counts from today."""
    op.add_column("cursor", sa.Column("history", sa.String(), nullable=False, server_default=""))
    op.execute("UPDATE cursor SET history = lower(hex(randomblob(16)))")
    op.create_table(
        "gone_lease",
        sa.Column("id", sa.String(), primary_key=True),
        sa.Column("at", sa.Integer(), nullable=False, index=True),
    )
    for table in ("blob", "log_chunk", "receipt"):
        op.execute(
            f"INSERT OR IGNORE INTO gone_lease SELECT DISTINCT lease, {int(time.time())} FROM {table} "  # noqa: S608
            "WHERE lease NOT IN (SELECT id FROM lease)"
        )


def downgrade() -> None:
    """Back to leases that are simply not there."""
    op.drop_table("gone_lease")
    op.drop_column("cursor", "history")
