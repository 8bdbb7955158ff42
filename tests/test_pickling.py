"""Outcomes, errors, steps and sagas cross processes: in process pools and in the queues of other libraries."""

from __future__ import annotations

import copy
import json
import multiprocessing
import pickle
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import pytest

from fsm_mediator import Choose, Mediator, Outcome, Parallel, Retry, Saga, Signal, Sleep, Step, step
from fsm_mediator.errors import DefinitionError, RecordedError, SagaFailedError, SagaStuckError, SagaWaitingError


@step
def reserve(order: Any) -> Any:
    """Answer with the item."""
    return {"item": order}


@reserve.compensation
def release(order: Any) -> None:
    """Undo."""


@step(retry=Retry(attempts=1))
def refuse(order: Any) -> None:
    """Fail with an error that itself cannot be pickled."""
    raise UnpicklableError(order)


class UnpicklableError(Exception):
    """Holds a lock, as errors of clients do."""

    def __reduce__(self) -> Any:
        raise TypeError("holds a lock")


def ship(order: Any) -> str:
    """A function that stays one: its step has another name."""
    return "shipped"


ship_step = step(name="shipping")(ship)
patient = reserve.with_(timeout=3.0).named("patient")


class ChargeStep(Step):
    """A participant with a service of its own."""

    def __init__(self, fee: int) -> None:
        self.fee = fee

    def execute(self, order: Any) -> int:
        """Answer with the fee."""
        return self.fee


def route(order: Any) -> str:
    """Choose."""
    return "fast"


def items(order: Any) -> list[int]:
    """Go over two."""
    return [1, 2]


whole = Saga(
    "whole",
    [
        Saga("inner", [reserve, patient]),
        ship_step,
        ChargeStep(7),
        Choose("route", {"fast": Sleep("nap", 0), "slow": Signal("yes")}, by=route),
        Parallel("both", [Saga("left", [reserve]), ship_step.named("right")]),
        Parallel.each("each", reserve, over=items),
    ],
    payload=int,
    version="v2",
    retry=Retry(attempts=2),
    deadline=60,
)
failing = Saga("failing", [reserve, refuse])


def run(name: str) -> Outcome:
    """Run it in a worker."""
    return Mediator(whole, failing).run(name, 5)


def carry_on(saga: Saga) -> Outcome:
    """Run a saga that came with the call."""
    return Mediator(saga).run(saga.name, 5)


def again(thing: Any) -> Any:
    """The same out of a pickle."""
    return pickle.loads(pickle.dumps(thing))  # noqa: S301 - our own bytes


