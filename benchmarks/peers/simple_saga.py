"""simple-saga: a context manager that executes each step when it is named. It keeps results, and has no retries."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from simple_saga import SyncSaga

from benchmarks.peers.contestant import Ready, RefusedError, Work, nothing, retrying, serve

# It logs each failure as an error: without a handler that costs a call, and prints nothing.
logging.getLogger("simple_saga").addHandler(logging.NullHandler())
logging.getLogger("simple_saga").propagate = False


def prepare(work: Work) -> Ready:
    """A saga object for each run, as in its documentation."""
    steps = [(retrying(work.executing(name)), work.compensating(name, arguments=1)) for name in work.names]

    def succeed() -> None:
        with SyncSaga() as saga:
            for action, compensation in steps:
                saga.step(action, compensation)

    def fail() -> None:
        try:
            succeed()
        except RefusedError:
            return
        raise AssertionError("it was to fail")

    return Ready(fail if work.fails else succeed)


def live(count: int) -> Sequence[object]:
    """Sagas that were entered and have executed their first step."""

    def begun() -> SyncSaga:
        saga = SyncSaga().__enter__()
        saga.step(nothing, nothing)
        return saga

    return [begun() for _ in range(count)]


if __name__ == "__main__":
    serve(prepare, "simple-saga", live=live)
