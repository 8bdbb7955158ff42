"""A mediator draws an execution from its journal."""

from __future__ import annotations

from fsm_mediator import Saga, step


def test_an_execution_is_drawn_from_the_journal(drive, journal):
    """`mediator.diagram(saga_id)` shows the way that the execution took, whoever drove it."""
    mediator = drive(Saga("drawn", [step(name="a")(lambda order: None)]), journal=journal)
    mediator.run("drawn", saga_id="d-1")

    assert "d-1" in mediator.diagram("d-1").to_dot()
