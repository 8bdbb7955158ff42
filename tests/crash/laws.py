"""The laws that hold whatever dies: checked on the participants' ledger, which the library cannot see."""

from __future__ import annotations

from tests.crash.laboratory import Answer, Scenario


def broken_laws(scenario: Scenario, answer: Answer) -> list[str]:
    """What is wrong with the way it ended, in words; empty if nothing is."""
    broken: list[str] = []
    ledger = answer["ledger"]
    names = [plan["name"] for plan in scenario["steps"] if not plan["waits"]]
    plans = {plan["name"]: plan for plan in scenario["steps"] if not plan["waits"]}
    effects = [(verb, name) for kind, verb, name, _ in ledger if kind == "effect"]
    calls = [(verb, name) for kind, verb, name, _ in ledger if kind == "call"]

    keys = {(verb, name, key) for _, verb, name, key in ledger}
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
