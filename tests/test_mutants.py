"""The verifier can fail: each deliberate fault in the machine or the rules breaks a law, and is found.

A mutant that survives is a hole in the verifier. ``docs/mutants.md`` is what this test found; it is held up to date by
``test_the_table_in_the_docs_is_what_was_found``, and written anew with ``python -m tests.test_mutants``.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from fsm_mediator import Parallel, Retry, Saga, Signal, Sleep, step
from fsm_mediator.execution import execution, rules
from fsm_mediator.execution.branching import enter_wait
from fsm_mediator.execution.execution import Execution
from fsm_mediator.machine import machine
from fsm_mediator.machine import table as machine_table
from fsm_mediator.records import (
    CANCEL,
    SIGNAL,
    WAKE,
    Abandoned,
    Branch,
    Branches,
    Crashed,
    Due,
    NotHappened,
    Returned,
    Signalled,
    TimedOut,
)
from fsm_mediator.verifier import LAWS, RULES, Report, Violation, shortening, state_space, verify
from fsm_mediator.verifier.state_space import StateSpace

TABLE = Path(__file__).parent.parent / "docs" / "mutants.md"
RULES_PAGE = TABLE.parent / "rules.md"
MARK = "<!-- the rules of fsm_mediator.verifier.RULES: written by `python -m tests.test_mutants` -->"
MADE_BY_RULE = "## Faults made by rule\n"
"""The heading of the other table, which `python -m tests.mutation --write` writes."""
PATIENT = Retry(attempts=2)

Patch = Callable[[Any, str, Any], None]
STEPS = ("plain", "leftovers", "timed", "probed", "pivoted")
"""The sagas of steps only."""
EVERY = (*STEPS, "waiting", "fanned", "limited", "planned")
MUTANTS: dict[str, tuple[set[int], Callable[[Patch], None], tuple[str, ...]]] = {}


def mutant(*laws: int, on: tuple[str, ...] = STEPS):
    """Register a mutant: its docstring says what it is; the laws that it breaks, and the sagas it is tried on."""

    def register(function):
        MUTANTS[function.__doc__] = (set(laws), function, on)
        return function

    return register


def made(name, *, compensates=True, **settings):
    """A step that does nothing."""
    one = step(name=name, retry=settings.pop("retry", PATIENT), compensation_retry=PATIENT, **settings)(lambda p: None)
    if compensates:
        one.compensation(lambda p: None)
    return one


PLANNED = Saga("planned", [Parallel.each("all", made("i"), over=lambda p: [])])
"""A group whose branches may be planned; made once, for its mutants are of the rules and not of the machine."""


def sagas() -> list[Saga]:
    """Together they have every feature of a saga."""
    asked = made("asked")
    asked.probing(lambda p: None)
    pivot = made("pivot", compensates=False, pivot=True)
    return [
        Saga("plain", [made("a"), made("b"), made("c")]),
        Saga("leftovers", [made("a"), made("mail", compensates=False), made("c")]),
        Saga("timed", [made("a", timeout=1.0), made("b", timeout=1.0, repeatable=False)]),
        Saga("probed", [made("a"), asked]),
        Saga("pivoted", [made("a"), pivot, made("after", compensates=False, retry=Retry(attempts=None))]),
        Saga("waiting", [made("a"), Signal("word", timeout=5.0), made("b"), Signal("ever"), Sleep("nap", 1.0)]),
        Saga("fanned", [made("a"), Parallel("fan", [made("x"), made("y", compensates=False)]), made("c")]),
        Saga("limited", [Parallel("few", [made("x"), made("y"), made("z")], at_most=1)]),
        PLANNED,
    ]


def found(on: tuple[str, ...]) -> list[Report]:
    """What the verifier says of each."""
    return [verify(saga, most_nodes=800) for saga in sagas() if saga.name in on]  # some mutants go on for ever


def wrapped(patch: Patch, name: str, around: Callable[..., Any]) -> None:
    """Have *around* called in place of a method of the execution, with the original first."""
    original = getattr(Execution, name)
    patch(Execution, name, lambda self, *args, **kwargs: around(original, self, *args, **kwargs))


def judged(patch: Patch, name: str, around: Callable[..., Any]) -> None:
    """Have *around* called in place of a function of the rules, with the original first."""
    original = getattr(rules, name)
    patch(rules, name, lambda *args, **kwargs: around(original, *args, **kwargs))


def ruled(patch: Patch, phase: str, around: Callable[..., Any]) -> None:
    """Have *around* called in place of the rule for a phase, with the original first."""
    original = rules.RULES[phase]
    patch(rules, "RULES", {**rules.RULES, phase: lambda *args: around(original, *args)})


def into(move: machine_table.Transition, target: str) -> machine_table.Transition:
    """The transition, into another state."""
    return machine_table.Transition(move.event, move.source, target)


def table(patch: Patch, change: Callable[[list[machine_table.Transition]], Any]) -> None:
    """Change the machine's table."""
    original = machine_table.transitions_of
    patch(machine, "transitions_of", lambda parts, every=False: iter(list(change(list(original(parts, every=every))))))


