"""The laws: random sagas, to which random things happen, end as they must; on both mediators, with objects and JSON.

What really happened is in the participants' own ledger (`tests.ledger`), which the library never sees. Nothing here
knows how the library decides: each law only says what must be true of the ledger and of what the caller is told.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import attrs
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from fsm_mediator import (
    Execution,
    MemoryJournal,
    Outcome,
    RefusedError,
    SagaUndoneError,
)
from tests.drivers import Died, examples
from tests.ledger import PAYLOAD, SAGA_ID, Act, Call, Ledger, Plan, Role, plans, staged
from tests.virtual import AsyncDriver, Driver, SyncDriver, driven

JOURNALS: dict[str, Callable[[], MemoryJournal]] = {
    "objects": MemoryJournal,
    "encoded": lambda: MemoryJournal(encode=True),
}
Kind = type[SyncDriver | AsyncDriver]


@attrs.define
class Run:
    """A plan that was carried out."""

    plan: Plan
    ledger: Ledger
    outcome: Outcome
    before_undo: Outcome | None = None


def carried_out(plan: Plan, kind: Kind, journal: MemoryJournal) -> Run:
    """Carry the plan out to the end; whenever the saga is stuck, a person does something about it."""
    ledger = Ledger(plan)
    stage: list[Driver] = []
    saga = staged(plan, ledger, lambda: stage[0], coroutines=kind.coroutines)
    with driven(kind, saga, journal) as driver:
        stage.append(driver)

        def to_rest(call: Callable[[], Outcome]) -> Outcome:
            """However often whoever drives it dies: somebody asks for the same saga again."""
            while True:
                try:
                    return call()
                except Died:
                    call = start

        def start() -> Outcome:
            return driver.run(saga, PAYLOAD, saga_id=SAGA_ID)

        outcome = mended(plan, ledger, driver, to_rest(start), to_rest)
        run = Run(plan, ledger, outcome)
        nothing_more_happens(ledger, driver, outcome, start)
        if plan.undo and outcome.succeeded:
            run.before_undo = outcome
            if any(role.pivot for role in plan.roles) or not any(role.compensates for role in plan.roles):
                refused(ledger, lambda: driver.say("undo", SAGA_ID))
            else:
                outcome = to_rest(lambda: driver.say("undo", SAGA_ID, "a mistake"))
                run.outcome = outcome = mended(plan, ledger, driver, outcome, to_rest)
            nothing_more_happens(ledger, driver, outcome, start)
        return run


def mended(
    plan: Plan,
    ledger: Ledger,
    driver: Driver,
    outcome: Outcome,
    to_rest: Callable[[Callable[[], Outcome]], Outcome],
) -> Outcome:
    """The outcome once it has ended: as long as it is stuck, a person retries, or settles it by hand."""
    verbs: Iterator[str] = iter(plan.verbs)
    while outcome.stuck:
        path = outcome.step
        assert path is not None
        role = ledger.at[path]
        ledger.a_person_is_asked(path)
        assert len(ledger.asked) < 100, "it is stuck for ever"
        verb = next(verbs, "retry")
        if verb == "retry":
            outcome = to_rest(lambda: driver.say("retry", SAGA_ID, "mended"))
            continue
        possible = not role.compensates if verb == "done" else not role.forward_only
        if not possible:
            how = {"reason": "I looked", "done": verb == "done"}
            refused(ledger, lambda: driver.say("resolve", SAGA_ID, **how))  # noqa: B023 - called here and now
            continue
        settled: dict[str, Any] = {"done": verb == "done", "result": ledger.by_hand(path, done=verb == "done")}
        outcome = to_rest(lambda: driver.say("resolve", SAGA_ID, reason="I looked", **settled))  # noqa: B023 - likewise
    return outcome


def refused(ledger: Ledger, call: Callable[[], object]) -> None:
    """It is refused, and nobody is called."""
    calls = len(ledger.calls)
    with pytest.raises(RefusedError):
        call()
    assert len(ledger.calls) == calls


def nothing_more_happens(ledger: Ledger, driver: Driver, outcome: Outcome, start: Callable[[], Outcome]) -> None:
    """After an end state nobody is called any more, whatever is asked for."""
    assert outcome.ended, outcome
    calls = len(ledger.calls)
    again = start()
    assert (again.state, again.results, again.leftovers) == (outcome.state, outcome.results, outcome.leftovers)
    assert again.history == outcome.history
    for verb in ("cancel", "retry"):
        refused(ledger, lambda: driver.say(verb, SAGA_ID))  # noqa: B023 - called here and now
    refused(ledger, lambda: driver.say("resolve", SAGA_ID, reason="x", done=True))
    if outcome.failed:
        refused(ledger, lambda: driver.say("undo", SAGA_ID))
    assert len(ledger.calls) == calls


# The laws. Each gives what is wrong, in words.


def law_the_truth_is_told(run: Run) -> Iterator[str]:
    """Every call is told the right keys, results, doubt and error."""
    yield from run.ledger.untrue


def law_each_step_is_asked_under_one_key_of_its_own(run: Run) -> Iterator[str]:
    """Every repetition of a call has the same key, so that a participant can tell; no two steps share one."""
    keys = [key for step in run.ledger.steps.values() for key in sorted(step.keys)]
    called = {call.path for call in run.ledger.calls}
    if len(keys) != len(set(keys)) or len(keys) != len(called):
        yield f"{len(called)} steps were asked under the keys {keys}"


def law_success_has_every_effect(run: Run) -> Iterator[str]:
    """A saga succeeds exactly if every step is done; then every effect is there, and nothing was compensated."""
    ledger, outcome = run.ledger, run.before_undo or run.outcome
    missing = [path for path, step in ledger.steps.items() if not step.done]
    if outcome.succeeded is not (not missing):
        yield f"it is {outcome.state}, and not done are {missing}"
    if run.outcome.succeeded:
        missing = [path for path, step in ledger.steps.items() if not step.effect]
        if missing or any(call.verb == "compensate" for call in ledger.calls):
            yield f"it succeeded without the effects of {missing}: {ledger.calls}"
    if outcome.succeeded and (outcome.leftovers or outcome.compensated or outcome.error is not None):
        yield f"it succeeded with {outcome.leftovers}, {outcome.compensated}, {outcome.error!r}"


def law_results_are_told_as_they_were_returned(run: Run) -> Iterator[str]:
    """The outcome has the result of every step that is done, in the order of the steps, and of no other."""
    expected = {path: step.result for path, step in run.ledger.steps.items() if step.done}
    if list(flat(run.outcome.results).items()) != list(expected.items()):
        yield f"the results are told as {run.outcome.results}, and are {expected}"


def flat(results: Any) -> dict[str, Any]:
    """Results by path."""
    found = {}
    for name, value in results.items():
        if name == "inner":
            found.update({f"inner.{each}": result for each, result in value.items()})
        else:
            found[name] = value
    return found


def law_failure_ends_fully_compensated(run: Run) -> Iterator[str]:
    """A failed saga has no effect of a step that can be compensated, unless a person said otherwise by hand."""
    if not run.outcome.failed:
        return
    for path, step in run.ledger.steps.items():
        if run.ledger.at[path].compensates and step.effect:
            yield f"it failed, and {path} still has its effect"
        if step.effect and path not in run.outcome.leftovers:
            yield f"it failed, {path} still has its effect, and is not listed"


def law_what_is_compensated_was_done_and_in_order(run: Run) -> Iterator[str]:
    """What may have had an effect is compensated, nothing else, newest first; and the caller is told just that."""
    ledger, paths = run.ledger, run.plan.paths()
    order = [call.path for call in ledger.calls if call.verb == "compensate"]
    first_calls = list(dict.fromkeys(order))
    if first_calls != sorted(first_calls, key=paths.index, reverse=True):
        yield f"compensated in the order {first_calls}"
    if order != sorted(order, key=first_calls.index):
        yield f"came back to a compensation that was over: {order}"
    if list(run.outcome.compensated) != ledger.undone:
        yield f"it says it compensated {run.outcome.compensated}, and it was {ledger.undone}"
    for path, step in ledger.steps.items():
        called = path in first_calls
        if called and not (step.done or had_doubt(ledger, path)):
            yield f"{path} was compensated, and had never been done nor been in doubt"
        owed = run.outcome.failed and ledger.at[path].compensates and (step.done or step.doubt)
        if owed and not (step.compensated or step.by_hand):
            yield f"it failed, and {path} was done and not compensated"


def had_doubt(ledger: Ledger, path: str) -> bool:
    """Whether a call of `execute` may ever have had an effect that nobody saw."""
    return any(call.verb == "execute" and call.path == path and Act(call.act).leaves_doubt for call in ledger.calls)


def law_leftovers_are_exactly_what_was_not_compensated(run: Run) -> Iterator[str]:
    """`leftovers`: the steps without compensation that were done, or may have been; in the saga's order."""
    if not run.outcome.failed:
        return
    expected = tuple(
        path
        for path, step in run.ledger.steps.items()
        if not run.ledger.at[path].compensates and (step.done or step.doubt)
    )
    if run.outcome.leftovers != expected:
        yield f"the leftovers are told as {run.outcome.leftovers}, and are {expected}"


