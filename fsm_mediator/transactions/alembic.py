"""Create and drop the tables of `Transactions` in Alembic migrations.

```python
from alembic import op

from fsm_mediator.transactions.alembic import create_tables, drop_tables


def upgrade():
    create_tables(op)


def downgrade():
    drop_tables(op)
```
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Unpack

from fsm_mediator.transactions.databases.base import dialect_of
from fsm_mediator.transactions.tables import TableNames, Tables


def create_tables(op: Any, **names: Unpack[TableNames]) -> None:
    """Create the missing tables. Call this in ``upgrade()``; it also works offline (``--sql``).

    Args:
        op: ``alembic.op``.
        **names: The names ``table``, ``outbox`` and ``schema``, if `Transactions` gets other names than the defaults.

    Raises:
        DefinitionError: A name is not a plain identifier, or the database is neither PostgreSQL nor SQLite.
    """
    for statement in Tables(**names).statements(dialect_of(op.get_context().dialect.name)):
        op.execute(statement)


def drop_tables(op: Any, **names: Unpack[TableNames]) -> None:
    """Drop the tables, but not their schema. Call this in ``downgrade()``.

    Args:
        op: ``alembic.op``.
        **names: As for `create_tables`.
    """
    for statement in Tables(**names).drops():
        op.execute(statement)


def include_name(**names: Unpack[TableNames]) -> Callable[[str | None, str, Mapping[str, Any]], bool]:
    """A filter that hides the tables from Alembic: ``context.configure(include_name=include_name())`` in ``env.py``.

    Without this filter, ``--autogenerate`` proposes to drop the tables, because no model defines them.

    Args:
        **names: As for `create_tables`.
    """
    tables = Tables(**names)

    def is_of_the_user(name: str | None, kind: str, parents: Mapping[str, Any]) -> bool:
        ours = name in tables.names and parents.get("schema_name") == tables.schema
        return kind != "table" or not ours

    return is_of_the_user