@mutant(2)
def _(patch):
    """Compensation skips the nearest completed step."""
    original = machine_table.nearest_compensation
    patch(machine_table, "nearest_compensation", lambda parts, before: original(parts, max(0, before - 1)))


@mutant(2)
def _(patch):
    """Compensation begins with the oldest step."""

    def oldest(parts, before):
        return next((f"compensating.{part.path}" for part in parts[:before] if part.compensatable), "failed")

    patch(machine_table, "nearest_compensation", oldest)


@mutant(2, 5)
def _(patch):
    """A step that is given up in doubt is not compensated."""
    table(
        patch,
        lambda moves: [
            machine_table.Transition(
                m.event, m.source, next(o.target for o in moves if o[:2] == ("rejected", m.source))
            )
            if m.event == "in_doubt"
            else m
            for m in moves
        ],
    )


@mutant(2, 5)
def _(patch):
    """Doubt is forgotten from one attempt to the next."""

    def forget(original, self, record, part):
        original(self, record, part)
        self.doubt = False

    wrapped(patch, "_apply", forget)


@mutant(2, 5)
def _(patch):
    """An attempt that gave no answer counts as an attempt without an effect."""

    def sure(original, data, part, answer, policy):
        error, _, again = original(data, part, answer, policy)
        return error, False, again

    judged(patch, "_judge", sure)


@mutant(1)
def _(patch):
    """A step gets one retry too many."""
    patch(Retry, "allows", lambda self, attempt: self.attempts is None or attempt <= self.attempts)


@mutant(1)
def _(patch):
    """A step is retried without end."""
    patch(Retry, "allows", lambda self, attempt: True)


@mutant(2)
def _(patch):
    """Leftovers are not reported."""
    patch(Execution, "leftovers", ())


@mutant(2)
def _(patch):
    """The leftovers lack a step that was given up in doubt."""

    def forget(original, self, record, part):
        original(self, record, part)
        self.doubtful = ()

    wrapped(patch, "_apply", forget)


@mutant(3)
def _(patch):
    """A step is skipped on the way forward."""

    def skip(moves):
        hop = ("executed", "executing.b")
        there = any(move.source == "executing.c" for move in moves)
        return [into(m, "executing.c") if there and (m.event, m.target) == hop else m for m in moves]

    table(patch, skip)
    patch(machine, "check_machine", lambda built: None)


@mutant(2)
def _(patch):
    """If the pivot is given up in doubt, the saga compensates."""

    def back(original, part, failure, doubt, *rest, **more):
        if part.pivot:
            return rules.Decision("rejected", error=failure, in_doubt=doubt)
        return original(part, failure, doubt, *rest, **more)

    judged(patch, "_give_up", back)


@mutant(1)
def _(patch):
    """If a part after the pivot is given up, the saga compensates and does not get stuck."""

    def back(original, part, failure, doubt, *rest, **more):
        if part.forward_only:
            return rules.Decision("rejected", error=failure)
        return original(part, failure, doubt, *rest, **more)

    judged(patch, "_give_up", back)