def law_steps_run_in_order_and_never_after_compensation(run: Run) -> Iterator[str]:
    """A step begins once those before it are done; once anything is compensated, nothing is executed."""
    paths = run.plan.paths()
    going_back, furthest = False, 0
    for call in run.ledger.calls:
        at = paths.index(call.path)
        if call.verb == "compensate":
            going_back = True
        elif going_back:
            yield f"{call.verb} of {call.path} after compensation had begun"
        elif at not in (furthest, furthest + 1):
            yield f"{call.verb} of {call.path} while it was {paths[furthest]}'s turn"
        furthest = at if call.verb != "compensate" else furthest


def law_attempts_never_exceed_the_policy(run: Run) -> Iterator[str]:
    """Attempts are counted 1, 2, 3, as many as the policy allows, and anew only after a person's retry."""
    rounds = {record.target: 1 for record in run.outcome.history}
    for record in run.outcome.history:
        rounds[record.target] += record.event == "retry"
    last: dict[tuple[str, str], int] = {}
    begun: dict[tuple[str, str], int] = {}
    for call in run.ledger.calls:
        if call.verb == "probe":
            if call.attempt != last.get((call.path, "execute")):
                yield f"the probe of {call.path} was told attempt {call.attempt}"
            continue
        key = (call.path, call.verb)
        role = run.ledger.at[call.path]
        limit = role.attempts if call.verb == "execute" else role.compensation_attempts
        if limit is not None and call.attempt > limit:
            yield f"attempt {call.attempt} of {limit} to {call.verb} {call.path}"
        if call.attempt == 1:
            begun[key] = begun.get(key, 0) + 1
        elif call.attempt != last.get(key, 0) + 1:
            yield f"attempt {call.attempt} to {call.verb} {call.path} came after attempt {last.get(key, 0)}"
        last[key] = call.attempt
    for (path, verb), times in begun.items():
        state = f"{'executing' if verb == 'execute' else 'compensating'}.{path}"
        if times > rounds.get(state, 1):
            yield f"{verb} of {path} began {times} times, in {rounds.get(state, 1)} rounds"


