"""The mediator of a user's lifecycle: one operation that several modules take part in.

It knows steps, and nothing of the services behind them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from fsm_mediator import Mediator, Saga

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fsm_mediator import Journal, Outcome, Step

SAGA = "user_lifecycle"


def user_lifecycle(steps: Sequence[Step], payload: type[Any] | None = None) -> Saga:
    """The saga: these steps, in this order, all of them or none."""
    return Saga(SAGA, steps, payload=payload)


class UserLifecycleMediator:
    """Carries out one operation in all modules of a user's lifecycle, or in none of them.

    Args:
        steps: The participants, in order.
        payload: The type of what `execute` is given; needed to find it again in a journal on disk.
        journal: Where to keep what happened: a path, a `Journal`, or None for memory.
    """

    def __init__(
        self, steps: Sequence[Step], *, payload: type[Any] | None = None, journal: Journal | str | None = None
    ) -> None:
        self.saga = user_lifecycle(steps, payload)
        self.mediator = Mediator(self.saga, journal=journal)

    def execute(self, payload: object, *, saga_id: str | None = None, check: bool = True) -> Outcome:
        """Runs the saga to its end.

        Raises:
            SagaFailedError: A step could not be done; what was done before is undone. Not with ``check=False``.
        """
        return self.mediator.run(self.saga, payload, saga_id=saga_id, check=check)

    def outcome(self, saga_id: str) -> Outcome:
        """Where that saga stands."""
        return self.mediator.outcome(saga_id)

    def recover(self) -> None:
        """Takes up what a mediator before this one left unfinished."""
        self.mediator.recover()

    def close(self) -> None:
        """Ends the work in good order."""
        self.mediator.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
