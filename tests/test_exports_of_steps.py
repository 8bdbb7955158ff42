"""Exports of the steps view: BPMN and the Amazon States Language say what the saga's machine does."""

from __future__ import annotations

import itertools
import json
import re
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given, settings

from fsm_mediator.definition.saga import Saga
from fsm_mediator.exports import to_asl, to_bpmn
from fsm_mediator.exports.bpmn import MODEL
from fsm_mediator.retry import Retry
from fsm_mediator.states import PENDING
from fsm_mediator.testing.strategies import sagas
from tests.test_diagrams import part, with_waits
from tests.test_steps_view import FIXED

pytestmark = pytest.mark.once

any_saga = sagas(most=8, nested=True, groups=True)


def machines_in(machine):
    """A state machine of Step Functions, and those in its states."""
    yield machine
    for state in machine["States"].values():
        for inner in (*state.get("Branches", ()), *([state["ItemProcessor"]] if "ItemProcessor" in state else ())):
            yield from machines_in(inner)


def check_asl(saga):
    """Every state is known and can be reached, names are unique, all is JSON."""
    machine = to_asl(saga)
    assert json.loads(json.dumps(machine)) == machine
    names = [name for each in machines_in(machine) for name in each["States"]]
    assert len(names) == len(set(names))
    assert all(len(name) <= 80 for name in names)
    for each in machines_in(machine):
        states = each["States"]
        reached = {each["StartAt"]}
        for state in states.values():
            ends = state["Type"] in ("Succeed", "Fail", "Choice")
            assert ("Next" in state) != ends
            following = [*([state["Next"]] if not ends else []), *(rule["Next"] for rule in state.get("Choices", ()))]
            reached.update(following, (rule["Next"] for rule in state.get("Catch", ())))
        assert reached == set(states)


@settings(max_examples=60)
@given(saga=any_saga)
def test_states_of_step_functions_hang_together(saga):
    """Whatever the saga, each state of the export exists, can be reached, and leads to an end."""
    check_asl(saga)


@pytest.mark.parametrize("saga", FIXED.values(), ids=FIXED)
def test_known_sagas_are_exported_to_step_functions(saga):
    """The same of sagas with every sort of part."""
    check_asl(saga())


def test_order_of_undo_is_that_of_the_machine():
    """What cannot be executed goes where the machine compensates next, and from there back to the first."""
    saga = Saga(
        "order", [part("reserve"), part("tell", back=False), part("pay"), part("ship", retry=Retry(attempts=5))]
    )
    states = to_asl(saga)["States"]

    assert states["ship"]["Catch"][0]["Next"] == "undo pay"
    assert states["ship"]["Retry"][0]["MaxAttempts"] == 4
    assert [states[f"undo {name}"]["Next"] for name in ("pay", "reserve")] == ["undo reserve", "failed"]
    assert "undo tell" not in states
    assert (states["ship"]["Next"], states["succeeded"]["Type"]) == ("succeeded", "Succeed")


def test_waits_groups_and_choices_are_states_of_their_kind():
    """A signal waits for a token, a sleep waits, a group is parallel, items are mapped, a choice chooses."""
    states = to_asl(with_waits())["States"]

    assert states["approval"]["Resource"].endswith(".waitForTaskToken")
    assert states["approval"]["TimeoutSeconds"] == 3600
    assert (states["rest"]["Type"], states["rest"]["Seconds"]) == ("Wait", 30)
    assert len(states["deliveries"]["Branches"]) == 2
    assert (states["parcels"]["Type"], states["parcels"]["MaxConcurrency"]) == ("Map", 2)
    assert [rule["Next"] for rule in states["way"]["Choices"]] == ["way: road", "way: air"]


def process_of(root: ET.Element) -> ET.Element:
    """The process in a file."""
    process = root.find(f"{{{MODEL}}}process")
    assert process is not None
    return process


def tags(process, tag):
    """The elements of a process with that tag."""
    return process.iter(f"{{{MODEL}}}{tag}")


def check_bpmn(saga):
    """Every line joins two elements, ids are unique, and everything has a place."""
    root = ET.fromstring(to_bpmn(saga))  # noqa: S314 - our own text
    process = process_of(root)
    ids = [element.attrib["id"] for element in root.iter() if "id" in element.attrib]
    assert len(ids) == len(set(ids))
    assert all(re.fullmatch(r"[A-Za-z_][\w.\-]*", each) for each in ids)
    lines = [*tags(process, "sequenceFlow"), *tags(process, "association")]
    assert {each.attrib[end] for each in lines for end in ("sourceRef", "targetRef")} <= set(ids)
    drawn = {each.attrib["bpmnElement"] for each in root.iter() if "bpmnElement" in each.attrib}
    shown = {each.attrib["id"] for each in process if "id" in each.attrib} | {process.attrib["id"]}
    assert drawn == shown
    onward: dict[str, list[str]] = {}
    for line in tags(process, "sequenceFlow"):
        onward.setdefault(line.attrib["sourceRef"], []).append(line.attrib["targetRef"])
    (start,), (end,) = tags(process, "startEvent"), tags(process, "endEvent")
    reached, left = set(), [start.attrib["id"]]
    while left:
        here = left.pop()
        reached.add(here)
        left += [each for each in onward.get(here, ()) if each not in reached]
    undo = {each.attrib["targetRef"] for each in tags(process, "association")}
    events = {each.attrib["id"] for each in tags(process, "boundaryEvent")}
    things = {each.attrib["id"] for each in process if "sourceRef" not in each.attrib and "id" in each.attrib}
    assert things - undo - events == reached
    assert end.attrib["id"] in reached


@settings(max_examples=60)
@given(saga=any_saga)
def test_process_of_any_saga_hangs_together(saga):
    """Whatever the saga, its process leads from its start to its end through all that it does."""
    check_bpmn(saga)


@pytest.mark.parametrize("saga", FIXED.values(), ids=FIXED)
def test_process_of_known_sagas_hangs_together(saga):
    """The same of sagas with every sort of part."""
    check_bpmn(saga())


def test_process_has_the_steps_in_order_and_what_undoes_them():
    """A process names the steps of the saga in the order of its machine, and a compensation for each that has one."""
    saga = Saga("order", [part("reserve"), part("tell", back=False), part("pay")])
    process = process_of(ET.fromstring(to_bpmn(saga)))  # noqa: S314 - our own text
    names = {each.attrib["id"]: each.attrib["name"] for each in process if "name" in each.attrib}
    lines = [
        (names[each.attrib["sourceRef"]], names[each.attrib["targetRef"]]) for each in tags(process, "sequenceFlow")
    ]

    assert lines == list(itertools.pairwise([PENDING, "reserve", "tell", "pay", "succeeded"]))
    undone = [each.attrib["name"] for each in tags(process, "serviceTask") if "isForCompensation" in each.attrib]
    assert undone == ["undo reserve", "undo pay"]