def law_attempts_are_used_up(run: Run) -> Iterator[str]:
    """A step is not given up while its policy allows another attempt and nobody forbids it."""
    ledger = run.ledger
    for path, step in ledger.steps.items():
        role = ledger.at[path]
        calls = [call for call in ledger.calls if call.path == path and call.verb == "execute"]
        if not calls or step.done or step.by_hand or ledger.cancelled or run.plan.deadline is not None:
            continue
        gave_up = calls[-1]
        may_not_repeat = not role.repeatable and had_doubt(ledger, path)
        if role.attempts is not None and gave_up.attempt == role.attempts:
            continue
        if gave_up.act != "rejects" and not may_not_repeat:
            yield f"{path} was given up after attempt {gave_up.attempt} of {role.attempts}, which {gave_up.act}"


def law_a_person_is_asked_only_where_nothing_else_is_right(run: Run) -> Iterator[str]:
    """Stuck: a compensation or a step after the pivot used up its attempts or was refused; or the pivot is in doubt."""
    for call, doubt in run.ledger.asked:
        role = run.ledger.at[call.path]
        limit = role.compensation_attempts if call.verb == "compensate" else role.attempts
        over = call.attempt == limit or call.act == "rejects" or (doubt and not role.repeatable)
        ended = run.ledger.cancelled or run.plan.deadline is not None
        lawful = over
        if call.verb == "execute" and role.pivot:
            lawful = doubt and (over or ended)
        if not lawful:
            yield f"a person was asked about {call}, in doubt: {doubt}"