@mutant(4)
def _(patch):
    """If an operator retries a compensation, the step is executed again."""
    table(
        patch,
        lambda moves: [
            into(m, m.target.replace("compensating.", "executing."))
            if m.event == "retry" and m.target.startswith("compensating.") and not m.target.endswith((".fan", ".few"))
            else m
            for m in moves
        ],
    )


@mutant(5)
def _(patch):
    """A crash during a compensation counts as a completed compensation."""
    ruled(
        patch,
        "compensating",
        lambda rule, self, part, answer, at, chance: rule(
            self, part, Returned() if isinstance(answer, Crashed) else answer, at, chance
        ),
    )


@mutant(5)
def _(patch):
    """A crash during an attempt counts as an attempt without an effect."""

    def sure(original, data, part, answer, policy):
        error, doubt, again = original(data, part, answer, policy)
        return error, doubt and not isinstance(answer, Crashed), again

    judged(patch, "_judge", sure)


@mutant(4)
def _(patch):
    """The saga continues although a thread still runs after its time-out and its grace."""
    ruled(
        patch,
        "executing",
        lambda rule, self, part, answer, at, chance: rule(
            self, part, TimedOut(1.0) if isinstance(answer, Abandoned) else answer, at, chance
        ),
    )


@mutant(4, 5)
def _(patch):
    """A step in doubt is repeated although it is not repeatable."""
    ruled(
        patch,
        "executing",
        lambda rule, self, part, answer, at, chance: rule(self, replace(part, repeatable=True), answer, at, chance),
    )


@mutant(2, 5)
def _(patch):
    """After too many recoveries a step is given up as a step without an effect."""

    def forget(original, data, part, event, doubt):
        forwards = part.forward_only or data.phase == "compensating"
        return rules.Decision(event if forwards else "rejected", error=data.trouble)

    judged(patch, "_poisoned", forget)


@mutant(2, 5)
def _(patch):
    """A probe in which every driver dies counts as the answer `NotHappened`."""

    def forget(original, data, part, answer, at, chance):
        died = isinstance(answer, Crashed) and answer.times > 10
        return original(data, part, Returned(NotHappened()) if died else answer, at, chance)

    ruled(patch, "probing", forget)


@mutant(2, 5)
def _(patch):
    """A probe that raises counts as the answer `NotHappened`."""

    def no(rule, self, part, answer, at, chance):
        told = isinstance(answer, Crashed) or (isinstance(answer, Returned) and answer.value is not None)
        return rule(self, part, answer if told else Returned(NotHappened()), at, chance)

    ruled(patch, "probing", no)


@mutant(2)
def _(patch):
    """A compensation that used up its attempts counts as compensated."""
    table(
        patch,
        lambda moves: [
            into(m, next(o.target for o in moves if o[:2] == ("compensated", m.source)))
            if m.event == "compensation_exhausted"
            else m
            for m in moves
            if not m.source.startswith("stuck.") or m.source in ("stuck.pivot", "stuck.after")
        ],
    )
    patch(machine, "check_machine", lambda built: None)


@mutant(5)
def _(patch):
    """A fold of the records loses the number of the attempt."""
    original = Execution.replay

    def forgetful(self, record):
        original(self, record)
        if record.event == "retry_due":
            self.attempt = 1

    patch(Execution, "replay", forgetful)


@mutant(2)
def _(patch):
    """An undo begins with the oldest step."""
    table(
        patch,
        lambda moves: [
            into(m, f"compensating.{moves[0].target.partition('.')[2]}") if m.event == "undo" else m for m in moves
        ],
    )


@mutant(2, 5)
def _(patch):
    """A step whose result is refused counts as a step without an effect."""
    from fsm_mediator.errors import ResultRefusedError

    def sure(original, data, part, answer, policy):
        error, doubt, again = original(data, part, answer, policy)
        return error, doubt and not isinstance(error, ResultRefusedError), again

    judged(patch, "_judge", sure)


