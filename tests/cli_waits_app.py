"""An app for the tests of the command line: sagas that wait for signals, branches and sleeps."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from fsm_mediator import Choose, Mediator, Parallel, Record, Saga, Signal, Sleep, step


def world() -> Path:
    """Where the participants keep their state."""
    return Path(os.environ["CLI_APP_FOLDER"])


@step
def ship(order: Any) -> str:
    """Ship it."""
    with (world() / "done").open("a", encoding="utf-8") as file:
        file.write("ship\n")
    return "shipped"


@step
async def ship_slowly(order: Any) -> str:
    """Ship it, on an event loop."""
    return "shipped"


@step(name="one")
def take(item: Any) -> Any:
    """Take an item."""
    return item


@take.compensation
def give_back(item: Any) -> None:
    """Give the item back."""


@step
def refuse(order: Any) -> None:
    """Refuse, and say why."""
    raise ValueError("out of stock")


approved = Saga("approved", [Signal("approval", payload=int), ship])
asked = Saga("asked", [Parallel("g", [Saga("lead", [Signal("yes"), ship]), Signal("also"), take])])
many = Saga("many", [Parallel.each("n", Signal("ok"), over=range, at_most=2)])
napping = Saga("napping", [Sleep("nap", 86400), ship])
refused = Saga("refused", [Signal("approval"), refuse.with_(retry=None)])
timed = Saga("timed", [Choose("who", {"boss": Signal("word", timeout=3600)}, by=lambda order: "boss")])
sagas = [approved, asked, many, napping, refused, timed]

slow = [Saga("approved", [Signal("approval"), Parallel("g", [ship_slowly])])]


def observe(record: Record) -> None:
    """Write down what the observer of `mediator` is told."""
    with (world() / "observed").open("a", encoding="utf-8") as file:
        file.write(f"{record.event}\n")


def mediator() -> Mediator:
    """A mediator with settings of its own, that somebody else's journal may be used with."""
    return Mediator(*sagas, observers=[observe], limits={"ship": 1}, park_after=5.0)