def law_a_pivot_in_doubt_is_never_gone_back_on(run: Run) -> Iterator[str]:
    """Nothing is compensated while the pivot may have had its effect: a person is asked first."""
    for path, step in run.ledger.steps.items():
        if run.ledger.at[path].pivot and step.doubt and run.outcome.failed:
            yield f"it went back, and the pivot {path} is in doubt"


def law_waits_are_as_long_as_the_policy_and_the_step_say(run: Run) -> Iterator[str]:
    """Between two attempts lies the backoff, and what the step itself asked for."""
    before: dict[tuple[str, str], Call] = {}
    for call in run.ledger.calls:
        last = before.get((call.path, call.verb))
        if call.verb != "probe" and last is not None and call.attempt == last.attempt + 1:
            least = max(min(2.0 ** (last.attempt - 1), 8.0), 5.0 if last.act == "later" else 0.0)
            if call.at - last.at < least:
                yield f"{call} came {call.at - last.at} seconds after {last}"
        before[call.path, call.verb] = call


def law_what_must_not_be_repeated_is_not(run: Run) -> Iterator[str]:
    """A step that is not repeatable is not called again in doubt, unless its probe denies it or a person says so."""
    doubt: set[str] = set()
    for call, following in zip(run.ledger.calls, [*run.ledger.calls[1:], None], strict=True):
        if run.ledger.at[call.path].repeatable or call.verb == "compensate" or run.ledger.operated:
            continue
        if call.verb == "execute":
            if call.path in doubt:
                yield f"{call.path} was repeated in doubt"
            if Act(call.act).leaves_doubt:
                doubt.add(call.path)
        elif call.act == "tells" and following is not None:
            doubt.discard(call.path)


def law_cancel_and_deadline_end_the_attempts(run: Run) -> Iterator[str]:
    """After a cancel was taken, or the deadline has passed, no attempt of a step begins that could still go back."""
    if run.ledger.operated:  # a person's retry lifts both
        return
    for call in run.ledger.calls:
        if call.verb != "execute" or run.ledger.at[call.path].forward_only:
            continue
        if call.after_cancel:
            yield f"{call.path} was executed after a cancel"
        if run.plan.deadline is not None and call.at >= run.plan.deadline:
            yield f"{call.path} was executed at {call.at}, after the deadline"


def law_history_is_a_path_through_the_machine(run: Run) -> Iterator[str]:
    """The history is without gaps, leads to where the saga stands, and folds to the same outcome."""
    outcome = run.outcome
    moves = {(move.event, move.source, move.target) for move in outcome.saga.machine.moves()}
    before = "pending"
    for number, record in enumerate(outcome.history, 1):
        if (record.seq, record.source) != (number, before):
            yield f"record {record.seq} leaves {record.source}, after {before}"
        if (record.event, record.source, record.target) not in moves:
            yield f"record {record.seq} is no move of the machine: {record}"
        before = record.target
    if before != outcome.state:
        yield f"its history leads to {before}, and it stands in {outcome.state}"
    times = [record.at for record in outcome.history]
    if times != sorted(times):
        yield f"time runs backward: {times}"


def law_an_undone_saga_says_so(run: Run) -> Iterator[str]:
    """A saga that a person undid fails with an error that says so."""
    undone = run.before_undo is not None and run.outcome.failed
    if undone is not (isinstance(run.outcome.error, SagaUndoneError)):
        yield f"its error is {run.outcome.error!r}"
    if run.outcome.failed and run.outcome.error is None:
        yield "it failed without an error"


