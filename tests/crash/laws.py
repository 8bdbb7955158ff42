"""The laws that hold whatever dies: checked on the participants' ledger, which the library cannot see."""

from __future__ import annotations

import json
from collections import Counter
from typing import Final

from tests.crash.laboratory import MAX_RECOVERIES, NO_WAIT, PAYLOAD, Answer, Scenario

MOST_CALLS: Final = max(MAX_RECOVERIES + 1, (NO_WAIT.attempts or 0) ** 2) + 4
"""As often as its `Retry` or `max_recoveries` allows, a probe once for each of these; and after deaths from outside."""


def broken_laws(scenario: Scenario, answer: Answer) -> list[str]:
    """What is wrong with the way it ended, in words; empty if nothing is."""
    broken: list[str] = []
    ledger = answer["ledger"]
    names = [plan["name"] for plan in scenario["steps"] if not plan["waits"]]
    plans = {plan["name"]: plan for plan in scenario["steps"] if not plan["waits"]}
    effects = [(verb, name) for kind, verb, name, _ in ledger if kind == "effect"]
    calls = [(verb, name) for kind, verb, name, _ in ledger if kind == "call"]

    broken += [*_broken_views(ledger), *_broken_signals(answer), *_broken_queues(scenario, calls), *_poison(answer)]
    keys = {(verb, name, key) for kind, verb, name, key in ledger if kind in ("call", "effect")}
    for name in names:
        used = {key for _, each, key in keys if each == name}
        if len(used) > 1:
            broken.append(f"{name} was called with more than one key: {sorted(used)}")

    # Branches go on at the same time: one may be given up while another is still executed.
    alone = [(verb, name) for verb, name in calls if not plans[name]["group"]]
    first_undo = next((index for index, (verb, _) in enumerate(alone) if verb == "compensate"), None)
    if first_undo is not None and any(verb == "execute" for verb, _ in alone[first_undo:]):
        broken.append("a step was executed after compensation had begun")

    if answer["state"] == "succeeded":
        broken += [
            f"{name} has no effect in a saga that succeeded" for name in names if ("execute", name) not in effects
        ]
        broken += [f"{name} was compensated in a saga that succeeded" for verb, name in calls if verb == "compensate"]
    elif answer["state"] == "failed":
        broken += _broken_by_failing(names, plans, effects, answer)
    elif not answer["state"].startswith("stuck"):
        broken.append(f"it came to rest in {answer['state']}, which is no end")
    return broken


def _broken_views(ledger: list[list[str]]) -> list[str]:
    """Every attempt sees what is journaled, whatever those before it changed in place, in this process or another."""
    broken = []
    for kind, verb, name, seen in ledger:
        if kind == "saw":
            payload, results = json.loads(seen)
            every = [each for each in results.items() if isinstance(each[1], dict)]
            if payload != PAYLOAD or not all(_is_own(*each) for each in every):
                broken.append(f"{verb} of {name} saw what another attempt had changed: {seen}")
    return broken


def _is_own(name: str, result: dict[str, object]) -> bool:
    """Whether it is what the step returned; of a group, what each of its branches did."""
    if "done" in result:
        return result["done"] == name
    return all(_is_own(each, inside) for each, inside in result.items() if isinstance(inside, dict))


def _broken_signals(answer: Answer) -> list[str]:
    """An accepted signal counts: the time-out of its own wait cannot overrule it."""
    accepted = {name for kind, _, name, _ in answer["ledger"] if kind == "accepted"}
    timed_out = {event.partition(" ")[2] for event in answer["timed_out"]}
    return [f"the signal {name} was accepted, and then its time-out counted" for name in sorted(accepted & timed_out)]


def _broken_queues(scenario: Scenario, calls: list[tuple[str, str]]) -> list[str]:
    """Of branches that go one at a time, none begins after one has failed for good."""
    queue = [plan for plan in scenario["steps"] if plan["group"] == "queue" and not plan["waits"]]
    failing = next((index for index, plan in enumerate(queue) if plan["execute"] == ["rejects"]), len(queue))
    later = {plan["name"] for plan in queue[failing + 1 :]}
    return [f"{name} began after a branch before it had failed" for _, name in calls if name in later]


def _poison(answer: Answer) -> list[str]:
    """A callback in which every driver dies is called so often and no more."""
    calls = Counter((verb, name) for kind, verb, name, _ in answer["ledger"] if kind == "call")
    return [
        f"{verb} of {name} was called {count} times, which nothing allows"
        for (verb, name), count in calls.items()
        if count > MOST_CALLS
    ]


def _broken_by_failing(names: list[str], plans: dict, effects: list[tuple[str, str]], answer: Answer) -> list[str]:  # type: ignore[type-arg]
    broken = []
    for name in names:
        if ("execute", name) not in effects:
            continue
        last = max(index for index, effect in enumerate(effects) if effect == ("execute", name))
        undone = ("compensate", name) in effects[last:]
        if plans[name]["compensates"] and not undone:
            broken.append(f"{name} took effect and was not compensated after it, in a saga that failed")
        group = plans[name]["group"]
        if not plans[name]["compensates"] and (f"{group}.{name}.{name}" if group else name) not in answer["leftovers"]:
            broken.append(f"{name} took effect, cannot be compensated, and is not among the leftovers")
    order: list[str] = []
    for verb, name in effects:
        if verb == "compensate" and name not in order:
            order.append(name)
    places = {name: plans[name]["group"] or name for name in names}
    ranks = list(dict.fromkeys(places.values()))
    newest_first = sorted(order, key=lambda name: ranks.index(places[name]), reverse=True)
    if order != newest_first:
        broken.append(f"compensated in the order {order}, not newest first")
    return broken
