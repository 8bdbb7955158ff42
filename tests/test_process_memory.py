"""What steps keep in their own process is gone after a simulated death, as after a real one; the world is not."""

from __future__ import annotations

from collections import Counter, deque

import pytest

from fsm_mediator import Saga, Step, step
from fsm_mediator.testing import PromiseBrokenError, SagaBrokenError, check_promises, check_saga
from fsm_mediator.testing.memory import ProcessMemory
from tests.fake_services import ORDER, RemembersInItsProcess, shop


def test_a_step_that_remembers_in_its_process_does_not_survive():
    """A step that is idempotent only as long as its process lives charges twice after a restart, and that is found."""
    with pytest.raises(SagaBrokenError) as caught:
        check_saga(shop(RemembersInItsProcess), ORDER)

    told = str(caught.value)
    assert "driver dies" in told
    assert "the attribute 'done' of step 'charge' was lost with the process that died" in told


def test_its_promises_are_tried_across_a_restart():
    """To execute twice with one key is tried as a restarted process does it."""
    with pytest.raises(PromiseBrokenError) as caught:
        check_promises(shop(RemembersInItsProcess), ORDER)

    assert {verdict.promise for verdict in caught.value.report.broken} >= {"undoes", "executes_once"}


memory_of_module: set[str] = set()


def test_a_variable_around_a_function_is_memory_too():
    """A function that remembers in a variable of its module, or of the function that made it, is found as well."""
    for remembered in (memory_of_module, set()):

        def make(remembered=remembered):
            charges: list[int] = []
            remembered.clear()

            @step(name="charge")
            def charge(order, context):
                kept = memory_of_module if remembered is memory_of_module else remembered
                if context.idempotency_key not in kept:
                    kept.add(context.idempotency_key)
                    charges.append(order["amount"])

            @charge.compensation
            def refund(order):
                charges.clear()

            return Saga("shop", [charge]), lambda: charges

        with pytest.raises(SagaBrokenError) as caught:
            check_saga(make, ORDER, only="charge-crashes_after_effect_once")
        assert "[7, 7]" in str(caught.value)


class Service:
    """A service with more than its observer shows."""

    def __init__(self) -> None:
        self.held: dict[str, int] = {}
        self.number = 0
        self.seen: dict[str, int] = {}


class Bill(Step):
    """A right step: all that it relies on is in its service."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.calls = Counter[str]()

    def execute(self, order, context):
        self.calls["execute"] += 1
        service = self.service
        if context.idempotency_key not in service.seen:
            service.number += 1
            service.seen[context.idempotency_key] = service.number
        service.held[context.idempotency_key] = order["amount"]

    def compensate(self, order, context):
        self.service.held.pop(context.execute_key, None)


def test_a_service_is_the_world_also_where_observe_shows_only_part_of_it():
    """What a fake service keeps beside what is observed (numbers, keys seen) outlives the process that calls it."""

    def make():
        service = Service()
        return Saga("shop", [Bill(service), *shop()()[0].contents]), lambda: service.held

    assert not check_saga(make, ORDER).broken
    assert not check_promises(make, ORDER).broken


def test_memory_is_put_back_whole_and_the_world_left():
    """Whatever an attribute holds is as it was before the run: containers of every kind, in each other, and rebound."""

    class Holder:
        def __init__(self) -> None:
            self.inner = {"a": [1, {2}]}

    class Keeps(Step):
        def __init__(self) -> None:
            self.world: list[int] = []
            self.number = 0
            self.queue = deque([1])
            self.holder = Holder()
            self.raw = bytearray(b"x")

        def execute(self, order):
            """Never called."""

    keeps = Keeps()
    memory = ProcessMemory(Saga("s", [keeps]), lambda: list(keeps.world), set())
    holder, queue = keeps.holder, keeps.queue

    keeps.world.append(1)
    keeps.number += 1
    keeps.queue.append(2)
    keeps.holder.inner["a"][1].add(3)  # type: ignore[attr-defined]
    keeps.holder.inner["b"] = []
    keeps.raw += b"y"
    keeps.new = 1  # type: ignore[attr-defined]
    memory.learn()
    assert (keeps.number, list(queue), holder.inner["a"]) == (1, [1, 2], [1, {2, 3}])
    memory.lose()

    assert keeps.world == [1]
    assert (keeps.number, list(queue), keeps.raw, vars(keeps).get("new")) == (0, [1], bytearray(b"x"), None)
    assert (keeps.holder, keeps.queue) == (holder, queue)
    assert holder.inner == {"a": [1, {2}]}
    assert "the attribute 'number' of step 'keeps'" in str(memory)
    assert "world" not in str(memory)
