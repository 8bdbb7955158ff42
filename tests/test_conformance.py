"""Conformance: what was recorded is what the machine can do, and the first move that is not is named."""

from __future__ import annotations

import json
import logging
import shutil
import sqlite3
from contextlib import closing

import attrs
import msgspec
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from fsm_mediator import (
    Acceptance,
    Choose,
    ConformanceError,
    DefinitionChangedError,
    DefinitionError,
    Execution,
    IllegalRecordError,
    JournalError,
    LoggingObserver,
    Mediator,
    MemoryJournal,
    Parallel,
    Retry,
    Saga,
    Signal,
    Sleep,
    SQLiteJournal,
    Step,
    StepRejectedError,
    conforms,
    step,
)
from fsm_mediator.journal.protocol import is_journal
from fsm_mediator.states import EVENTS
from fsm_mediator.testing import histories
from tests.test_old_journals import JOURNALS, shop

QUICK = Retry(attempts=2, wait_initial=0.0, wait_jitter=0.0)


def made(*names, version=1, pivot=None):
    """A saga of steps that fail as the payload tells: the name of the one that does."""

    def one(name):
        def execute(order):
            if order == name:
                raise ValueError("no")
            if order == f"{name} rejects":
                raise StepRejectedError("never")

        made_step = step(name=name, retry=QUICK, pivot=name == pivot)(execute)
        if name != pivot:
            made_step.compensation(lambda order: None)
        return made_step

    return Saga("checkout", [one(name) for name in names], version=version)


checkout = made("reserve", "charge", "ship")


def history(order="charge", saga=checkout, saga_id="o-1"):
    """The records of one run."""
    return list(Mediator(saga).run(saga, order, saga_id=saga_id, check=False).history)


def first(report):
    """The one illegal move that the report names."""
    [violation] = report.violations
    assert not report.ok
    assert violation.why in str(report)
    return violation


@pytest.mark.parametrize("order", ["", "reserve", "charge", "ship", "ship rejects"])
def test_what_ran_conforms(order):
    """Whatever a mediator records, forward or backward, its machine can have made."""
    report = conforms(history(order), checkout)

    assert report.ok
    assert (report.executions, report.moves) == (1, len(history(order)))
    report.raise_for_violations()
    assert "conform" in str(report)


def test_a_lost_record_is_named():
    """A gap is found at the first record behind it, with what would have fitted."""
    records = history()
    lost = records.pop(2)

    violation = first(conforms(records, checkout))

    assert (violation.position, violation.state) == (3, "executing.charge")
    assert violation.after == "reserve is executed"
    assert "number 3 is missing" in violation.why
    assert f"{lost.event} -> {lost.target}" in violation.expected


def test_a_record_told_twice_is_named():
    """The same record again is no second move."""
    records = history()
    records.insert(2, records[1])

    assert "there was a number 2 before it" in first(conforms(records, checkout)).why


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"event": "compensated"}, "'compensated' completes a compensation"),
        ({"event": "frobnicated"}, "there is no event 'frobnicated'"),
        ({"target": "succeeded"}, "leads from 'executing.reserve' to 'executing.charge', not to 'succeeded'"),
        ({"target": "executing.paint"}, "has no state 'executing.paint'"),
        ({"source": "executing.ship"}, "the execution is in 'executing.reserve'"),
        ({"step": "ship"}, "it names the step 'ship'"),
        ({"attempt": 2}, "it is told as attempt 2, and attempt 1 was under way"),
    ],
)
def test_a_forged_record_is_named(changes, says):
    """Whatever is wrong with a record is said in words, at its number."""
    records = history()
    records[1] = msgspec.structs.replace(records[1], **changes)

    violation = first(conforms(records, checkout))

    assert violation.position == 2
    assert says in violation.why
    assert "executed -> executing.charge" in violation.expected
    with pytest.raises(ConformanceError, match="move 2"):
        conforms(records, checkout).raise_for_violations()


def test_nothing_follows_an_end():
    """After an end that cannot be undone there is no move at all."""
    records = history()
    records.append(msgspec.structs.replace(records[-1], seq=len(records) + 1, source="failed"))

    violation = first(conforms(records, checkout))

    assert violation.expected == ()
    assert "nothing more: it has ended" in str(violation)