LAWS = [law for name, law in sorted(globals().items()) if name.startswith("law_")]


def broken_laws(run: Run) -> list[str]:
    """What is wrong, law by law."""
    return [f"{law.__doc__}: {broken}" for law in LAWS for broken in law(run)]


def role(name: str, *execute: str, **settings: Any) -> Role:
    """A role, spelt out."""
    values: dict[str, Any] = {
        "compensates": True,
        "pivot": False,
        "forward_only": False,
        "probes": False,
        "repeatable": True,
        "attempts": 2,
        "compensation_attempts": 2,
        "timed": "slow" in execute,
        "plain": True,
        "execute": tuple(Act(kind, effect=kind in ("returns", "lost")) for kind in execute),
        "compensate": (),
        "probe": (),
    }
    return Role(name=name, **{**values, **settings})


def plan(*roles: Role, **settings: Any) -> Plan:
    """A plan, spelt out."""
    values: dict[str, Any] = {"nested": None, "deadline": None, "verbs": (), "undo": False}
    return Plan(roles=roles, **{**values, **settings})


GOES_BACK = plan(role("s0"), role("s1", compensates=False), role("s2", "raises", "lost"), nested=(1, 3))
GETS_STUCK = plan(
    role("s0", compensate=(Act("raises"), Act("lost", effect=True))), role("s1", "rejects"), verbs=("done", "undone")
)
IN_DOUBT_AT_THE_PIVOT = plan(
    role("s0"),
    role("s1", "dies", "lost", pivot=True, compensates=False),
    role("s2", "rejects", compensates=False, forward_only=True, attempts=None),
    verbs=("retry", "undone", "done"),
)
TOO_LATE_TO_GO_BACK = plan(
    role("s0"),
    role("s1", pivot=True, compensates=False, execute=(Act("returns", effect=True, cancels=True),)),
    role("s2", *["raises"] * 4, compensates=False, forward_only=True, attempts=None),
    deadline=1.0,
)
IS_UNDONE = plan(role("s0", "slow", plain=False), role("s1", "lost", probes=True, repeatable=False), undo=True)


