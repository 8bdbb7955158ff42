"""A mediator draws an execution from its journal."""

from __future__ import annotations

import pytest

from fsm_mediator import DefinitionError, Mediator, Saga, step


def test_an_execution_is_drawn_from_the_journal(drive, journal):
    """`mediator.diagram(saga_id)` shows the way that the execution took, whoever drove it."""
    mediator = drive(Saga("drawn", [step(name="a")(lambda order: None)]), journal=journal)
    mediator.run("drawn", saga_id="d-1")

    assert "d-1" in mediator.diagram("d-1").to_dot()


def test_type_checkers_know_the_views():
    """A misspelled view is refused; the comment below is an error of mypy's if it lets the slip pass."""
    with Mediator(Saga("drawn", [step(name="a")(lambda order: None)])) as mediator:
        mediator.run("drawn", saga_id="d-1")

        with pytest.raises(DefinitionError, match="there is no view 'step'; there are steps, detail"):
            mediator.diagram("d-1", view="step")  # type: ignore[arg-type]
