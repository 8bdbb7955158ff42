"""The sagas that the notebooks of these tests explore; imported here and in their kernels."""

from __future__ import annotations

from fsm_mediator import Happened, Retry, Saga, Step, explore, step

__all__ = ["LOST", "checkout", "explore", "hostile"]

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