@mutant(3)
def _(patch):
    """If a person settles a step as not done, it counts as done."""
    table(
        patch,
        lambda moves: [
            into(m, next(o.target for o in moves if o[:2] == ("settled_done", m.source)))
            if m.event == "settled_undone" and any(o[:2] == ("settled_done", m.source) for o in moves)
            else m
            for m in moves
        ],
    )


@mutant(3, on=("waiting",))
def _(patch):
    """A signal that does not come in time counts as received."""
    ruled(
        patch,
        "waiting",
        lambda rule, self, part, answer, at, chance: rule(
            self, part, Signalled() if isinstance(answer, Due) and part.kind == "signal" else answer, at, chance
        ),
    )


@mutant(1, on=("waiting",))
def _(patch):
    """A signal that comes before the saga waits for it is lost."""

    def lose(original, self, item):
        if item.kind != SIGNAL or self.state == f"waiting.{item.name}":
            original(self, item)
        else:
            self.consumed += (item.number,)

    wrapped(patch, "receive", lose)


@mutant(1, on=("waiting",))
def _(patch):
    """A late signal resets the number of attempts of the current step."""

    def anew(original, self, item):
        original(self, item)
        if item.kind == SIGNAL and item.name in self.answered:
            self.attempt = min(self.attempt, 1)

    wrapped(patch, "receive", anew)


@mutant(3, on=("fanned",))
def _(patch):
    """A group succeeds as soon as one branch has succeeded and no branch is running."""

    def any_will_do(original, self, part, branches, at):
        if all(branch.state != "running" for branch in branches) and any(b.state == "succeeded" for b in branches):
            branches = [Branch(branch.name, "succeeded", branch.result) for branch in branches]
        return original(self, part, branches, at)

    judged(patch, "_joined", any_will_do)


@mutant(3, on=("fanned",))
def _(patch):
    """A group succeeds while some of its branches are running."""
    judged(
        patch,
        "_joined",
        lambda original, self, part, branches, at: original(
            self, part, [branch for branch in branches if branch.state != "running"], at
        ),
    )


@mutant(2, on=("fanned",))
def _(patch):
    """If the joined result of a group is refused, its branches count as branches without an effect."""

    def without_effect(original, self, part, branches, at):
        decision = original(self, part, branches, at)
        if decision is not None and decision.event == "in_doubt" and all(b.state == "succeeded" for b in branches):
            return replace(decision, event="rejected", in_doubt=False)
        return decision

    judged(patch, "_joined", without_effect)


def without(state: str):
    """Branches that stand so are passed over where a group is compensated."""

    def pass_over(original, data, answer):
        if isinstance(answer, Branches):
            answer = Branches(tuple(branch for branch in answer.branches if branch.state != state))
        return original(data, answer)

    return pass_over


@mutant(2, on=("fanned",))
def _(patch):
    """A group counts as compensated while some of its branches are running."""
    judged(patch, "_compensating_group", without("running"))


@mutant(2, on=("fanned",))
def _(patch):
    """A stuck branch counts as undone."""
    judged(patch, "_compensating_group", without("stuck"))


@mutant(2, on=("fanned",))
def _(patch):
    """The leftovers of branches are not reported."""

    def forget(original, self, record, part):
        original(self, record, part)
        self.branch_leftovers = None

    wrapped(patch, "_apply", forget)


def unbegun(state: str):
    """Branches that have not begun count as ones that stand so where a group is joined."""

    def count(original, self, part, branches, at):
        seen = [Branch(b.name, state, error=b.error) if b.state == rules.NOT_BEGUN else b for b in branches]
        return original(self, part, seen, at)

    return count


@mutant(3, on=("planned",))
def _(patch):
    """A planned branch that ended before it began counts as succeeded."""
    judged(patch, "_joined", unbegun("succeeded"))


@mutant(1, on=("planned",))
def _(patch):
    """A group waits for a planned branch that ended before it began."""
    judged(patch, "_joined", unbegun("running"))


