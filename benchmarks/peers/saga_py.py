"""saga-py: actions and their compensations. It keeps no state and has no retries.

It also compensates the action that failed, so the last action gets a compensation that does nothing. It passes results
as keyword arguments, so actions that return nothing take no arguments.
"""

from __future__ import annotations

from saga import SagaBuilder, SagaError

from benchmarks.peers.contestant import Ready, Work, nothing, retrying, serve


def prepare(work: Work) -> Ready:
    """One saga, which can be executed many times."""
    builder = SagaBuilder.create()
    *others, last = work.names
    for name in others:
        builder = builder.action(retrying(work.executing(name)), work.compensating(name))
    saga = builder.action(retrying(work.executing(last)), nothing).build()
    if not work.fails:
        return Ready(saga.execute)

    def run() -> None:
        try:
            saga.execute()
        except SagaError:
            return
        raise AssertionError("it was to fail")

    return Ready(run)


if __name__ == "__main__":
    serve(prepare, "saga-py")
