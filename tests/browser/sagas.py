"""The sagas that the notebooks of these tests explore; imported here and in their kernels."""

from __future__ import annotations

import threading
from pathlib import Path

from fsm_mediator import AsyncMediator, Happened, Mediator, Retry, Saga, Step, explore, step

__all__ = ["LOST", "AsyncMediator", "Mediator", "checkout", "explore", "hostile", "trip"]

LOST = ("the saga begins", "reserve takes effect and returns", "charge times out, after its effect")
"""The way to where the money was taken, and nobody knows."""


class Reserve(Step):
    def execute(self, order):
        raise AssertionError

    def compensate(self, order):
        raise AssertionError


class Charge(Step):
    timeout = 2.0
    overtake = True
    retry = Retry(attempts=2, wait_initial=0.5, wait_jitter=0)

    def execute(self, order):
        raise AssertionError

    def compensate(self, order):
        raise AssertionError

    def probe(self, order) -> Happened:
        raise AssertionError


class Mail(Step):
    retry = Retry(attempts=1)

    def execute(self, order):
        raise AssertionError


def checkout() -> Saga:
    """A saga with a step that can be undone, one with a probe, and one that cannot be undone."""
    return Saga("checkout", [Reserve(), Charge(), Mail()])


def hostile() -> Saga:
    """A saga whose callback's name would be a script, were it not kept as text."""

    def call(order):
        """Does nothing."""

    call.__qualname__ = call.__name__ = "<img src=x onerror='pwned=1'><script>pwned=2</script>"
    return Saga("hostile", [step(name="a")(call)])


class Opened(Step):
    """A step that waits for a file, so that a test decides when it returns."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.folder = folder

    def execute(self, trip):
        never = threading.Event()
        while not (self.folder / str(self.name)).exists():
            never.wait(0.02)


def trip(folder: str | Path) -> Saga:
    """A saga whose steps return when a file of their name is in *folder*."""
    return Saga("trip", [Opened("pack", Path(folder)), Opened("fly", Path(folder))])
