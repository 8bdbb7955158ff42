"""A fake service, and steps for the tests of the testing kit: correct steps, and steps with one bug each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs

from fsm_mediator import Saga, Step

ORDER = {"amount": 7}


@attrs.frozen
class Receipt:
    """The result of a step with a bug."""

    key: str


class FakeService:
    """A correct fake service: it acts once for each key, and refuses a key that was undone."""

    def __init__(self) -> None:
        self.held: dict[str, int] = {}
        self.refused: set[str] = set()

    def put(self, key: str, amount: int) -> None:
        if key in self.refused:
            raise ValueError(f"{key} was undone")
        self.held[key] = amount

    def take(self, key: str) -> None:
        self.refused.add(key)
        self.held.pop(key, None)


class Put(Step):
    """A correct step."""

    def __init__(self, shelf: FakeService, name: str = "put") -> None:
        self.shelf = shelf
        self.name = name

    def execute(self, order, context):
        self.shelf.put(context.idempotency_key, order["amount"])
        return {"shelf": self.name}

    def compensate(self, order, context):
        self.shelf.take(context.execute_key)


class Forgets(Put):
    """Its compensation does nothing."""

    def compensate(self, order, context):
        pass


class IsNotIdempotent(Put):
    """It takes effect again when it is repeated with the same key; its compensation undoes both effects."""

    def execute(self, order, context):
        number = len(self.shelf.held)
        self.shelf.put(f"{context.idempotency_key} {number}", order["amount"])
        return {"number": number}

    def compensate(self, order, context):
        for key in [key for key in self.shelf.held if key.startswith(context.execute_key)]:
            self.shelf.take(key)


class IsUndoneTwice(Put):
    """Its compensation has an effect each time, even without `execute`."""

    def execute(self, order, context):
        if context.idempotency_key not in self.shelf.refused:
            self.shelf.refused.add(context.idempotency_key)
            self.book(order["amount"])

    def compensate(self, order, context):
        self.book(-order["amount"])

    def book(self, amount: int) -> None:
        balance = self.shelf.held.pop("balance", 0) + amount
        if balance:
            self.shelf.held["balance"] = balance


class RaisesWithoutExecute(Put):
    """Its compensation raises if there is nothing to undo."""

    def compensate(self, order, context):
        del self.shelf.held[context.execute_key]


class TrustsTheResult(Put):
    """Its compensation does nothing without a result."""

    def compensate(self, order, context):
        if context.result is not None:
            self.shelf.take(context.execute_key)


class ReturnsNoData(Put):
    """Its compensation needs the object that it returned; a journal keeps only the data of the object."""

    def execute(self, order, context):
        super().execute(order, context)
        return Receipt(context.idempotency_key)

    def compensate(self, order, context):
        if context.result is not None:
            self.shelf.take(context.result.key)
        else:
            self.shelf.take(context.execute_key)


class NeedsItsMemory(Put):
    """Its compensation undoes only the last attempt."""

    def execute(self, order, context):
        self.put_under = f"{context.idempotency_key} {context.attempt}"
        self.shelf.put(self.put_under, order["amount"])

    def compensate(self, order, context):
        self.shelf.take(getattr(self, "put_under", ""))


class RemembersInItsProcess(Put):
    """It stores only in its own process that it took effect, so it takes effect again after a restart."""

    def __init__(self, shelf: FakeService, name: str = "put") -> None:
        super().__init__(shelf, name)
        self.done: dict[str, str] = {}

    def execute(self, order, context):
        if context.idempotency_key not in self.done:
            self.done[context.idempotency_key] = key = f"{len(self.shelf.held)}"
            self.shelf.put(key, order["amount"])

    def compensate(self, order, context):
        self.shelf.take(self.done.pop(context.execute_key, ""))


class IsNeverUndone(Put):
    """Its compensation does nothing if the step is in doubt."""

    def compensate(self, order, context):
        if not context.in_doubt:
            self.shelf.take(context.execute_key)


class LosesTheDoubt(Put):
    """It treats a timeout as a failure without an effect."""

    in_doubt_on = ()


class Sends(Step):
    """A step without a compensation."""

    def __init__(self, shelf: FakeService) -> None:
        self.shelf = shelf

    def execute(self, order, context):
        self.shelf.put(context.idempotency_key, order["amount"])


class Mail(Sends):
    """A pivot without a compensation."""

    pivot = True


def shop(charge: Callable[[FakeService, str], Step] = Put, *, careful: bool = False) -> Callable[[], Any]:
    """A function that makes a new shop of three steps with a service each; *charge* makes the middle one.

    *careful*: every exception leaves the other steps in doubt.
    """

    def make():
        names = ("reserve", "charge", "ship")
        shelves = {name: FakeService() for name in names}
        steps = [(charge if name == "charge" else Put)(shelf, name) for name, shelf in shelves.items()]
        if careful:
            steps = [step if type(step) is LosesTheDoubt else step.with_(in_doubt_on=Exception) for step in steps]
        return Saga("checkout", steps), lambda: {name: shelf.held for name, shelf in shelves.items()}

    return make


BUGS: dict[type[Put], dict[str, Any]] = {
    Forgets: {},
    IsNotIdempotent: {},
    IsUndoneTwice: {},
    RaisesWithoutExecute: {},
    TrustsTheResult: {},
    ReturnsNoData: {},
    NeedsItsMemory: {},
    RemembersInItsProcess: {},
    IsNeverUndone: {},
    LosesTheDoubt: {"strict": True},
}
"""Every bug, and the settings of `check_saga` that it takes to find it."""
