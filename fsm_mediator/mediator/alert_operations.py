"""AlertOperations: the verb with which a person acknowledges alerts, for both kinds of mediators."""

from __future__ import annotations

from fsm_mediator.journal.protocol import new_token
from fsm_mediator.mediator import requests
from fsm_mediator.mediator.driving import ExecutionDriver
from fsm_mediator.mediator.threads import run_blocking
from fsm_mediator.mediator.validation import check_id_argument


class AlertOperations:
    """The verb of `Mediator` that silences alerts."""

    _core: ExecutionDriver

    def acknowledge(self, saga_id: str, *, reason: str | None = None, actor: str | None = None) -> None:
        """Note that a person has seen an execution's alerts.

        No process sends them again until the execution's state changes.

        A failed attempt that is repeated does not count as a change. The execution itself is not changed.

        Args:
            saga_id: The execution.
            reason: The reason, which is journaled.
            actor: The name of the person or program that acts. It is journaled with the reason.

        Raises:
            RefusedError: The execution has ended.
            UnknownExecutionError: The journal knows no execution with this id.
            JournalError: The journal keeps no notes.
        """
        check_id_argument(saga_id, reason, actor)
        run_blocking(requests.ask, self._core, _acknowledge, self._core, saga_id, reason, actor, new_token())


class AsyncAlertOperations:
    """The verb of `AsyncMediator` that silences alerts."""

    _core: ExecutionDriver

    async def acknowledge(self, saga_id: str, *, reason: str | None = None, actor: str | None = None) -> None:
        """Note that a person has seen an execution's alerts.

        No process sends them again until the execution's state changes.

        A failed attempt that is repeated does not count as a change. The execution itself is not changed.

        Args:
            saga_id: The execution.
            reason: The reason, which is journaled.
            actor: The name of the person or program that acts. It is journaled with the reason.

        Raises:
            RefusedError: The execution has ended.
            UnknownExecutionError: The journal knows no execution with this id.
            JournalError: The journal keeps no notes.
        """
        check_id_argument(saga_id, reason, actor)
        await requests.ask(self._core, _acknowledge, self._core, saga_id, reason, actor, new_token())


def _acknowledge(core: ExecutionDriver, saga_id: str, reason: str | None, actor: str | None, token: int) -> None:
    from fsm_mediator.journal.acknowledging import acknowledge  # loaded when it is used

    acknowledge(core.journal, core.store.entry(saga_id), reason, actor, core.clock(), token=token)
