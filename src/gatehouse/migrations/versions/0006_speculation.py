"""Whether a model's tokens are guessed before they are computed."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0006"
down_revision: str | None = "0005"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None


def upgrade() -> None:
    column = sa.Column("speculation", sa.String(length=32), nullable=False, server_default="off")
    op.add_column("model_options", column)


def downgrade() -> None:
    op.drop_column("model_options", "speculation")