@mutant(5, on=("fanned",))
def _(patch):
    """A recovery does not find the branches of a group."""
    original = Execution.replay

    def forgetful(self, record):
        original(self, record)
        self.plans = None

    patch(Execution, "replay", forgetful)


@mutant(2)
def _(patch):
    """An exception in `in_doubt_on` leaves no doubt."""

    def sure(original, data, part, answer, policy):
        error, doubt, again = original(data, part, answer, policy)
        return error, doubt and not isinstance(error, (ConnectionError, TimeoutError)), again

    judged(patch, "_judge", sure)


@mutant(2)
def _(patch):
    """An exception in `no_effect_on` leaves doubt, so a step without an effect is compensated."""

    def doubtful(original, data, part, answer, policy):
        error, doubt, again = original(data, part, answer, policy)
        return error, doubt or isinstance(error, ConnectionRefusedError), again

    judged(patch, "_judge", doubtful)


@mutant(2)
def _(patch):
    """A group of exceptions leaves no doubt, although one of its exceptions does."""
    judged(
        patch,
        "leaves_doubt",
        lambda original, part, error: original(part, error) and not isinstance(error, ExceptionGroup),
    )


@mutant(2)
def _(patch):
    """A step that exits during its call (`SystemExit`) leaves no doubt."""
    judged(patch, "leaves_doubt", lambda original, part, error: original(part, error) and isinstance(error, Exception))


@mutant(2)
def _(patch):
    """A rejected step is compensated, although it had no effect."""
    judged(
        patch,
        "_give_up",
        lambda original, part, failure, doubt, *rest, **more: original(part, failure, True, *rest, **more),
    )


@mutant(1)
def _(patch):
    """If the pivot is rejected without an effect, the saga gets stuck."""

    def stuck(original, part, failure, doubt, *rest, **more):
        return original(part, failure, doubt or part.pivot, *rest, **more)

    judged(patch, "_give_up", stuck)


@mutant(1)
def _(patch):
    """If a step before the pivot has used up its attempts, the saga gets stuck."""

    def stuck(original, part, failure, doubt, *rest, **more):
        decision = original(part, failure, doubt, *rest, **more)
        return replace(decision, event="exhausted") if part.timeout is not None else decision

    judged(patch, "_give_up", stuck)


@mutant(4)
def _(patch):
    """A step in doubt is repeated, and its probe is not called."""
    ruled(
        patch,
        "executing",
        lambda rule, self, part, answer, at, chance: rule(self, replace(part, probe=None), answer, at, chance),
    )


@mutant(4)
def _(patch):
    """The answer `NotHappened` of a probe counts as `Happened`."""

    def deaf(rule, self, part, answer, at, chance):
        denied = isinstance(answer, Returned) and isinstance(answer.value, NotHappened)
        return rule(self, part, Returned() if denied else answer, at, chance)

    ruled(patch, "probing", deaf)


@mutant(1)
def _(patch):
    """A step gets one retry too few."""
    patch(Retry, "allows", lambda self, attempt: self.attempts is None or attempt < self.attempts - 1)


@mutant(1)
def _(patch):
    """A rejected step is attempted again."""
    patch(Retry, "covers", lambda self, error: True)


@mutant(1)
def _(patch):
    """After an operator's retry, attempts do not count from 1 again."""

    def on(original, self, event, record):
        attempt = self.attempt
        original(self, event, record)
        if event == "retry":
            self.attempt = attempt

    wrapped(patch, "_apply_same_part", on)


@mutant(1, 5)
def _(patch):
    """An operator's retry does not lift the deadline."""

    def keep(original, self, event, record):
        deadline_at = self.deadline_at
        original(self, event, record)
        self.deadline_at = deadline_at

    wrapped(patch, "_apply_same_part", keep)