@pytest.mark.parametrize("journal", JOURNALS)
@pytest.mark.parametrize("kind", [SyncDriver, AsyncDriver])
@settings(max_examples=examples(60, 25), suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@example(plan=GOES_BACK)
@example(plan=GETS_STUCK)
@example(plan=IN_DOUBT_AT_THE_PIVOT)
@example(plan=TOO_LATE_TO_GO_BACK)
@example(plan=IS_UNDONE)
@given(plan=plans())
def test_laws_hold_whatever_happens(kind: Kind, journal: str, plan: Plan) -> None:
    """Whatever my steps do, on either mediator: all is done once, or undone, newest first, or listed as left over."""
    run = carried_out(plan, kind, JOURNALS[journal]())

    assert broken_laws(run) == []


@settings(max_examples=examples(60, 25), suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@example(plan=GOES_BACK, names=("objects", "encoded"))
@example(plan=GETS_STUCK, names=("encoded", "objects"))
@example(plan=IN_DOUBT_AT_THE_PIVOT, names=("objects", "objects"))
@example(plan=TOO_LATE_TO_GO_BACK, names=("objects", "encoded"))
@example(plan=IS_UNDONE, names=("encoded", "encoded"))
@given(plan=plans(), names=st.tuples(*[st.sampled_from(sorted(JOURNALS))] * 2))
def test_both_mediators_write_the_same_records(plan: Plan, names: tuple[str, str]) -> None:
    """A saga's history does not depend on whether I run it with Mediator or AsyncMediator, nor on the journal."""
    one = carried_out(plan, SyncDriver, JOURNALS[names[0]]())
    two = carried_out(plan, AsyncDriver, JOURNALS[names[1]]())

    assert list(one.outcome.history) == list(two.outcome.history)
    assert one.ledger.calls == two.ledger.calls
    assert (one.outcome.state, one.outcome.results) == (two.outcome.state, two.outcome.results)
    assert (one.outcome.leftovers, one.outcome.compensated) == (two.outcome.leftovers, two.outcome.compensated)
    assert str(one.outcome.summary()) == str(two.outcome.summary())


@given(plan=plans(max_size=4))
@settings(max_examples=examples(30, 12), suppress_health_check=[HealthCheck.too_slow])
def test_records_fold_to_what_the_mediator_told(plan: Plan) -> None:
    """What is in the journal alone gives the outcome that the caller was given."""
    journal = MemoryJournal()
    run = carried_out(plan, SyncDriver, journal)
    entry = journal.find(SAGA_ID)
    assert entry is not None

    told = Execution.fold(run.outcome.saga, entry.acceptance, journal.records(SAGA_ID)).outcome()

    assert told.summary() == run.outcome.summary()
    assert (told.state, told.results, told.leftovers) == (run.outcome.state, run.outcome.results, run.outcome.leftovers)


# Threads that cannot be ended


def lags(kind: str, *, effect: bool, where: str, compensates: bool) -> Plan:
    """A saga in which one call is late, or outlasts time-out and grace."""
    acts = {where: (Act(kind, effect=effect),)}
    slow = role("s1", compensates=compensates, timed=True, overtakes=False, **acts)
    return plan(role("s0"), slow, role("s2", *(["rejects"] if where == "compensate" else [])))


@given(effect=st.booleans(), where=st.sampled_from(["execute", "compensate"]), compensates=st.booleans())
@settings(max_examples=examples(12, 6))
def test_laws_hold_where_an_answer_comes_late(effect: bool, where: str, compensates: bool) -> None:
    """An answer that comes after the time-out, but within the grace, is the answer: nothing is repeated or undone."""
    plan = lags("late", effect=True, where=where, compensates=compensates or where == "compensate")
    run = carried_out(plan, SyncDriver, MemoryJournal())

    assert broken_laws(run) == []
    assert run.outcome.succeeded is (where == "execute")
    assert [record.reason for record in run.outcome.history if record.step == "s1"][-1] == "answered late"
    assert [call.attempt for call in run.ledger.calls] == [1] * len(run.ledger.calls)


@given(
    effect=st.booleans(),
    where=st.sampled_from(["execute", "compensate"]),
    compensates=st.booleans(),
    retries=st.booleans(),
    fails_later=st.booleans(),
)
@settings(max_examples=examples(25, 12))
def test_laws_hold_where_a_thread_is_left_behind(
    effect: bool, where: str, compensates: bool, retries: bool, fails_later: bool
) -> None:
    """A thread that outlasts time-out and grace is never overtaken: a person waits for it, looks, and decides."""
    plan = lags("outlasts", effect=effect, where=where, compensates=compensates or where == "compensate")
    if fails_later:
        plan = attrs.evolve(plan, roles=(*plan.roles[:2], role("s2", "rejects")))
    ledger = Ledger(plan)
    stage: list[Driver] = []
    saga = staged(plan, ledger, lambda: stage[0], coroutines=False)
    with driven(SyncDriver, saga, MemoryJournal()) as driver:
        assert isinstance(driver, SyncDriver)
        stage.append(driver)
        outcome = driver.run(saga, PAYLOAD, saga_id=SAGA_ID)
        assert outcome.stuck
        assert outcome.history[-1].abandoned
        for say in (
            lambda: driver.say("retry", SAGA_ID),
            lambda: driver.say("resolve", SAGA_ID, reason="x", done=False),
        ):
            refused(ledger, say)
        driver.let_go()
        (thread,) = ledger.left_behind
        thread.join()

        ledger.operated = True
        if retries:
            outcome = driver.say("retry", SAGA_ID, "its thread has ended")
        else:
            done = where == "execute" and ledger.steps["s1"].effect
            result = ledger.by_hand("s1", done=done)
            outcome = driver.say("resolve", SAGA_ID, reason="I looked", done=done, result=result)

    told = [record.reason for record in outcome.history if record.event in ("retry", "settled_done", "settled_undone")]
    assert "the abandoned attempt to" in str(told[0])
    assert outcome.ended
    assert broken_laws(Run(plan, ledger, outcome)) == []