@pytest.fixture(scope="module")
def pool():
    """One worker that was spawned: it knows nothing but what it imports."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as executor:
        yield executor


def test_outcome_comes_back_from_a_spawned_worker(pool):
    """What `run` returns in a worker is what it returns here: state, results, history, a picture."""
    outcome = pool.submit(run, "whole").result()
    assert outcome.succeeded
    assert outcome.results["charge"] == 7
    assert [record.event for record in outcome.history] == [record.event for record in run("whole").history]
    assert outcome.saga.fingerprint == whole.fingerprint
    assert outcome.saga.diagram().to_dot() == whole.diagram().to_dot()


@pytest.mark.parametrize("view", ["detail", "steps"])
@pytest.mark.parametrize("saga", [whole, failing], ids=lambda saga: saga.name)
def test_picture_of_a_pickled_outcome_is_that_of_the_outcome(saga, view):
    """Everything that a picture shows is in the shape."""
    outcome = Mediator(saga).run(saga, 5, check=False)
    assert again(outcome).diagram(view).to_dot() == outcome.diagram(view).to_dot()
    assert again(outcome).saga.diagram(view).to_dot() == saga.diagram(view).to_dot()


def test_error_of_a_spawned_worker_keeps_outcome_and_cause(pool):
    """What `run` raises in a worker says what it says here, and its cause is there as a record."""
    with pytest.raises(SagaFailedError, match="step 'refuse' gave up after 1 attempt") as raised:
        pool.submit(run, "failing").result()
    outcome = raised.value.outcome
    assert outcome.compensated == ("reserve",)
    assert isinstance(outcome.error, RecordedError)
    assert "UnpicklableError" in outcome.error.type
    assert "def refuse" in outcome.error.traceback or "in refuse" in outcome.error.traceback


def test_saga_goes_to_a_spawned_worker_and_runs_there(pool):
    """A saga whose steps are at the top of a module, or instances that can be pickled, is an argument as any other."""
    outcome = pool.submit(carry_on, whole).result()
    assert outcome.succeeded
    assert outcome.results["inner"] == {"reserve": {"item": 5}, "patient": {"item": 5}}


def test_pickled_saga_is_the_same_definition():
    """Shape, settings and names survive."""
    copied = again(whole)
    assert copied.fingerprint == whole.fingerprint
    assert (copied.name, copied.version, copied.deadline, copied.payload) == ("whole", "v2", 60, int)
    assert [part.timeout for part in copied.parts] == [part.timeout for part in whole.parts]
    assert [part.retry for part in copied.parts] == [part.retry for part in whole.parts]


def test_step_of_a_module_is_pickled_by_its_name():
    """It comes back as the very step that the module has; its variants as variants of it."""
    assert again(reserve) is reserve
    assert again(patient).timeout == 3.0
    assert again(patient).name == "patient"
    assert again(patient).compensate is release
    assert again(ship_step)(1) == "shipped"
    assert copy.copy(reserve) is not reserve


def local_step() -> Any:
    """A step that no module has."""

    @step
    def inside(order: Any) -> None: ...

    return inside


def test_step_that_cannot_be_pickled_is_named():
    """The error says which step of which saga, and where its function belongs."""
    with pytest.raises(pickle.PicklingError, match=r"step 'inside' cannot be pickled: .*at its top level"):
        pickle.dumps(local_step())
    with pytest.raises(pickle.PicklingError, match=r"saga 's': 'inside' cannot be pickled"):
        pickle.dumps(Saga("s", [reserve, local_step()]))
    with pytest.raises(pickle.PicklingError, match=r"saga 's': 'both' cannot be pickled: .*'inside'"):
        pickle.dumps(Saga("s", [Parallel("both", [Saga("a", [local_step()])])]))
    with pytest.raises(pickle.PicklingError, match="is a branch"):
        pickle.dumps(whole.branches["both"]["left"])


def test_outcome_of_a_saga_with_local_functions_can_be_pickled():
    """Nobody has to move a step to send a result home; such a saga is drawn, and runs nothing."""
    saga = Saga("local", [local_step(), Sleep("nap", lambda _: 0), Signal("yes")])
    outcome = again(again(Mediator(saga).run("local", check=False)))
    assert outcome.awaits_signal
    assert "mediator.signal" in outcome.summary()
    assert "inside" in outcome.diagram().to_dot()
    assert outcome.saga.fingerprint == saga.fingerprint
    failed = Mediator(outcome.saga).run(outcome.saga, check=False)
    assert isinstance(failed.error, DefinitionError)
    assert "without its steps' functions" in str(failed.error)


@pytest.mark.parametrize("kind", [SagaFailedError, SagaStuckError, SagaWaitingError])
def test_errors_with_an_outcome_keep_it_with_their_notes(kind):
    """Each error of a run is itself again, with outcome, cause and notes."""
    outcome = Mediator(failing).run("failing", 5, check=False)
    error = kind(outcome)
    error.add_note("seen by the worker")
    copied = again(error)
    assert type(copied) is kind
    assert str(copied) == str(error)
    assert copied.__cause__ is copied.outcome.error
    assert copied.__notes__ == ["seen by the worker"]


def test_deep_copy_of_an_outcome_keeps_its_saga():
    """Only a pickle leaves the functions behind."""
    outcome = Mediator(failing).run("failing", 5, check=False)
    copied = copy.deepcopy(outcome)
    assert copied.saga is failing
    assert copied.error is outcome.error
    assert copied.results == outcome.results
    assert copied.results is not outcome.results


def test_outcome_as_json_is_what_a_queue_with_json_takes():
    """Celery's JSON and a log take it: whole, with the error in words and the history."""
    outcome = Mediator(failing).run("failing", {5}, saga_id="o-1", check=False)
    plain = json.loads(outcome.to_json())
    assert (plain["saga_id"], plain["saga"], plain["version"], plain["state"]) == ("o-1", "failing", "1", "failed")
    assert plain["compensated"] == ["reserve"]
    assert plain["error"]["type"].endswith("UnpicklableError")
    assert [each["event"] for each in plain["history"]] == [each.event for each in outcome.history]
    assert json.loads(Mediator(whole).run("whole", 5).to_json())["results"]["inner"]["reserve"] == {"item": 5}