@mutant(1)
def _(patch):
    """The deadline stops a saga after its pivot."""

    def anywhere(original, data, at):
        phase, part = data.places[data.state]
        late = data.deadline_at is not None and at >= data.deadline_at
        if late and part is not None and part.forward_only and phase in ("pending", "executing", "retrying", "waiting"):
            return rules.Decision("exhausted", error=None)
        return original(data, at)

    judged(patch, "interrupted", anywhere)


@mutant(1)
def _(patch):
    """A cancel has no effect until the next retry is due."""

    def later(original, data, at):
        return None if data.phase == "retrying" else original(data, at)

    judged(patch, "interrupted", later)


@mutant(1)
def _(patch):
    """The wait between two attempts ends too early."""

    def early(original, self, at):
        if self.due_at is not None and self.phase == "retrying":
            self.due_at = at
        return original(self, at)

    wrapped(patch, "advance", early)


@mutant(1, 5)
def _(patch):
    """After the pivot, a step that waits for its next attempt is never woken."""

    def asleep(original, self, at):
        part = self.places[self.state].part
        return None if self.phase == "retrying" and part.forward_only else original(self, at)

    wrapped(patch, "advance", asleep)


@mutant(1)
def _(patch):
    """The wait that `RetryAfterError` asks for is ignored."""
    judged(patch, "wait_after", lambda original, error, wait: wait)


@mutant(4)
def _(patch):
    """A step does not see the result of the step before it."""
    wrapped(patch, "results_seen_by", lambda original, self, part: dict(list(original(self, part).items())[:-1]))


@mutant(4)
def _(patch):
    """A compensation sees the latest result instead of the result of its own step."""
    wrapped(patch, "_result_seen", lambda original, self, part: next(reversed(self.answered.values()), None))


@mutant(2)
def _(patch):
    """If a deploy lowers the number of attempts while a step in doubt waits for a retry, the doubt is lost."""

    def forget(rule, self, part, answer, at, chance):
        decision = rule(self, part, answer, at, chance)
        given_up = decision is not None and decision.event == "in_doubt"
        return replace(decision, event="rejected", in_doubt=False) if given_up else decision

    ruled(patch, "retrying", forget)


@mutant(1, on=("probed",))
def _(patch):
    """If a deploy lowers the number of attempts during a probe, a further attempt still follows."""

    def go_on(rule, data, part, *rest):
        return rule(data, replace(part, retry=replace(part.retry, attempts=10)), *rest)

    ruled(patch, "probing", go_on)


@mutant(2)
def _(patch):
    """The record of a rejected step contains no error."""

    def nameless(rule, self, part, answer, at, chance):
        decision = rule(self, part, answer, at, chance)
        return replace(decision, error=None) if decision is not None and decision.event == "rejected" else decision

    ruled(patch, "executing", nameless)


@mutant(1)
def _(patch):
    """A command that does not fit the state is ignored and not refused."""
    patch(rules, "_ignore_or_refuse", lambda data, answer: None)


@mutant(4, on=("waiting",))
def _(patch):
    """A sleep, and the time-out of a signal, last half as long as their settings say."""

    def hasty(data, part, at, value, before):
        due_at, children = enter_wait(data, part, at, value, before)
        return (None if due_at is None else at + (due_at - at) / 2), children

    patch(execution, "enter_wait", hasty)


@mutant(5, on=("waiting",))
def _(patch):
    """A signal is deleted from the inbox when it is read, and not when it is used."""

    def take(original, self, item):
        original(self, item)
        if self.signals and self.signals.get(item.name) is item:
            self.consumed += (item.number,)

    wrapped(patch, "receive", take)


@mutant(5)
def _(patch):
    """A cancel is deleted from the inbox when it is read, so a crash loses the cancel."""

    def take(original, self, item):
        original(self, item)
        if item.kind == "cancel" and self.cancellable:
            self.consumed += (item.number,)

    wrapped(patch, "receive", take)


@mutant(1, on=("waiting",))
def _(patch):
    """If two signals have the same name, the second counts."""

    def latest(original, self, item):
        if item.kind == SIGNAL and self.signals and item.name in self.signals:
            first = self.signals.pop(item.name)
            self.consumed += (first.number,)
        original(self, item)

    wrapped(patch, "receive", latest)


