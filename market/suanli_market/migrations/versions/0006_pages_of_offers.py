"""Open offers are read page by page, in the order of the log."""

from __future__ import annotations

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

NEW = {"ix_offer_state": ["state", "seq"], "ix_offer_provider": ["provider", "state", "seq"]}


def upgrade() -> None:
    """The same indices, with what a page is cut by."""
    for name, columns in NEW.items():
        op.drop_index(name, table_name="offer")
        op.create_index(name, "offer", columns)


def downgrade() -> None:
    """Back to one column each."""
    for name, columns in NEW.items():
        op.drop_index(name, table_name="offer")
        op.create_index(name, "offer", columns[:1])
