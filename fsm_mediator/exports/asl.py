"""Amazon States Language: the steps of a saga as a state machine of AWS Step Functions.

A step becomes a task with the resource ``${name}``. Substitute the resource when you deploy the machine. A compensation
becomes a task ``undo name``, which runs after a failed task. Waits, groups and choices become states of the matching
types.
"""

from __future__ import annotations

import math
from typing import Any, Final

from fsm_mediator.definition.saga import Saga, check_is_saga
from fsm_mediator.definition.waits import EACH
from fsm_mediator.diagram.flow import Flow, StepBox, flow_of
from fsm_mediator.machine.parts import Kind
from fsm_mediator.retry import Retry
from fsm_mediator.states import FAILED, PENDING, SUCCEEDED

MOST: Final = 80
"""The maximum length of the name of a state, in characters."""

WITHOUT_LIMIT: Final = 99_999_998
"""The maximum number of repetitions that the language allows. It stands for a policy without limit."""


def to_asl(saga: Saga) -> dict[str, Any]:
    """The steps of *saga* as a state machine in the Amazon States Language, as JSON types.

    Step Functions cannot express everything. A task after the pivot does not get stuck, but is repeated without limit.
    The compensation of a group becomes a state of the type ``Pass`` with a comment.

    Raises:
        DefinitionError: *saga* is not a `Saga`.
    """
    check_is_saga("to_asl()", saga)
    return {"Comment": f"saga {saga.name}, version {saga.version}", **_machine(flow_of(saga, None), saga)}


def _machine(flow: Flow, saga: Saga) -> dict[str, Any]:
    """The state machine for *flow*, the parts of a saga or of a branch, as JSON types.

    The states of the steps come first, then the states of the compensations.
    """
    onward = {line.source: _name(line.target) for line in flow.forward}
    back = {line.source: line.target for line in flow.back}
    undone = set(back.values())
    states: dict[str, Any] = {}
    for box in flow.boxes:
        target = back.get(box.id)
        catch = [_failed(flow) if target == flow.prefix + FAILED else f"undo {target}"] if target else []
        states |= _states(box, saga, onward[box.id], [name[:MOST] for name in catch])
    for box in reversed(flow.boxes):
        if box.id in undone:
            target = back.get(box.id, flow.prefix + FAILED)
            onto = _failed(flow) if target == flow.prefix + FAILED else f"undo {target}"
            what = _task(f"undo {box.id}", saga.part(box.path).compensation_retry) if box.undo is not None else {}
            passes = {"Type": "Pass", "Comment": "undone branch by branch, if there is anything to undo"}
            states[f"undo {box.id}"[:MOST]] = {**(what or passes), "Next": onto[:MOST]}
    states[_name(flow.prefix + SUCCEEDED)] = {"Type": "Succeed"}
    if flow.fails:
        states[_failed(flow)] = {"Type": "Fail", "Error": "SagaFailed", "Cause": "what was done is undone"}
    start = onward[flow.prefix + PENDING]
    reached, left = set[str](), [start]  # a sleep cannot fail, so some compensations may be unreachable
    while left:
        reached.add(name := left.pop())
        leads = [states[name], *states[name].get("Catch", ()), *states[name].get("Choices", ())]
        left += [each["Next"] for each in leads if "Next" in each and each["Next"] not in reached]
    return {"StartAt": start, "States": {name: state for name, state in states.items() if name in reached}}


def _states(box: StepBox, saga: Saga, following: str, catch: list[str]) -> dict[str, Any]:
    """The states for *box*, by name: one state, and for a choice also the states of its branches.

    *box*: a part of the saga, as a box of the diagram ``steps``. *following*: the next state. *catch*: the state after
    a failure, or an empty list.
    """
    part, name = saga.part(box.path), _name(box.id)
    known = saga.branches.get(box.path, {})
    branches = [_machine(branch.flow, known.get(branch.name) or known[EACH]) for branch in box.branches]
    after: dict[str, Any] = {"Next": following}
    if catch:
        after["Catch"] = [{"ErrorEquals": ["States.ALL"], "ResultPath": "$.error", "Next": catch[0]}]
    if part.kind is Kind.CHOICE:
        ways = {f"{box.id}: {branch.name}"[:MOST]: branch.name for branch in box.branches}
        rules = [{"Variable": f"$.{part.path}", "StringEquals": key, "Next": way} for way, key in ways.items()]
        taken = {
            way: {"Type": "Parallel", "Branches": [each], **after} for way, each in zip(ways, branches, strict=True)
        }
        return {name: {"Type": "Choice", "Choices": rules}, **taken}
    if part.kind is Kind.SLEEP:
        seconds = {"SecondsPath": f"$.{part.path}"} if part.seconds is None else {"Seconds": math.ceil(part.seconds)}
        return {name: {"Type": "Wait", **seconds, "Next": following}}
    if part.kind is Kind.SIGNAL:
        wait = {"Type": "Task", "Resource": "arn:aws:states:::sqs:sendMessage.waitForTaskToken"}
        token = {"Parameters": {"MessageBody": {"Signal": box.title, "Token.$": "$$.Task.Token"}}}
        return {name: {**wait, **token, **_limit(part.seconds), **after}}
    if part.each:
        most = {} if part.at_most is None else {"MaxConcurrency": part.at_most}
        return {name: {"Type": "Map", "ItemsPath": f"$.{part.path}", "ItemProcessor": branches[0], **most, **after}}
    if branches:
        return {name: {"Type": "Parallel", "Branches": branches, **after}}
    return {name: {**_task(box.id, part.retry), **_limit(part.timeout), **after}}


def _task(name: str, retry: Retry) -> dict[str, Any]:
    attempts = WITHOUT_LIMIT if retry.attempts is None else retry.attempts - 1
    again = {
        "ErrorEquals": ["States.ALL"],
        "IntervalSeconds": max(1, math.ceil(retry.wait_initial)),
        "MaxAttempts": attempts,
        "BackoffRate": float(retry.wait_exp_base),
        "MaxDelaySeconds": max(2, math.ceil(retry.wait_max)),
    }
    return {"Type": "Task", "Resource": f"${{{name}}}", **({"Retry": [again]} if attempts else {})}


def _limit(seconds: float | None) -> dict[str, int]:
    return {} if seconds is None else {"TimeoutSeconds": max(1, math.ceil(seconds))}


def _name(state: str) -> str:
    return state[-MOST:]


def _failed(flow: Flow) -> str:
    return _name(flow.prefix + FAILED)