@mutant(1)
def _(patch):
    """When a hold is removed, the saga is cancelled."""

    def withdraw(original, self, item):
        original(self, replace(item, kind=CANCEL) if item.kind == WAKE else item)

    wrapped(patch, "receive", withdraw)


@mutant(1)
def _(patch):
    """A held attempt counts as an attempt that was made."""

    def count(original, self, item):
        original(self, item)
        if item.kind == WAKE:
            self.attempt += 1

    wrapped(patch, "receive", count)


@mutant(4, on=("limited",))
def _(patch):
    """A group begins one branch more than `at_most`."""
    original = vars(execution)["enter_wait"]

    def one_more(data, part, *rest):
        return original(data, replace(part, at_most=part.at_most + 1), *rest)

    patch(execution, "enter_wait", one_more)


def test_nothing_is_broken_without_a_mutant():
    """The rules as they are keep every law."""
    for report in found(EVERY):
        assert report.ok, str(report)


@functools.cache
def report_with(what: str, name: str) -> Report:
    """What the verifier says of the saga of that name while a mutant is in place."""
    with pytest.MonkeyPatch.context() as patches:
        MUTANTS[what][1](patches.setattr)
        return found((name,))[0]


def found_with(what: str) -> list[Report]:
    """What the verifier says of each saga while a mutant is in place."""
    return [report_with(what, saga.name) for saga in sagas() if saga.name in MUTANTS[what][2]]


def nearest(what: str) -> dict[int, Violation]:
    """The laws that a mutant breaks, and the shortest way to each."""
    reports = found_with(what)
    violations = [
        violation for report in reports for each in (report, *report.branches) for violation in each.violations
    ]
    violations.sort(key=lambda violation: -len(violation.path))  # the shortest come last, and so stay
    return {violation.law: violation for violation in violations}


@pytest.mark.parametrize("what", MUTANTS)
def test_each_mutant_is_caught(what):
    """Every deliberate fault breaks at least the law that it should."""
    laws = MUTANTS[what][0]
    broken = nearest(what).keys()
    assert broken, f"this mutant survives: {what}"
    assert laws & broken, f"caught by {broken} only: {what}"


def test_each_rule_of_the_table_is_broken_by_a_mutant():
    """A rule that no fault breaks would say nothing: each is found broken by the verifier."""
    broken = {
        rule
        for what in MUTANTS
        for report in found_with(what)
        for each in (report, *report.branches)
        for rule in each.broken_rules
    }

    assert broken == RULES.keys()


def rendered() -> str:
    """The table, as it stands in the docs."""
    number = len(MUTANTS)
    lines = [
        "# Mutants: what the verifier and the tests catch",
        "",
        "This page has two tables of deliberate faults. The faults of the first table are written by hand: each",
        "is a plausible mistake in the rules. The faults of the second table are made by a program, and measure",
        "how many faults are found.",
        "",
        "## Faults written by hand",
        "",
        f"The table lists {number} deliberate faults in the machine or the rules, and the laws by which `verify` found",
        "each fault. The last column has the number of events on the shortest path that breaks a law. Each fault",
        "is also played on a real mediator, where it breaks the law or takes a forbidden path.",
        "`tests/test_counterexamples.py` names the faults that cannot be played, with the reasons.",
        "[Verification](verification.md) explains `verify`.",
        "",
        "`python -m tests.test_mutants` writes this table. A test fails if the table is not up to date.",
        "",
        "| the fault | caught by law | events on the shortest path |",
        "|---|---|---|",
    ]
    for what in MUTANTS:
        ways = nearest(what)
        shortest = min(len(violation.path) for violation in ways.values())
        lines.append(f"| {what} | {', '.join(map(str, sorted(ways)))} | {shortest} |")
    lines += ["", "The laws:", "", *(f"{law}. {text}" for law, text in LAWS.items()), "", ""]
    return "\n".join(lines)


