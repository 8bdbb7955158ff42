"""The laws and the rules that `verify` checks. docs/rules.md has the same table.

A law is a promise in general words. Each rule belongs to a law and states one condition that can be checked. A
counterexample names the broken rule.
"""

from __future__ import annotations

from typing import Final, NamedTuple

LAWS: Final = {
    1: "from everywhere an end or a visible park is reachable, within the attempts that the policies allow",
    2: "a failed saga leaves no effect uncompensated, newest first, but those in its leftovers",
    3: "a saga that succeeded has every effect, and no compensation",
    4: "no attempt overtakes another, none follows compensation, nothing known is done again",
    5: "a crash at any point, and recovery, keep the other laws",
}


class Rule(NamedTuple):
    """One rule: the number of its law, and its text."""

    law: int
    says: str


RULES: Final = {
    "end": Rule(
        1, "from every situation an end can be reached, or a state that visibly waits for a person or a signal"
    ),
    "round": Rule(1, "nothing goes round for ever, unless a person, a crash or a `Retry` without limit makes it"),
    "refused": Rule(
        1, "every answer that can come is taken and recorded; what does not fit the state is refused, in words"
    ),
    "at most": Rule(
        1,
        "no round has more attempts than its `Retry` allows, as it is set when the next one is decided",
    ),
    "at least": Rule(
        1,
        "a part is given up before its attempts are used up only if it rejected, its result was refused, `Retry.on` "
        "does not cover the error, doubt forbids a repetition, its call still goes on, every driver dies in it, or a "
        "cancel or the deadline took hold",
    ),
    "not again": Rule(1, "what rejected, whose result was refused, or what `Retry.on` does not cover is not repeated"),
    "anew": Rule(1, "attempts count from 1 at each part, and anew after an operator's retry, which lifts the deadline"),
    "waits": Rule(1, "no wait is shorter than its `Retry`, its `RetryAfterError` or its sleep says"),
    "signal": Rule(1, "an accepted signal counts, once, and the first that comes is the one"),
    "stuck": Rule(
        1,
        "before the pivot nothing gets stuck but a call that outlives time-out and grace, a compensation, and what "
        "every driver dies in; a pivot gets stuck only in doubt",
    ),
    "cancel": Rule(1, "a cancel and the deadline take hold between effects and before the pivot, and nowhere else"),
    "held": Rule(1, "a hold only delays: when it is removed the announced attempt begins, and no other"),
    "compensated": Rule(2, "a failed saga has compensated every effect that can be compensated, of branches too"),
    "newest first": Rule(2, "nothing is compensated before what took effect after it"),
    "error": Rule(
        2,
        "whatever fails or is given up names its error: of the call, its time-out, its driver's death, a cancel, the "
        "deadline, its branches",
    ),
    "leftovers": Rule(
        2, "every other effect of a failed saga is in its leftovers, those of branches at every depth too"
    ),
    "pivot": Rule(2, "a saga whose pivot took effect does not fail"),
    "no effect": Rule(2, "what was never executed, or surely had no effect, is not compensated"),
    "succeeded": Rule(3, "a saga that succeeded has every effect, of branches too, and every signal"),
    "no way back": Rule(3, "a saga that has begun to compensate does not succeed"),
    "overtaken": Rule(
        4, "nothing is begun while a call that outlived time-out and grace may go on; its record says so"
    ),
    "forward": Rule(4, "no step is executed after a compensation has begun"),
    "known": Rule(4, "no step is executed again after its answer is known"),
    "not repeatable": Rule(4, "a step that is not repeatable is not repeated in doubt"),
    "probe": Rule(4, "where there is a probe, an attempt in doubt is asked about, and its answer holds"),
    "results": Rule(
        4, "each step and each deciding function sees the results of the parts before it, each compensation its own"
    ),
    "decided": Rule(
        4,
        "a group has the branches, each with its payload, and a wait has the time, that were set or decided; they are "
        "given up undecided only where the function raises",
    ),
    "at a time": Rule(4, "a group begins `at_most` branches at a time, no more and no fewer"),
    "recovery": Rule(5, "what is folded from the records, with what is left in the inbox, is the execution that ran"),
}
"""Every rule, by the name of the rule."""


class Broken(NamedTuple):
    """A broken rule: the number of its law, the problem in words, and the rule's name."""

    law: int
    what: str
    rule: str


def broken(rule: str, what: str) -> Broken:
    """A `Broken` for the rule with the name *rule*. *what*: the problem, in words."""
    return Broken(RULES[rule].law, what, rule)
