"""The prediction log.

Revision ID: 0001
Revises:
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table of predictions."""
    op.create_table(
        "predictions",
        sa.Column("id", sa.Uuid(), primary_key=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("key_id", sa.Text()),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("model_name", sa.Text(), nullable=False),
        sa.Column("model_digest", sa.Text()),
        sa.Column("ion", sa.Text()),
        sa.Column("formula", sa.Text()),
        sa.Column("input_digest", sa.Text()),
        sa.Column("input_blob", sa.LargeBinary()),
        sa.Column("answer", sa.JSON()),
        sa.Column("error", sa.JSON()),
        sa.Column("threshold_ev", sa.Double()),
        sa.Column("barrier_ev", sa.Double()),
        sa.Column("cached", sa.Boolean(), nullable=False),
        sa.Column("request_id", sa.Text()),
        sa.Column("seconds", sa.Double()),
    )
    op.create_index("ix_predictions_key_id_created_at_id", "predictions", ["key_id", "created_at", "id"])
    op.create_index("ix_predictions_created_at", "predictions", ["created_at"])


def downgrade() -> None:
    op.drop_table("predictions")