def test_a_taken_back_attempt_conforms():
    """An attempt that was announced and then cancelled before it began counts as none: that is no forgery."""
    saga = made("reserve", "charge")
    mediator: Mediator

    def cancels(record):
        if record.seq == 1:
            mediator.cancel("o-1", "enough")

    mediator = Mediator(saga, observers=[cancels])

    outcome = mediator.run(saga, "", saga_id="o-1", check=False)

    assert outcome.failed
    assert conforms(outcome.history, saga).ok


@attrs.frozen
class Scene:
    """A journal with many executions, and what it looks like in other shapes."""

    journal: MemoryJournal
    log: list[str]


class Handing(logging.Handler):
    """Hands each log record on."""

    def __init__(self, does):
        super().__init__()
        self.does = does

    def emit(self, record):
        self.does(record)


def logger_that(does):
    """A logger whose lines end nowhere but in *does*."""
    logger = logging.getLogger("tests.conformance")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    logger.handlers = [Handing(does)]
    return logger


@pytest.fixture
def scene():
    """A journal of five executions, and its log."""
    log = []
    formatter = logging.Formatter("%(asctime)s %(levelname)s [%(name)s] %(message)s")
    logger = logger_that(lambda record: log.append(formatter.format(record)))
    journal = MemoryJournal(encode=True)
    mediator = Mediator(checkout, journal=journal, observers=[LoggingObserver(logger)])
    for order in ("", "reserve", "charge", "ship", "ship rejects"):
        mediator.run(checkout, order, saga_id=f"an order {order}".strip(), check=False)
    return Scene(journal, log)


def exported(journal):
    """What `fsm-mediator export` writes."""
    from fsm_mediator.cli.tables import exported as lines

    return [line.decode() for line in lines(journal, journal.entries())]


def test_a_journal_an_export_and_a_log_tell_the_same(scene, tmp_path):
    """Whichever way the past was kept, as many executions with as many moves conform."""
    file = tmp_path / "export.jsonl"
    file.write_text("\n".join(exported(scene.journal)))
    log = tmp_path / "app.log"
    log.write_text("\n".join(["the app starts", *scene.log, "the app ends"]))

    reports = [
        conforms(source, checkout)
        for source in (
            scene.journal,
            file,
            str(file),
            exported(scene.journal),
            [line.encode() for line in exported(scene.journal)],
            [json.loads(line) for line in exported(scene.journal)],
            log,
            scene.log,
        )
    ]

    assert all(report.ok for report in reports)
    assert {(report.executions, report.moves) for report in reports} == {(5, len(scene.log))}
    assert [report.ignored for report in reports] == [0, 0, 0, 0, 0, 0, 2, 0]


def test_a_log_in_json_is_read_by_the_observers_extra_fields():
    """A structured log needs no parsing: the fields that LoggingObserver adds say it all."""
    lines = []
    logger = logger_that(
        lambda record: lines.append(
            json.dumps({"msg": record.msg, **{k: v for k, v in vars(record).items() if k.startswith("saga")}})
        )
    )
    Mediator(checkout, observers=[LoggingObserver(logger)]).run(checkout, "charge", check=False)

    assert conforms(lines, checkout).ok
    assert "number 2 is missing" in first(conforms(lines[:1] + lines[2:], checkout)).why


def test_a_forged_line_of_a_log_is_named_by_its_line(scene):
    """The report says where to look in the file."""
    lines = ["the app starts", *scene.log]
    at = next(number for number, line in enumerate(lines) if "executed" in line)
    lines[at] = lines[at].replace("-> executing.charge", "-> executing.ship")

    violation = first(conforms(lines, checkout))

    assert violation.line == at + 1
    assert f"line {at + 1}" in str(violation)


def test_a_log_of_another_saga_is_reported():
    """Lines of a saga that is not given are not passed over as if they were no moves."""
    lines = [f"INFO other o-1 {r.event}: {r.source} -> {r.target}" for r in history()]

    [unchecked] = conforms(lines, checkout).unchecked

    assert (unchecked.saga, unchecked.saga_id) == ("other", "o-1")


def test_bare_transitions_are_enough():
    """Whoever has nothing but event, source and target of each move can ask as well."""
    moves = [{"event": r.event, "source": r.source, "target": r.target} for r in history()]

    assert conforms(moves, checkout).ok
    assert first(conforms(moves[1:], checkout)).expected == ("start -> executing.reserve", "rejected -> failed")
    del moves[3]["target"]
    assert "it tells no target" in first(conforms(moves, checkout)).why
    moves[3].update(target="failed", attempt="many")
    assert "its attempt is 'many'" in first(conforms(moves, checkout)).why


