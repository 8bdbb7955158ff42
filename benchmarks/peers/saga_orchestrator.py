"""python-saga-orchestrator: steps with pydantic models, and state in SQLAlchemy tables, here on SQLite with aiosqlite.

The library is made for PostgreSQL, and its documentation says so. SQLite is the database that all durable contestants
can use. Its retries suspend the saga until ``run_due`` resumes it, which is called at once.
"""

from __future__ import annotations

import uuid
from datetime import timedelta
from pathlib import Path
from typing import Any

import sqlalchemy
from loguru import logger
from pydantic import BaseModel
from saga_orchestrator import BaseStep, FixedRetry, SagaBuilder, SagaOrchestrator, SagaStateMixin, SagaStepHistoryMixin
from sqlalchemy import ForeignKey
from sqlalchemy.ext.asyncio import AsyncEngine, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from benchmarks.peers.contestant import ATTEMPTS, Participant, Ready, Work, serve

logger.remove()  # it logs to stderr by default, which would cost it time


class Base(DeclarativeBase):
    """The base of the tables of this application."""


class History(Base, SagaStepHistoryMixin):
    """The table of the results of steps."""

    __tablename__ = "saga_history"
    saga_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("saga_state.id", ondelete="CASCADE"), index=True)


class StateRow(Base, SagaStateMixin):
    """A row for each saga."""

    __tablename__ = "saga_state"
    step_history: Mapped[list[History]] = relationship(
        "History", cascade="all, delete-orphan", order_by="History.id", lazy="selectin"
    )


class Nothing(BaseModel):
    """The input and output of steps."""


def step_of(execute: Participant, compensate: Participant) -> Any:
    """A step object."""

    class NoOp(BaseStep[Nothing, Nothing]):
        async def execute(self, inp: Nothing, event_type: str | None = None, event_payload: Any = None) -> Nothing:
            execute()
            return inp

        async def compensate(
            self, inp: Nothing, out: Nothing, event_type: str | None = None, event_payload: Any = None
        ) -> None:
            compensate()

    return NoOp()


def prepare(work: Work) -> Ready:
    """One orchestrator for each work. The tables are created at the first use."""
    engine = engine_of(work)
    orchestrator = SagaOrchestrator[StateRow, History](
        model_class=StateRow, history_model_class=History, session_maker=async_sessionmaker(engine)
    )
    builder = SagaBuilder()
    for name in work.names:
        builder.add_step(
            step=step_of(work.executing(name), work.compensating(name)),
            input_map=lambda context: Nothing(),
            retry_policy=FixedRetry(max_attempts=ATTEMPTS - 1, delay=timedelta(0)),
        )
    orchestrator.register("work", builder.build())
    made: list[bool] = []

    async def run() -> None:
        if not made:
            async with engine.begin() as connection:
                await connection.run_sync(Base.metadata.create_all)
            made.append(True)
        number = uuid.uuid4().hex
        saga_id = await orchestrator.start(saga_name="work", initial_data={}, aggregation_id=number)
        if work.fails:
            for _ in range(ATTEMPTS - 1):
                await orchestrator.run_due(limit=1)
            snapshot = await orchestrator.get_snapshot(saga_id=saga_id)
            assert snapshot.status.name in {"FAILED", "COMPENSATED"}, snapshot

    return Ready(run, engine.dispose)


def engine_of(work: Work) -> AsyncEngine:
    """SQLite with its default settings, or with a write-ahead log."""
    engine = create_async_engine(f"sqlite+aiosqlite:///{Path(work.folder) / f'orchestrator-{work.durability}.db'}")
    if work.durability != "default":

        @sqlalchemy.event.listens_for(engine.sync_engine, "connect")
        def _pragmas(connection: Any, record: Any) -> None:
            cursor = connection.cursor()
            cursor.execute("pragma journal_mode = wal")
            cursor.execute(f"pragma synchronous = {work.durability}")
            cursor.close()

    return engine


if __name__ == "__main__":
    serve(prepare, "python-saga-orchestrator", "sqlalchemy", "aiosqlite")
