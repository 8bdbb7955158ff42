"""An app with errors, for the tests of the command line."""

from __future__ import annotations

import sys
from typing import Any

from fsm_mediator import Parallel, Retry, Saga, Signal, step

ONCE = Retry(attempts=1)


def ends() -> None:
    """A factory that ends the process."""
    sys.exit(0)


class Awkward:
    """Raises whatever it is asked."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(f"do not ask for {name}")


awkward = Awkward()


class UnshowableError(Exception):
    """Cannot be shown."""

    def __repr__(self) -> str:
        raise ValueError("no")


def raises_the_unshowable() -> None:
    """A factory whose error cannot be shown."""
    raise UnshowableError


@step(retry=ONCE)
def leaves(payload: Any) -> None:
    """Ends the process."""
    sys.exit(3)


@step(retry=ONCE)
def rings(payload: Any) -> None:
    """Fails with a text that would command the terminal, and with half a character."""
    raise ValueError("\x1b[31mred\x07 \ud800")


@step
def packed(payload: Any) -> None:
    """Does nothing."""


leaving = Saga("leaving", [leaves])
ringing = Saga("ringing", [rings])
asking = Saga("asking", [packed, Signal("ok", payload=bool)])
grouped = Saga("grouped", [Parallel("g", [packed]), Signal("ok", payload=bool)])
sagas = [leaving, ringing, asking, grouped]