def test_an_export_that_says_it_stands_elsewhere_is_named(scene):
    """The end is checked too: moves that were cut off at the end leave a state that they do not lead to."""
    told = json.loads(exported(scene.journal)[-1])
    assert told["state"] == "succeeded"
    told["history"].pop()

    violation = first(conforms([json.dumps(told)], checkout))

    assert violation.position == len(told["history"]) + 1
    assert "said to be in 'succeeded'" in violation.why


def test_each_execution_is_judged_by_the_version_that_started_it():
    """Two versions in one journal are no contradiction; one that is not given is reported, never passed over."""
    v1, v2 = made("reserve", "charge"), made("reserve", "check", "charge", version=2)
    journal = MemoryJournal()
    mediator = Mediator(v1, v2, journal=journal)
    mediator.run(v1, "", saga_id="old")
    mediator.run(v2, "", saga_id="new")
    other = Saga("other", [step(name="a")(lambda order: None)])
    mediator.run(other, "", saga_id="else")

    assert conforms(journal, [v2, v1, other]).ok

    report = conforms(journal, v2)
    assert not report.ok
    assert report.executions == 1
    assert {(each.saga_id, each.version) for each in report.unchecked} == {("old", "1"), ("else", "1")}
    assert "Give the definition that started it" in str(report)
    assert "no saga is named 'other'; there are checkout" in str(report)
    with pytest.raises(ConformanceError, match="unchecked"):
        report.raise_for_violations()


def test_without_a_fingerprint_the_version_that_gets_furthest_judges():
    """Bare records do not tell their version: they conform if any version given can have made them."""
    v1, v2 = made("reserve", "charge"), made("reserve", "check", "charge", version=2)
    records = history("", v2)

    assert conforms(records, [v1, v2]).ok
    assert first(conforms([*records[:-1], records[0]], [v1, v2])).saga == "saga 'checkout' version 2"


def test_what_cannot_be_read_is_an_error_not_a_verdict(tmp_path):
    """A missing file, a text without any move and broken JSON are told as such."""
    with pytest.raises(JournalError, match="nowhere"):
        conforms(tmp_path / "nowhere", checkout)
    with pytest.raises(JournalError, match="none of its 2 lines has a transition"):
        conforms(["hello", "world"], checkout)
    with pytest.raises(JournalError, match="line 1 is no JSON"):
        conforms(["{"], checkout)
    with pytest.raises(JournalError, match="42 has no transition"):
        conforms([42], checkout)  # type: ignore[arg-type]  # that is the mistake
    with pytest.raises(JournalError, match="42 has no transitions"):
        conforms(42, checkout)  # type: ignore[arg-type]  # that is the mistake
    with pytest.raises(DefinitionError, match="conforms"):
        conforms([], [])
    assert conforms(MemoryJournal(), checkout).executions == 0


def test_a_damaged_journal_is_named(tmp_path):
    """A row that somebody changed by hand is found, in the one execution that it belongs to."""
    path = tmp_path / "sagas.db"
    with Mediator(checkout, journal=str(path)) as mediator:
        for number in range(3):
            mediator.run(checkout, "", saga_id=f"o-{number}")
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE records SET target = 'executing.ship' WHERE seq = 2 AND execution = 2")
    connection.close()
    journal = SQLiteJournal(path, read_only=True)

    report = conforms(journal, checkout)
    journal.close()

    assert first(report).position == 2
    assert report.executions == 3


UNFOLDED = ("it names the step", "it is told as attempt", "an earlier attempt left the step in doubt")


