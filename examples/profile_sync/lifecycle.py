"""The mediator of a user's lifecycle: one operation in which several services take part.

This module uses the steps only, not the services behind them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from fsm_mediator import Mediator, Saga

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fsm_mediator import Journal, Outcome, Step

SAGA = "user_lifecycle"


def user_lifecycle(steps: Sequence[Step], payload: type[Any] | None = None) -> Saga:
    """The saga: these steps, in this order."""
    return Saga(SAGA, steps, payload=payload)


class UserLifecycleMediator:
    """Runs one operation in all services of a user's lifecycle, or in none.

    Args:
        steps: The steps, in order.
        payload: The type of the payload; needed to decode it from a journal on disk.
        journal: A path, a `Journal`, or None for memory.
    """

    def __init__(
        self, steps: Sequence[Step], *, payload: type[Any] | None = None, journal: Journal | str | None = None
    ) -> None:
        self.saga = user_lifecycle(steps, payload)
        self.mediator = Mediator(self.saga, journal=journal)

    def execute(self, payload: object, *, saga_id: str | None = None, check: bool = True) -> Outcome:
        """Runs the saga to its end.

        Raises:
            SagaFailedError: A step failed, and the steps before it were compensated. Not with ``check=False``.
        """
        return self.mediator.run(self.saga, payload, saga_id=saga_id, check=check)

    def outcome(self, saga_id: str) -> Outcome:
        """The outcome of that saga so far."""
        return self.mediator.outcome(saga_id)

    def recover(self) -> None:
        """Resumes the sagas that an earlier mediator left unfinished."""
        self.mediator.recover()

    def close(self) -> None:
        """Closes the mediator."""
        self.mediator.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
