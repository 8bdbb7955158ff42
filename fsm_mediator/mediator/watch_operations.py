"""Watch operations: the method of mediators that follows executions."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from fsm_mediator.mediator.driving import ExecutionDriver

if TYPE_CHECKING:
    from fsm_mediator.mediator.watches import AsyncWatch, Watch

POLL: Final = 0.5
"""The default number of seconds between two queries to the journal."""


class WatchOperations:
    """The method of `Mediator` that watches executions."""

    _core: ExecutionDriver

    def watch(
        self,
        saga_id: str | None = None,
        *,
        attributes: Mapping[str, Any] | None = None,
        from_seq: int = 1,
        cursor: str = "",
        poll: float = POLL,
    ) -> Watch:
        """Yield the records of an execution, then each new record when it is committed, in any process.

        A watch of one execution ends with a moment that has the outcome. A watch of many executions never ends by
        itself, and needs a journal in SQLite or PostgreSQL.

        A notebook shows a watch of one execution as a picture that moves. This needs the extra ``notebook``.

        Args:
            saga_id: The execution. None for all executions with *attributes*.
            attributes: Only executions with all these attributes. None for all executions.
            from_seq: In a watch of one execution: the number of the first record that is yielded.
            cursor: In a watch of many: the `Moment.cursor` after which the watch begins, so that no record is missed.
                Empty for the beginning of the journal.
            poll: Seconds between two queries to the journal.

        Raises:
            UnknownExecutionError: There is no such execution.
            DefinitionError: The arguments cannot be combined.
            JournalError: The journal cannot be followed.
        """
        from fsm_mediator.mediator.watches import Watch  # loaded when it is used
        from fsm_mediator.mediator.watching import watch_of  # loaded when it is used

        begin = partial(watch_of, self._core, saga_id, attributes, from_seq, cursor, poll)
        return Watch(self._core, saga_id, poll, begin)


class AsyncWatchOperations:
    """The method of `AsyncMediator` that watches executions."""

    _core: ExecutionDriver

    def watch(
        self,
        saga_id: str | None = None,
        *,
        attributes: Mapping[str, Any] | None = None,
        from_seq: int = 1,
        cursor: str = "",
        poll: float = POLL,
    ) -> AsyncWatch:
        """Yield the records of an execution, then each new record when it is committed, in any process.

        A watch of one execution ends with a moment that has the outcome. A watch of many executions never ends by
        itself, and needs a journal in SQLite or PostgreSQL.

        A notebook shows a watch of one execution as a picture that moves. This needs the extra ``notebook``.

        Args:
            saga_id: The execution. None for all executions with *attributes*.
            attributes: Only executions with all these attributes. None for all executions.
            from_seq: In a watch of one execution: the number of the first record that is yielded.
            cursor: In a watch of many: the `Moment.cursor` after which the watch begins, so that no record is missed.
                Empty for the beginning of the journal.
            poll: Seconds between two queries to the journal.

        Raises:
            UnknownExecutionError: There is no such execution.
            DefinitionError: The arguments cannot be combined.
            JournalError: The journal cannot be followed.
        """
        from fsm_mediator.mediator.watches import AsyncWatch  # loaded when it is used
        from fsm_mediator.mediator.watching import watch_of  # loaded when it is used

        begin = partial(watch_of, self._core, saga_id, attributes, from_seq, cursor, poll)
        return AsyncWatch(self._core, saga_id, poll, begin)
