"""saga-py: actions and their compensations, built and executed. It keeps no state and has no retries.

It compensates the action that failed as well, so the last action gets a compensation that does nothing; and it passes
results on as keywords, so that actions which return nothing take none.
"""

from __future__ import annotations

from saga import SagaBuilder, SagaError

from benchmarks.peers.contestant import Ready, Work, nothing, retrying, serve


def prepare(work: Work) -> Ready:
    """One saga, which can be executed again and again."""
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