def equal_steps() -> Saga:
    """Eight steps with equal settings."""
    return Saga("equal", [made(f"s{number}", retry=PATIENT) for number in range(8)])


def mixed_steps() -> Saga:
    """Steps of three kinds, one after another: with five attempts, that cannot be compensated, and with a time-out."""
    kinds: list[dict[str, Any]] = [{"retry": Retry(attempts=5)}, {"compensates": False}, {"timeout": 1.0}]
    return Saga("mixed", [made(f"s{number}", **kinds[number % 3]) for number in range(11)])


def steps_alike_on_the_way_back() -> Saga:
    """Steps of four kinds on the way forward, of which three are one kind on the way back."""
    kinds: list[dict[str, Any]] = [{}, {"retry": Retry(attempts=1)}, {"repeatable": False}, {"compensates": False}]
    return Saga("alike", [made(f"s{number}", **kinds[number % 4]) for number in range(12)])


OF_STEPS = [what for what, (_, _, on) in MUTANTS.items() if on is STEPS]


@pytest.mark.parametrize("make", [equal_steps, mixed_steps, steps_alike_on_the_way_back])
def test_steps_that_are_alike_are_left_out(make, monkeypatch):
    """Whole, or on the way back."""
    monkeypatch.setattr(shortening, "WHOLE", 4)
    shorter = shortening.shortened(make())

    assert shorter is not None
    assert len(shorter.saga.parts) < len(make().parts)
    assert shorter.passed or make is not steps_alike_on_the_way_back


@pytest.mark.once
@pytest.mark.parametrize("make", [equal_steps, mixed_steps, steps_alike_on_the_way_back])
@pytest.mark.parametrize(
    "what", [what if at % 4 == 0 else pytest.param(what, marks=pytest.mark.torture) for at, what in enumerate(OF_STEPS)]
)
def test_shortened_saga_breaks_the_rules_that_the_whole_breaks(what, make, monkeypatch):
    """Whatever fault is in the machine or the rules: steps and attempts that are left out hide nothing."""
    monkeypatch.setattr(shortening, "WHOLE", 4)
    MUTANTS[what][1](monkeypatch.setattr)
    shorter = shortening.shortened(make())
    monkeypatch.setattr(shortening, "WHOLE", 40)

    if shorter is not None:  # else the fault has made the rows of its steps differ
        whole = verify(make(), most_nodes=5000)
        monkeypatch.setattr(state_space, "shortened", lambda saga: shorter)
        monkeypatch.setattr(StateSpace, "walk_whole", lambda space: None)
        few = verify(make(), most_nodes=5000)
        assert set(few.broken_rules) >= set(whole.broken_rules)
        assert few.broken_rules == whole.broken_rules or not whole.complete
        proved = {law: verdict for law, verdict in whole.verdicts.items() if verdict != "unproved"}
        assert {law: few.verdicts[law] for law in proved} == proved


def rules_page() -> str:
    """The page of the rules, with the laws' own table at its end."""
    text = RULES_PAGE.read_text(encoding="utf-8")
    above = text[: text.index(MARK) + len(MARK)]
    rows = [f"| `{name}` | {rule.law} | {rule.says} |" for name, rule in RULES.items()]
    return "\n".join([above, "", "| rule | law | what it says |", "|---|---|---|", *rows]) + "\n"


def test_the_page_of_the_rules_has_the_table_of_the_laws():
    """The rules that I read are the rules that `verify` holds, word for word."""
    assert RULES_PAGE.read_text(encoding="utf-8") == rules_page()


def test_the_table_in_the_docs_is_what_was_found():
    """What the docs say of the mutants is what the verifier does to them."""
    assert TABLE.read_text(encoding="utf-8").partition(MADE_BY_RULE)[0] == rendered()


if __name__ == "__main__":
    RULES_PAGE.write_text(rules_page(), encoding="utf-8")
    made_by_rule = "".join(TABLE.read_text(encoding="utf-8").partition(MADE_BY_RULE)[1:])
    TABLE.write_text(f"{rendered()}{made_by_rule}", encoding="utf-8")
