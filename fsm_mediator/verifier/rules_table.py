"""The laws and the rules that `verify` checks. docs/rules.md has the same table.

A law is a promise in general words. Each rule belongs to a law and states one condition that can be checked. A
counterexample names the broken rule.
"""

from __future__ import annotations

from typing import Final, NamedTuple

LAWS: Final = {
    1: "from every state the saga can reach an end or a visible stop, with the attempts that its policies allow",
    2: "a saga that failed has compensated its effects, newest first; its leftovers list all other effects",
    3: "a saga that succeeded has all its effects, and compensated none of them",
    4: "attempts never overlap; no step executes after a compensation, or again after its answer is known",
    5: "the other laws also hold after a crash at any point and the recovery",
}


class Rule(NamedTuple):
    """One rule: the number of its law, and its text."""

    law: int
    says: str


RULES: Final = {
    "end": Rule(
        1, "from every situation the saga can reach an end, or a state that visibly waits for a person or a signal"
    ),
    "round": Rule(1, "no execution loops forever, unless a person, a crash or a `Retry` without limit causes the loop"),
    "refused": Rule(
        1,
        "every possible answer is accepted and recorded; an answer that does not fit the state is refused, with an "
        "explanation",
    ),
    "at most": Rule(
        1,
        "no part has more attempts than its `Retry` allows; the `Retry` is read when the next attempt is decided",
    ),
    "at least": Rule(
        1,
        "a part is given up before its attempts are used up only for one of these reasons: it rejected, its result was "
        "refused, `Retry.on` does not cover the error, it is in doubt and not repeatable, its call may still be "
        "running, every driver dies in it, or a cancel or the deadline took effect",
    ),
    "not again": Rule(
        1, "an attempt is not repeated if it rejected, its result was refused, or `Retry.on` does not cover its error"
    ),
    "anew": Rule(
        1,
        "attempts count from 1 at each part, and from 1 again after an operator's retry, which also removes the "
        "deadline",
    ),
    "waits": Rule(1, "no wait is shorter than its `Retry`, its `RetryAfterError` or its sleep requires"),
    "signal": Rule(1, "an accepted signal counts once; if the signal comes again, the first value counts"),
    "stuck": Rule(
        1,
        "before the pivot, a saga gets stuck only in a compensation, in a call that outlives time-out and grace, or in "
        "a part in which every driver dies; a pivot gets stuck only in doubt",
    ),
    "cancel": Rule(1, "a cancel or the deadline acts between two effects before the pivot, and at no other time"),
    "held": Rule(1, "a hold only delays: when the hold is removed, the announced attempt begins, and no other attempt"),
    "compensated": Rule(
        2, "a saga that failed has compensated every effect that can be compensated, also the effects of its branches"
    ),
    "newest first": Rule(2, "no effect is compensated before a later effect that can be compensated"),
    "error": Rule(
        2,
        "if an attempt, a part or a saga fails, its record names the error: the exception of the call, its time-out, "
        "the death of its driver, a cancel, the deadline, or the error of a branch",
    ),
    "leftovers": Rule(
        2, "the leftovers of a failed saga list every effect that was not compensated, also in branches at every depth"
    ),
    "pivot": Rule(2, "a saga does not fail after its pivot took effect"),
    "no effect": Rule(2, "a step is not compensated if it was never executed, or surely had no effect"),
    "succeeded": Rule(3, "a saga that succeeded has every signal and every effect, also the effects of its branches"),
    "no way back": Rule(3, "a saga does not succeed after it began to compensate"),
    "overtaken": Rule(
        4,
        "no effect begins while a call that outlived time-out and grace may still be running; the call's record says "
        "that it may be running",
    ),
    "forward": Rule(4, "no step is executed after a compensation has begun"),
    "known": Rule(4, "no step is executed again after its answer is known"),
    "not repeatable": Rule(4, "a step that is not repeatable is not repeated in doubt"),
    "probe": Rule(4, "if a step has a probe, the probe is called for an attempt in doubt, and its answer counts"),
    "results": Rule(
        4,
        "each step and each deciding function gets the results of the parts before it; each compensation gets the "
        "result of its own step",
    ),
    "decided": Rule(
        4,
        "a group has exactly the branches and payloads, and a wait has exactly the time, that were set or decided; a "
        "group or wait is given up without a decision only if its deciding function raises",
    ),
    "at a time": Rule(4, "a group begins `at_most` branches at a time, no more and no fewer"),
    "recovery": Rule(5, "the records and the unread items of the inbox give the same execution as the one that ran"),
}
"""Every rule that `verify` checks. The keys are the names of the rules."""


class Broken(NamedTuple):
    """A broken rule: the number of its law, the problem in words, and the rule's name."""

    law: int
    what: str
    rule: str


def broken(rule: str, what: str) -> Broken:
    """A `Broken` for the rule with the name *rule*. *what*: the problem, in words."""
    return Broken(RULES[rule].law, what, rule)