@given(order=st.sampled_from(["", "charge", "ship rejects"]), data=st.data())
def test_it_is_legal_exactly_where_recovery_can_fold(order, data):
    """Whatever was done to the moves of records: they conform exactly if a mediator could fold them."""
    records = history(order)
    for _ in range(data.draw(st.integers(1, 2))):
        at = data.draw(st.integers(0, len(records) - 1))
        other = data.draw(st.sampled_from(records))
        kind = data.draw(st.sampled_from(["drop", "twice", "swap", "event", "source", "target"]))
        if kind == "drop" and len(records) > 1:
            del records[at]
        elif kind == "twice":
            records.insert(at, records[at])
        elif kind == "swap":
            records[at] = other
        elif kind == "event":
            records[at] = msgspec.structs.replace(records[at], event=data.draw(st.sampled_from(sorted(EVENTS))))
        else:
            changed = data.draw(st.sampled_from([other.source, other.target]))
            records[at] = msgspec.structs.replace(records[at], **{kind: changed})

    report = conforms(records, checkout)

    execution = Execution(checkout, Acceptance("o-1", "checkout", checkout.version, checkout.fingerprint, order, 0.0))
    folded = 0
    for record in records:
        try:
            execution.replay(record)
        except (IllegalRecordError, DefinitionChangedError):
            break
        folded += 1
    if report.violations and first(report).why.startswith(UNFOLDED):
        assert first(report).position <= folded  # the fold does not look at these
    else:
        assert report.moves == folded
        assert report.ok == (folded == len(records))


# Doubt


def doubtful():
    """A saga with every kind of step that can be in doubt: repeatable or not, probed, without compensation, a pivot."""

    class Plain(Step):
        retry = QUICK

        def execute(self, order):
            """Never called: the histories are drawn."""

        def compensate(self, order):
            """Never called."""

    class Once(Plain):
        repeatable = False

    class Probed(Plain):
        def probe(self, order):
            """Never called."""

    class Kept(Step):
        retry = QUICK

        def execute(self, order):
            """Never called."""

    class Pivot(Kept):
        pivot = True

    class After(Kept):
        pass

    return Saga("doubtful", [Plain(), Once(), Probed(), Kept(), Pivot(), After()])


@given(st.data())
def test_every_possible_history_conforms_and_no_other_doubt_does(data):
    """What the machine can do is never refused; a record that says the opposite of doubt is, where rules decide."""
    saga = doubtful()
    records = data.draw(histories(saga))
    assume(records)

    assert conforms(records, saga).ok

    at = data.draw(st.integers(0, len(records) - 1))
    forged = msgspec.structs.replace(records[at], in_doubt=not records[at].in_doubt)
    before, after = records[at].source.partition(".")[0], records[at].event
    told_by_probe = before == "probing" and after in ("errored", "rejected", "exhausted")
    ends_an_attempt = before == "executing" and after in ("errored", "rejected", "exhausted")
    if not told_by_probe and not ends_an_attempt:  # there either can be right
        [violation] = conforms([*records[:at], forged, *records[at + 1 :]], saga).violations
        assert violation.position <= at + 2


def lost_then(answer):
    """The records of a step whose first answer was lost, and whose second attempt gave *answer*."""

    class Charge(Step):
        retry = QUICK

        def execute(self, order, context):
            if context.attempt == 1:
                raise ConnectionError("lost after the effect")
            raise answer

        def compensate(self, order):
            """Undone."""

    saga = Saga("shop", [Charge()])
    return saga, list(Mediator(saga).run(saga, {}, check=False).history)


def test_doubt_that_nobody_ended_is_kept():
    """A step that may have had its effect is never given up as one without: the charge would be kept in silence."""
    saga, records = lost_then(ValueError("no"))
    assert [(each.event, each.in_doubt) for each in records[1:4]] == [
        *(("errored", True), ("retry_due", True), ("in_doubt", True))
    ]
    forged = msgspec.structs.replace(records[3], event="rejected", target="failed", in_doubt=False)

    violation = first(conforms([*records[:3], forged], saga))

    assert violation.position == 4
    assert violation.why.startswith("an earlier attempt left the step in doubt, and this record drops the doubt")


@pytest.mark.parametrize(
    ("at", "changes", "says"),
    [
        (2, {"in_doubt": False}, "this record drops the doubt"),
        (3, {"in_doubt": False}, "this record drops the doubt"),
        (4, {"in_doubt": True}, "'compensated' does not leave a step in doubt"),
        (3, {"event": "rejected", "target": "failed"}, "'rejected' does not leave a step in doubt"),
    ],
)
def test_a_record_that_contradicts_the_doubt_is_named(at, changes, says):
    """Each record says of the doubt what the rules make of it: nothing else is a past that an execution can have."""
    saga, records = lost_then(ValueError("no"))
    del records[at + 1 :]
    records[at] = msgspec.structs.replace(records[at], **changes)

    violation = first(conforms(records, saga))

    assert violation.position == at + 1
    assert says in violation.why


