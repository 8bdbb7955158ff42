"""The rules, one by one: what each answer means in each phase, as the whole decision, with its words.

``decisions.txt`` holds what is expected, one line a case, to be read: `python -m tests.test_rules` writes it anew.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from fsm_mediator import Execution, Parallel, Retry, Saga, Signal, Sleep, step
from fsm_mediator.errors import (
    DeadlineExceededError,
    OutcomeUnknownError,
    RefusedError,
    ResultRefusedError,
    RetryAfterError,
    SiblingFailedError,
    StepRejectedError,
)
from fsm_mediator.execution import rules
from fsm_mediator.execution.rules import Decision
from fsm_mediator.records import (
    CANCEL,
    Abandoned,
    Acceptance,
    Answer,
    Begin,
    Branch,
    Branches,
    Crashed,
    Due,
    Happened,
    InboxItem,
    NotHappened,
    OperatorRetry,
    OperatorSettled,
    OperatorUndo,
    Raised,
    Returned,
    Signalled,
    TimedOut,
)

WAIT = Retry(attempts=3, wait_initial=4.0, wait_jitter=2.0)
ONCE = Retry(attempts=1)
AT = 1000.0
CHANCE = 0.5
DEADLINE = 5000.0


def made(name: str, *, compensates: bool = True, probe: bool = False, **settings: Any):
    """A step that is never called."""
    one = step(name=name, **{"retry": WAIT, "compensation_retry": WAIT, **settings})(lambda payload: None)
    if compensates:
        one.compensation(lambda payload: None)
    if probe:
        one.probing(lambda payload: None)
    return one


PIVOT = made("pivot", compensates=False, pivot=True)


def at(
    *parts: Any, deadline_at: float | None = None, accepted_at: float = 0.0
) -> Callable[..., Callable[[], Execution]]:
    """What makes an execution of *parts* that was given some answers, each wait over at once."""

    def after(*answers: Answer | InboxItem, **changes: Any) -> Callable[[], Execution]:
        def make() -> Execution:
            saga = Saga("s", list(parts))
            execution = Execution(
                saga, Acceptance("id", "s", saga.version, saga.fingerprint, None, accepted_at, deadline_at)
            )
            for answer in answers:
                if isinstance(answer, InboxItem):
                    execution.receive(answer)
                else:
                    execution.feed(answer, 0.0)
            for name, value in changes.items():
                setattr(execution, name, value)
            return execution

        return make

    return after


def in_words(decision: Decision | None) -> dict[str, Any] | None:
    """What a decision says that is not the usual."""
    if decision is None:
        return None
    usual = Decision("")
    words = {name: getattr(decision, name) for name in Decision.__struct_fields__}
    if decision.error is not None:
        words["error"] = f"{decision.error.type}: {decision.error.message}"
    return {name: value for name, value in words.items() if value != getattr(usual, name)}


def decided(make: Callable[[], Execution], answer: Answer) -> dict[str, Any] | str | None:
    """What the rule of the phase decides, or why it refuses the answer."""
    execution = make()
    phase, part = execution.places[execution.state]
    try:
        return in_words(rules.RULES[phase](execution, part, answer, AT, CHANCE))  # type: ignore[arg-type]
    except RefusedError as error:
        return str(error)


A = at(made("a"), made("b"))
NO_WAY_BACK = at(made("a", compensates=False), made("b"))
ASKED = at(made("a", probe=True), made("b"))
ASKED_ONCE = at(made("a", probe=True, retry=ONCE))
CAREFUL = at(made("a", repeatable=False))
ASKED_CAREFULLY = at(made("a", repeatable=False, probe=True))
LISTENING = at(made("a", in_doubt_on=(OSError,), no_effect_on=(ConnectionRefusedError,)))
PICKY = at(made("a", retry=Retry(attempts=3, on=OSError), in_doubt_on=(OSError,)))
TORN = at(made("a", in_doubt_on=(OSError, ConnectionRefusedError), no_effect_on=(ConnectionError, FileNotFoundError)))
PIVOTED = at(PIVOT, made("after", compensates=False))
BEGUN = (Begin(),)
DOUBT = (Begin(), TimedOut(5.0), Due())
ASKING = (Begin(), TimedOut(5.0))
BACK = (Begin(), Returned("done"), Raised(StepRejectedError("no")))
STUCK_BACK = (*BACK, Abandoned(5.0))
OVER = (Begin(), Returned(1), Returned(2))
TOO_OFTEN = Crashed(times=9, too_often=True)

SLEEPS = at(Sleep("nap", 5.0), made("b"))
WAITS = at(Signal("word", timeout=5.0), made("b"))
WAITS_FOR_EVER = at(PIVOT, Signal("word"))
FAN = at(made("a"), Parallel("fan", [made("x"), made("y")]), made("c"))
EACH = at(Parallel.each("all", made("x"), over=lambda payload: ["m", "n"]))
FORWARD = at(PIVOT, Parallel("fan", [made("x", compensates=False), made("y", compensates=False)]))
LIMITED = at(Parallel("fan", [made("x"), made("y")]), deadline_at=DEADLINE)
IN_FAN = (Begin(), Returned(1))
BACK_IN_FAN = (Begin(), Returned(1), Branches((Branch("x", "succeeded"), Branch("y", "failed", error=ValueError("v")))))
BROKEN = Branch("y", "failed", error=ValueError("v"))
DONE = Branch("x", "succeeded", 1)


class Refusing:
    """An encoding that refuses, or doubles, every result."""

    def __init__(self, refuses: bool) -> None:
        self.refuses = refuses

    def accept_result(self, part: Any, value: Any) -> Any:
        if self.refuses:
            raise ResultRefusedError(f"{part.path} is too large")
        return {"seen": value}


def group(*errors: BaseException) -> BaseExceptionGroup[BaseException]:
    """Several errors at once."""
    return BaseExceptionGroup("several", errors)


CASES: dict[str, tuple[Callable[[], Execution], Answer]] = {
    "pending begins": (A(), Begin()),
    "pending crashes": (A(), Crashed()),
    "pending returns": (A(), Returned(1)),
    "pending retry": (A(), OperatorRetry()),
    "executing returns": (A(*BEGUN), Returned("v")),
    "executing returns late": (A(*BEGUN), Returned("v", late=True)),
    "executing abandoned": (A(*BEGUN), Abandoned(5.0)),
    "executing poisoned": (A(*BEGUN), TOO_OFTEN),
    "executing crashes": (A(*BEGUN), Crashed(times=9)),
    "executing times out": (A(*BEGUN), TimedOut(5.0)),
    "executing raises": (A(*BEGUN), Raised(ValueError("v"))),
    "executing rejects": (A(*BEGUN), Raised(StepRejectedError("no"))),
    "executing unknown": (A(*BEGUN), Raised(OutcomeUnknownError("who knows"))),
    "executing asks for time": (A(*BEGUN), Raised(RetryAfterError(90.0))),
    "executing asks for less time": (A(*BEGUN), Raised(RetryAfterError(0.5))),
    "executing group asks for time": (A(*BEGUN), Raised(group(ValueError(), RetryAfterError(90.0)))),
    "executing group with doubt": (A(*BEGUN), Raised(group(ValueError(), OutcomeUnknownError("u")))),
    "executing group": (A(*BEGUN), Raised(group(ValueError(), KeyError()))),
    "executing ends in its midst": (A(*BEGUN), Raised(SystemExit("out"))),
    "executing refused result": (A(*BEGUN), Raised(ResultRefusedError("too large"))),
    "executing due": (A(*BEGUN), Due()),
    "executing retried by a person": (A(*BEGUN), OperatorRetry()),
    "executing undone": (A(*BEGUN), OperatorUndo()),
    "executing settled": (A(*BEGUN), OperatorSettled(True, "seen")),
    "executing settled undone": (A(*BEGUN), OperatorSettled(False, "seen")),
    "executing begins again": (A(*BEGUN), Begin()),
    "executing named doubt": (LISTENING(*BEGUN), Raised(OSError("o"))),
    "executing named sure": (LISTENING(*BEGUN), Raised(ConnectionRefusedError("c"))),
    "executing named sure of several": (TORN(*BEGUN), Raised(FileNotFoundError("f"))),
    "executing named sure by a wider class": (TORN(*BEGUN), Raised(ConnectionResetError("c"))),
    "executing named sure by a wider class than the doubt": (TORN(*BEGUN), Raised(ConnectionRefusedError("c"))),
    "executing group asks for the longest time": (
        A(*BEGUN),
        Raised(group(RetryAfterError(90.0), RetryAfterError(40.0))),
    ),
    "executing not named": (LISTENING(*BEGUN), Raised(ValueError("v"))),
    "executing not worth it": (PICKY(*BEGUN), Raised(ValueError("v"))),
    "executing named and worth it": (PICKY(*BEGUN), Raised(OSError("o"))),
    "executing last attempt": (A(*BEGUN, attempt=3), Raised(ValueError("v"))),
    "executing last attempt in doubt": (A(*BEGUN, attempt=3), TimedOut(5.0)),
    "executing last attempt, doubt before": (A(*DOUBT, attempt=3), Raised(ValueError("v"))),
    "executing second wait": (A(*BEGUN, attempt=2), Raised(ValueError("v"))),
    "executing in doubt, no way back": (NO_WAY_BACK(*BEGUN, attempt=3), TimedOut(5.0)),
    "executing careful in doubt": (CAREFUL(*BEGUN), TimedOut(5.0)),
    "executing careful": (CAREFUL(*BEGUN), Raised(ValueError("v"))),
    "executing asked": (ASKED(*BEGUN), TimedOut(5.0)),
    "executing asked raises": (ASKED(*BEGUN), Raised(ValueError("v"))),
    "executing asked, doubt before": (ASKED(*BEGUN, doubt=True), Raised(ValueError("v"))),
    "executing asked, doubt before, last": (ASKED(*BEGUN, doubt=True, attempt=3), Raised(ValueError("v"))),
    "executing asked, last": (ASKED(*BEGUN, attempt=3), Raised(ValueError("v"))),
    "executing asked once": (ASKED_ONCE(*BEGUN), TimedOut(5.0)),
    "executing asked carefully": (ASKED_CAREFULLY(*BEGUN), TimedOut(5.0)),
    "pivot raises, last": (PIVOTED(*BEGUN, attempt=3), Raised(ValueError("v"))),
    "pivot in doubt, last": (PIVOTED(*BEGUN, attempt=3), TimedOut(5.0)),
    "after the pivot rejects": (PIVOTED(Begin(), Returned(1)), Raised(StepRejectedError("no"))),
    "retrying due": (A(Begin(), Raised(ValueError("v"))), Due()),
    "retrying due in doubt": (A(Begin(), TimedOut(5.0)), Due()),
    "retrying crashes": (A(Begin(), TimedOut(5.0)), Crashed()),
    "retrying returns": (A(Begin(), TimedOut(5.0)), Returned(1)),
    "retrying with fewer attempts": (A(Begin(), Raised(ValueError("v")), attempt=3), Due()),
    "retrying with fewer attempts in doubt": (A(Begin(), TimedOut(5.0), attempt=3), Due()),
    "probing happened": (ASKED(*ASKING), Returned(Happened("r"))),
    "probing not happened": (ASKED(*ASKING), Returned(NotHappened())),
    "probing nonsense": (ASKED(*ASKING), Returned("eh")),
    "probing raises": (ASKED(*ASKING), Raised(ValueError("v"))),
    "probing times out": (ASKED(*ASKING), TimedOut(7.0)),
    "probing abandoned": (ASKED(*ASKING), Abandoned(7.0)),
    "probing crashes": (ASKED(*ASKING), Crashed(times=2)),
    "probing crashes as often as attempts": (ASKED(*ASKING), Crashed(times=3)),
    "probing poisoned": (ASKED(*ASKING), TOO_OFTEN),
    "probing crashes without limit": (at(made("a", probe=True, retry=Retry(attempts=None)))(*ASKING), Crashed(times=9)),
    "probing crashes ten times": (at(made("a", probe=True, retry=Retry(attempts=None)))(*ASKING), Crashed(times=10)),
    "probing due": (ASKED(*ASKING), Due()),
    "probing careful, not happened": (ASKED_CAREFULLY(*ASKING), Returned(NotHappened())),
    "probing careful, could not tell": (ASKED_CAREFULLY(*ASKING), Returned("eh")),
    "probing once, not happened": (ASKED_ONCE(*ASKING), Returned(NotHappened())),
    "probing once, could not tell": (ASKED_ONCE(*ASKING), Returned("eh")),
    "probing with fewer attempts": (ASKED(*ASKING, attempt=3), Returned(NotHappened())),
    "probing, a longer wait": (ASKED(*ASKING, due_at=AT + 50.0), Returned(NotHappened())),
    "sleeping due": (SLEEPS(*BEGUN), Due()),
    "sleeping signalled": (SLEEPS(*BEGUN), Signalled(1)),
    "sleeping crashes": (SLEEPS(*BEGUN), Crashed()),
    "sleeping with branches": (SLEEPS(*BEGUN), Branches((DONE,))),
    "waiting due": (WAITS(*BEGUN), Due()),
    "waiting signalled": (WAITS(*BEGUN), Signalled("w")),
    "waiting returns": (WAITS(*BEGUN), Returned(1)),
    "waiting due without a time-out any more": (WAITS_FOR_EVER(Begin(), Returned(1)), Due()),
    "group due": (FAN(*IN_FAN), Due()),
    "group signalled": (FAN(*IN_FAN), Signalled(1)),
    "group crashes": (FAN(*IN_FAN), Crashed()),
    "group going on": (FAN(*IN_FAN), Branches((DONE, Branch("y", "running")))),
    "group done": (FAN(*IN_FAN), Branches((DONE, Branch("y", "succeeded", 2)))),
    "group failed": (FAN(*IN_FAN), Branches((DONE, BROKEN))),
    "group failed while another goes on": (FAN(*IN_FAN), Branches((BROKEN, Branch("x", "running")))),
    "group failed twice": (FAN(*IN_FAN), Branches((Branch("x", "stuck", error=KeyError("k")), BROKEN))),
    "group failed and sibling": (
        FAN(*IN_FAN),
        Branches((Branch("x", "failed", error=SiblingFailedError("s")), BROKEN)),
    ),
    "group failed, siblings only": (
        FAN(*IN_FAN),
        Branches((Branch("x", "failed", error=SiblingFailedError("s")), DONE)),
    ),
    "group failed, one without an error": (FAN(*IN_FAN), Branches((Branch("x", "not begun"), BROKEN))),
    "group failed, cancelled": (
        FAN(*IN_FAN, InboxItem(CANCEL, reason="enough", number=1)),
        Branches((DONE, BROKEN)),
    ),
    "group failed, a branch cancelled it": (
        FAN(*IN_FAN, InboxItem(CANCEL, name="y", reason="y failed", number=1)),
        Branches((DONE, BROKEN)),
    ),
    "group late before its deadline": (
        LIMITED(Begin(), deadline_at=AT + 1),
        Branches((Branch("x", "failed", error=DeadlineExceededError("d")), BROKEN)),
    ),
    "group late": (
        LIMITED(Begin(), deadline_at=AT),
        Branches((BROKEN, Branch("x", "failed", error=DeadlineExceededError("d")))),
    ),
    "group without deadline, late branch": (
        FAN(*IN_FAN),
        Branches((BROKEN, Branch("x", "failed", error=DeadlineExceededError("d")))),
    ),
    "group over items done": (EACH(*BEGUN), Branches((Branch("0", "succeeded", 1), Branch("1", "succeeded", 2)))),
    "group encoded": (FAN(*IN_FAN, encoding=Refusing(False)), Branches((DONE,))),
    "group refused": (FAN(*IN_FAN, encoding=Refusing(True)), Branches((DONE,))),
    "group after the pivot refused": (FORWARD(*IN_FAN, encoding=Refusing(True)), Branches((DONE,))),
    "group after the pivot failed": (FORWARD(*IN_FAN), Branches((DONE, BROKEN))),
    "group of many failed": (
        FAN(*IN_FAN),
        Branches(
            (*(Branch(f"b{n}", "succeeded") for n in range(21)), *(replace(BROKEN, name=f"f{n}") for n in range(20)))
        ),
    ),
    "group of thousands failed": (
        FAN(*IN_FAN),
        Branches((BROKEN, *(Branch(f"b{n}", "succeeded") for n in range(1022)))),
    ),
    "compensating returns": (A(*BACK), Returned("ignored")),
    "compensating returns late": (A(*BACK), Returned(late=True)),
    "compensating poisoned": (A(*BACK), TOO_OFTEN),
    "compensating poisoned in doubt": (A(*BACK, doubt=True), TOO_OFTEN),
    "compensating abandoned": (A(*BACK, doubt=True), Abandoned(5.0)),
    "compensating raises": (A(*BACK), Raised(ValueError("v"))),
    "compensating raises in doubt": (A(*BACK, doubt=True), Raised(ValueError("v"))),
    "compensating raises, last": (A(*BACK, attempt=3, doubt=True), Raised(ValueError("v"))),
    "compensating times out": (A(*BACK), TimedOut(5.0)),
    "compensating crashes": (A(*BACK), Crashed(times=9)),
    "compensating asks for time": (A(*BACK), Raised(RetryAfterError(90.0))),
    "compensating not worth it": (
        at(made("a", compensation_retry=Retry(attempts=3, on=OSError)), made("b"))(*BACK),
        Raised(ValueError("v")),
    ),
    "compensating times out, though only named errors are worth it": (
        at(made("a", compensation_retry=Retry(attempts=3, on=OSError)), made("b"))(*BACK),
        TimedOut(5.0),
    ),
    "compensating ends in its midst": (A(*BACK), Raised(SystemExit("out"))),
    "compensating due": (A(*BACK), Due()),
    "compensation waits, due": (A(*BACK, Raised(ValueError("v"))), Due()),
    "compensation waits, due in doubt": (A(*BACK, Raised(ValueError("v")), doubt=True), Due()),
    "compensation waits, crashes": (A(*BACK, Raised(ValueError("v"))), Crashed()),
    "compensation waits, returns": (A(*BACK, Raised(ValueError("v"))), Returned()),
    "group back crashes": (FAN(*BACK_IN_FAN), Crashed()),
    "group back returns": (FAN(*BACK_IN_FAN), Returned()),
    "group back going on": (FAN(*BACK_IN_FAN), Branches((Branch("x", "running"), BROKEN))),
    "group back to be undone": (FAN(*BACK_IN_FAN), Branches((Branch("x", "succeeded", undoable=True), BROKEN))),
    "group back stuck": (FAN(*BACK_IN_FAN), Branches((Branch("x", "stuck", error=KeyError("k")), BROKEN))),
    "group back stuck twice": (
        FAN(*BACK_IN_FAN),
        Branches((Branch("x", "stuck", error=KeyError("k")), Branch("y", "stuck", error=ValueError("v")))),
    ),
    "group back, one stuck without an error": (
        FAN(*BACK_IN_FAN),
        Branches((Branch("x", "stuck"), Branch("y", "stuck", error=ValueError("v")))),
    ),
    "group back undone": (FAN(*BACK_IN_FAN), Branches((Branch("x", "failed"), BROKEN))),
    "group back with leftovers": (
        FAN(*BACK_IN_FAN),
        Branches((Branch("x", "failed", leftovers=("p", "q")), replace(BROKEN, leftovers=("r",)))),
    ),
    "stuck retried": (A(*STUCK_BACK), OperatorRetry("fixed")),
    "stuck retried in doubt": (A(*STUCK_BACK, doubt=True), OperatorRetry("fixed")),
    "stuck settled": (A(*STUCK_BACK), OperatorSettled(False, "seen")),
    "stuck settled done": (at(made("a", timeout=5.0))(Begin(), Abandoned(5.0)), OperatorSettled(True, "seen", "r")),
    "stuck crashes": (A(*STUCK_BACK), Crashed()),
    "stuck returns": (A(*STUCK_BACK), Returned()),
    "stuck group, a branch stuck": (FAN(*BACK_IN_FAN, state="stuck.fan"), Branches((Branch("x", "stuck"), BROKEN))),
    "stuck group, a branch going on": (FAN(*BACK_IN_FAN, state="stuck.fan"), Branches((Branch("x", "running"),))),
    "stuck group, none stuck": (FAN(*BACK_IN_FAN, state="stuck.fan", doubt=False), Branches((BROKEN,))),
    "stuck group, none stuck, in doubt": (
        FAN(*BACK_IN_FAN, state="stuck.fan", failure=None, doubt=True),
        Branches((BROKEN,)),
    ),
    "stuck group, its joined result refused": (
        FAN(*BACK_IN_FAN, state="stuck.fan", failure=None, doubt=False),
        Branches((DONE,)),
    ),
    "succeeded undone": (A(*OVER), OperatorUndo()),
    "succeeded undone with a reason": (A(*OVER), OperatorUndo("recalled")),
    "succeeded crashes": (A(*OVER), Crashed()),
    "succeeded returns": (A(*OVER), Returned()),
    "succeeded retried": (A(*OVER), OperatorRetry()),
}


CANCELLED = InboxItem(CANCEL, reason="enough", number=1)
LATE = DEADLINE + 1


def interruptions() -> dict[str, tuple[Callable[[], Execution], float]]:
    """Where a cancel or the deadline may take hold."""
    timed = at(made("a", probe=True), made("b"), deadline_at=DEADLINE)
    pivoted = at(made("a"), PIVOT, made("z", compensates=False), deadline_at=DEADLINE)
    first = at(PIVOT, made("z", compensates=False), deadline_at=DEADLINE)
    waits = at(Signal("word", timeout=9.0), made("b"), deadline_at=DEADLINE)
    return {
        "nothing came": (timed(), 1.0),
        "late, accepted later": (at(made("a"), deadline_at=DEADLINE, accepted_at=DEADLINE - 60.0)(), LATE),
        "cancelled before it began": (A(CANCELLED), AT),
        "cancelled without a reason": (A(InboxItem(CANCEL, number=1)), AT),
        "cancelled before an attempt": (A(*BEGUN, CANCELLED), AT),
        "cancelled before an attempt in doubt": (A(*DOUBT, CANCELLED), AT),
        "cancelled between attempts": (A(Begin(), TimedOut(5.0), CANCELLED), AT),
        "cancelled while it is asked": (timed(*ASKING, CANCELLED), AT),
        "cancelled while it waits": (WAITS(*BEGUN, CANCELLED), AT),
        "cancelled while it compensates": (A(*BACK, cancel=CANCELLED), AT),
        "cancelled before its pivot": (pivoted(Begin(), Returned(1), CANCELLED), AT),
        "cancelled after its pivot": (pivoted(Begin(), Returned(1), Returned(2), cancel=CANCELLED), AT),
        "cancelled in a group with branches": (FAN(*IN_FAN, CANCELLED, new_branches=()), AT),
        "cancelled in a group without branches yet": (FAN(*IN_FAN, CANCELLED), AT),
        "late before it began": (timed(), LATE),
        "late before it began with its pivot": (first(), LATE),
        "just in time": (timed(*BEGUN), DEADLINE - 0.001),
        "at the deadline": (timed(*BEGUN), DEADLINE),
        "late before an attempt": (timed(*BEGUN), LATE),
        "late while it waits": (waits(*BEGUN), LATE),
        "late after its pivot": (pivoted(Begin(), Returned(1), Returned(2)), LATE),
        "late and cancelled": (timed(*BEGUN, CANCELLED), LATE),
        "late when it has ended": (timed(Begin(), Returned(1), Returned(2)), LATE),
    }


def interrupted(make: Callable[[], Execution], now: float) -> dict[str, Any] | None:
    """What takes hold at this time."""
    return in_words(rules.interrupted(make(), now))


def ended(make: Callable[[], Execution], now: float, failed: InboxItem | None) -> str | None:
    """The error with which the planned branches of a group end."""
    execution = make()
    part = next(part for part in execution.saga.parts if part.branches or part.each)
    failure = rules.end_of_planned(execution, part, now, failed)
    return None if failure is None else f"{failure.type}: {failure.message}"


SIBLING = InboxItem(CANCEL, name="y", reason="y failed", number=2)
PLANNED: dict[str, tuple[Callable[[], Execution], float, InboxItem | None]] = {
    "planned, nothing came": (LIMITED(*BEGUN), 1.0, None),
    "planned, cancelled": (LIMITED(*BEGUN, CANCELLED), 1.0, None),
    "planned, a branch failed": (LIMITED(*BEGUN), 1.0, SIBLING),
    "planned, cancelled and a branch failed": (LIMITED(*BEGUN, CANCELLED), LATE, SIBLING),
    "planned, late": (LIMITED(*BEGUN), LATE, None),
    "planned, after the pivot": (FORWARD(*IN_FAN, cancel=CANCELLED), LATE, SIBLING),
}


def unanswered(make: Callable[[], Execution], why: Exception | None) -> dict[str, Any] | None:
    """What is decided where a function that decides gave no answer."""
    execution = make()
    part = execution.places[execution.state].part
    assert part is not None
    execution.undecided = why
    return in_words(rules.undecided(execution, part))


UNDECIDED: dict[str, tuple[Callable[[], Execution], Exception | None]] = {
    "undecided with an error": (FAN(*IN_FAN), ValueError("v")),
    "undecided for no reason": (FAN(*IN_FAN), None),
    "undecided after the pivot": (FORWARD(*IN_FAN), ValueError("v")),
}


def lines() -> dict[str, str]:
    """What every case comes to, in words."""
    found: dict[str, Any] = {name: decided(*case) for name, case in CASES.items()}
    found |= {name: interrupted(*case) for name, case in interruptions().items()}
    found |= {name: ended(*case) for name, case in PLANNED.items()}
    found |= {name: unanswered(*case) for name, case in UNDECIDED.items()}
    return {name: in_one_line(decision) for name, decision in found.items()}


def in_one_line(decision: dict[str, Any] | str | None) -> str:
    """A decision for a reader."""
    if not isinstance(decision, dict):
        return str(decision)
    return ", ".join(f"{name}={value!r}" if name != "event" else value for name, value in decision.items())


DECISIONS = Path(__file__).parent / "decisions.txt"
EXPECTED = dict(line.split(": ", 1) for line in DECISIONS.read_text(encoding="utf-8").splitlines())


@pytest.mark.parametrize("name", CASES)
def test_answer_is_judged_as_the_rules_say(name):
    """Each answer in each phase leads to the event that the rules name, or is refused in words."""
    assert in_one_line(decided(*CASES[name])) == EXPECTED[name]


@pytest.mark.parametrize("name", interruptions())
def test_cancel_and_deadline_take_hold_where_the_rules_say(name):
    """Between effects and before the pivot, and nowhere else; the cancel before the deadline."""
    assert in_one_line(interrupted(*interruptions()[name])) == EXPECTED[name]


@pytest.mark.parametrize("name", PLANNED)
def test_planned_branches_end_for_a_reason(name):
    """Branches that were never created say why."""
    assert in_one_line(ended(*PLANNED[name])) == EXPECTED[name]


@pytest.mark.parametrize("name", UNDECIDED)
def test_part_without_a_decision_is_given_up(name):
    """Nothing was done: there is no doubt."""
    assert in_one_line(unanswered(*UNDECIDED[name])) == EXPECTED[name]


def test_no_expectation_is_left_over():
    """A line of the file without a case would hold nothing."""
    assert list(EXPECTED) == list(lines())


if __name__ == "__main__":
    DECISIONS.write_text("".join(f"{name}: {line}\n" for name, line in lines().items()), encoding="utf-8")
