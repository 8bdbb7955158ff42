"""A worker that is stopped for longer than its lease and goes on then: nothing that it writes counts."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import closing

import pytest

from fsm_mediator import Mediator, Saga, step
from fsm_mediator.conformance import conforms
from tests.commits import ROOT
from tests.crash.stopped_worker import SAGAS
from tests.drivers import PATIENCE
from tests.postgres_server import changed, connections_of, server, without_second_look


@pytest.mark.parametrize("kind", ["sync", pytest.param("async", marks=pytest.mark.postgres)])
def test_a_worker_that_was_stopped_beyond_its_lease_writes_nothing_more(kind):
    """SIGSTOP, takeover, SIGCONT: every write is refused, the history conforms, and its mediator closes."""
    with closing(server().journal()) as made:
        journal = without_second_look(made)
        command = [
            sys.executable,
            "-m",
            "tests.crash.stopped_worker",
            server().url(),
            connections_of(made).schema,
            kind,
        ]
        worker = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert worker.stdout is not None
            before: list[str] = []
            while sum(line.startswith("begun") for line in before) < SAGAS:
                before.append(worker.stdout.readline())
                assert before[-1], before
            worker.send_signal(signal.SIGSTOP)
            changed(journal, "UPDATE drivers SET beat_at = beat_at - 1000")  # as if it had lasted

            charge = step(name="charge")(lambda payload: "charged anew")
            saga = Saga("shop", [charge, step(name="ship")(lambda payload: None)])
            with Mediator(saga, journal=journal) as mediator:
                assert len(mediator.recover()) == SAGAS
                assert all(mediator.wait(f"o-{number}").succeeded for number in range(SAGAS))
                histories = [journal.records(f"o-{number}") for number in range(SAGAS)]
                worker.send_signal(signal.SIGCONT)
                said, _ = worker.communicate("go\n", timeout=PATIENCE)
                report = conforms(journal, saga)
                assert histories == [journal.records(f"o-{number}") for number in range(SAGAS)]
        finally:
            worker.kill()
            worker.wait()

    lines = said.splitlines()
    assert sorted(line for line in lines if line.startswith("refused")) == [
        f"refused o-{each}" for each in range(SAGAS)
    ]
    assert not [line for line in lines if line.startswith(("written", "shipped"))]
    assert [line for line in lines if line.startswith("outcome")] == ["outcome charged anew"] * SAGAS
    assert (lines[-1], worker.returncode) == ("closed", 0)
    assert [[record.event for record in history] for history in histories] == [
        ["start", "errored", "retry_due", "executed", "executed"]
    ] * SAGAS
    assert report.ok, report