def test_doubt_out_of_nowhere_is_named():
    """A retry is in doubt only where an attempt left it so."""
    records = history("charge")
    at = next(index for index, each in enumerate(records) if each.event == "retry_due")
    records[at] = msgspec.structs.replace(records[at], in_doubt=True)

    assert "no attempt left it so" in first(conforms(records, checkout)).why


def test_a_source_without_doubt_is_not_judged_by_it():
    """A log in text does not tell of doubt, and conforms all the same."""
    saga, records = lost_then(ValueError("no"))
    told = [{"saga_id": "o-1", "event": r.event, "source": r.source, "target": r.target} for r in records]

    assert conforms(told, saga).ok


def test_the_report_reads_as_json_too():
    """A program gets the same verdict, and where to look."""
    records = history()
    del records[2]

    told = json.loads(conforms(records, checkout).to_json())

    assert told["ok"] is False
    assert told["violations"][0]["position"] == 3
    assert told["violations"][0]["expected"]


def test_many_violations_are_told_in_short():
    """A journal that is wrong all over does not flood the terminal: twenty are told in full, the rest named."""
    moves = [{"saga_id": f"o-{n}", "event": "executed", "source": "pending", "target": "failed"} for n in range(50)]

    told = str(conforms(moves, checkout))

    assert told.count("is illegal") == 20
    assert "and 30 more executions: 'o-20'" in told


def test_progress_is_told_for_each_execution(scene):
    """Whoever waits for a long check can show how far it is."""
    steps = []

    conforms(scene.journal, checkout, progress=lambda: steps.append(1))

    assert len(steps) == 5


@pytest.mark.parametrize("path", sorted(JOURNALS.glob("shop-*.db")), ids=lambda path: path.stem)
def test_journals_of_earlier_versions_conform(path, tmp_path):
    """What earlier versions of this library have written is what the machine of today can do."""
    copied = shutil.copy(path, tmp_path)  # it is never written again
    journal = SQLiteJournal(copied)

    report = conforms(journal, shop(now=True))
    journal.close()

    assert report.ok
    assert report.executions >= 5


# Signals, sleeps, groups and choices


def family():
    """A saga that waits in every way there is."""
    ship = Saga("ship", made("label", "hand").contents)
    [card] = made("card").contents
    return Saga(
        "checkout",
        [
            *made("reserve").contents,
            Sleep("pause", 0),
            Signal("approval"),
            Parallel("fulfil", [*made("pack").contents, ship]),
            Choose("pay", {"card": card}, by=lambda order: "card"),
            *made("mail").contents,
        ],
    )


@pytest.fixture
def families():
    """A journal of sagas that waited: one that succeeded, and others that failed in a branch or behind it."""
    saga, journal = family(), MemoryJournal(encode=True)
    log = []
    formatter = logging.Formatter("%(asctime)s %(message)s")
    observer = LoggingObserver(logger_that(lambda record: log.append(formatter.format(record))))
    with Mediator(saga, journal=journal, observers=[observer]) as mediator:
        for number, order in enumerate(["", "pack rejects", "hand rejects", "card rejects", "mail rejects"]):
            mediator.start("checkout", order, saga_id=f"o-{number}")
            mediator.signal(f"o-{number}", "approval", "yes")
            mediator.wait(f"o-{number}", check=False)
    return Scene(journal, log)


def test_branches_are_executions_that_conform(families):
    """Branches of groups and choices are judged by the saga that they belong to, wherever the past was kept."""
    reports = [conforms(source, family()) for source in (families.journal, exported(families.journal), families.log)]

    assert all(report.ok for report in reports), reports
    assert {(report.executions, report.moves) for report in reports} == {(18, len(families.log))}


def test_a_forged_record_of_a_branch_is_named(families):
    """A branch is named by its own id, and told by what it is."""
    lines = [json.loads(line) for line in exported(families.journal)]
    [pack] = [line for line in lines if line["saga_id"] == "o-0/fulfil.pack"]
    pack["history"][1]["target"] = "failed"

    violation = first(conforms(lines, family()))

    assert violation.saga_id == "o-0/fulfil.pack"
    assert violation.saga == "saga 'checkout/fulfil.pack' version 1"


@pytest.mark.parametrize(
    ("parent", "branch", "cut", "says"),
    [
        ("o-0", "o-0/fulfil.pack", 1, "its branch 'o-0/fulfil.pack' never succeeded, and is in 'executing.pack'"),
        ("o-3", "o-3/fulfil.ship", 1, "its branch 'o-3/fulfil.ship' has not ended, and is in 'compensating.label'"),
    ],
)
def test_a_parent_that_went_on_without_its_branch_is_named(families, parent, branch, cut, says):
    """Each of them conforms by itself; that the parent did not wait for its branch shows where both are told."""
    lines = [json.loads(line) for line in exported(families.journal)]
    [cut_off] = [line for line in lines if line["saga_id"] == branch]
    del cut_off["history"][-cut:]
    cut_off["state"] = cut_off["history"][-1]["target"]

    violation = first(conforms(lines, family()))

    assert (violation.saga_id, violation.why) == (parent, says)
    assert "fulfil" in violation.found
    assert conforms([line for line in lines if line["saga_id"] != branch], family()).ok
    assert conforms(lines[::-1], family()).violations == (violation,)


def told_by(scene, saga_id):
    """What an export tells of every execution, and of one of them."""
    lines = [json.loads(line) for line in exported(scene.journal)]
    return lines, next(line for line in lines if line["saga_id"] == saga_id)


def test_a_group_given_up_before_its_branches_settled_is_named(families):
    """A group fails once every branch has settled: one that is still at work is waited for."""
    lines, hand = told_by(families, "o-2/fulfil.pack")
    del hand["history"][1:]
    hand["state"] = hand["history"][-1]["target"]

    violation = first(conforms(lines, family()))

    assert violation.saga_id == "o-2"
    assert violation.why == "its branch 'o-2/fulfil.pack' has neither ended nor got stuck, and is in 'executing.pack'"


def test_a_compensated_group_with_a_branch_that_was_not_undone_is_named(families):
    """A branch that had succeeded is undone before its group counts as compensated; else its effects stay."""
    lines, pack = told_by(families, "o-3/fulfil.pack")
    undone = next(at for at, each in enumerate(pack["history"]) if each["event"] == "undo")
    del pack["history"][undone:]
    pack["state"] = "succeeded"

    violation = first(conforms(lines, family()))

    assert violation.saga_id == "o-3"
    assert violation.why == "its branch 'o-3/fulfil.pack' succeeded, and was not undone"


@pytest.mark.parametrize(
    ("group", "names", "says"),
    [
        ("fulfil", ["pack"], "it names the branches pack, which 'fulfil' cannot have"),
        ("pay", ["cash"], "it names the branches cash, which 'pay' cannot have"),
        ("pay", [], "it names the branches none, which 'pay' cannot have"),
        ("pause", ["a"], "it names branches, and 'waiting.pause' waits for none"),
    ],
)
def test_branches_that_the_group_cannot_have_are_named(families, group, names, says):
    """The branches that a record names are those of its group: all of them, or the one that was chosen."""
    lines, whole = told_by(families, "o-0")
    record = next(each for each in whole["history"] if each["target"] == f"waiting.{group}")
    record["children"] = names

    assert first(conforms(lines, family())).why == says


class Busy:
    """A journal that others write to while it is read: of every execution it tells first how it stood before."""

    def __init__(self, journal):
        self.journal = journal

    def __getattr__(self, name):
        return getattr(self.journal, name)

    def entries(self, **chosen):
        for entry in self.journal.entries(**chosen):
            if "/" in entry.saga_id:
                records = self.journal.records(entry.saga_id)[:-1]
                state = records[-1].target if records else "pending"
                yield msgspec.structs.replace(entry, state=state, seq=len(records))
            else:
                yield entry


def test_a_journal_that_is_being_written_is_no_contradiction(families):
    """What goes on while the journal is read is not taken for damage: neither an execution nor its parent."""
    journal = Busy(families.journal)
    assert is_journal(journal)

    assert conforms(journal, family()).ok


def test_a_group_that_left_something_over_conforms(tmp_path):
    """What the branches of a compensated group left over stands in the journal as it was encoded, and is no move."""
    kept = step(name="kept")(lambda order: "kept")
    bad = step(name="bad", retry=Retry(attempts=1))(lambda order: order["missing"])
    saga = Saga("leaving", [Parallel("g", [kept, bad], on_failure="settle")])  # else the first may not begin
    with Mediator(saga, journal=tmp_path / "sagas.db") as mediator:
        assert mediator.run(saga, {}, saga_id="o-1", check=False).leftovers == ("g.kept.kept",)

    report = conforms(SQLiteJournal(tmp_path / "sagas.db", read_only=True), saga)

    assert report.ok, str(report)
