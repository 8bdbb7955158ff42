"""Statistics: the numbers of many executions are those of their records, and can be read on the steps."""

from __future__ import annotations

import itertools
import json
import math
import re
import sqlite3
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from fsm_mediator import Mediator, MemoryJournal, Parallel, Retry, Saga, Signal, SQLiteJournal, step
from fsm_mediator.cli.commands import cli
from fsm_mediator.diagram.dot import MOST_PEN
from fsm_mediator.diagram.layout.detail import detail_layout
from fsm_mediator.diagram.layout.steps import steps_layout
from fsm_mediator.diagram.mermaid import chart_label
from fsm_mediator.diagram.numbers import LEVELS, Numbers, StepNumbers, limits_of
from fsm_mediator.diagram.picture import STEPS
from fsm_mediator.diagram.themes import DARK, LIGHT, RAMP
from fsm_mediator.errors import DefinitionError
from fsm_mediator.states import ENDED, PENDING, path_of
from fsm_mediator.statistics import Statistics
from fsm_mediator.statistics.durations import Durations
from fsm_mediator.statistics.machines import MachineStatistics, Period
from fsm_mediator.statistics.showing import LEAST_SAMPLES, SHOWN, definitions_in
from fsm_mediator.testing import VirtualClock
from fsm_mediator.testing.strategies import HISTORY_AT, histories, sagas
from tests.test_detail_view import check_can_be_read as check_detail_can_be_read
from tests.test_diagrams import in_notebook
from tests.test_steps_view import FIXED, check_can_be_read

HOUR = 3_600.0


class Shop:
    """A saga with everything in it, on a clock that its steps move on."""

    def __init__(self):
        self.clock = VirtualClock(HISTORY_AT)
        self.fails = False
        self.saga = Saga(
            "order",
            [
                self.part("reserve", 2.0, undo=True),
                self.part("charge", 10.0, retry=Retry(attempts=3, wait_initial=5.0, wait_jitter=0)),
                Parallel("fulfil", [self.part("pack", 40.0), self.part("label", 1.0)]),
                Signal("delivered"),
            ],
        )

    def part(self, name, seconds, retry=None, undo=False):
        @step(name=name, retry=retry or Retry(attempts=1), no_effect_on=ConnectionError)
        def execute(order):
            self.clock.advance(seconds)
            if self.fails and name == "charge":
                raise ConnectionError("the bank is down")

        if undo:
            execute.compensation(lambda order: None)
        return execute

    def trade(self, journal, orders, failing=0, delivered=0):
        """Run so many orders, an hour apart: the first fail, and the last are not delivered."""
        with Mediator(self.saga, journal=journal, max_workers=1, **self.clock.settings) as mediator:
            for number in range(orders):
                self.clock.now = HISTORY_AT + number * HOUR
                self.fails = number < failing
                mediator.run("order", None, saga_id=f"o-{number}", check=False)
                if failing <= number < failing + delivered:
                    self.clock.advance(100.0)
                    mediator.signal(f"o-{number}", "delivered")
                    mediator.wait(f"o-{number}")
        return journal


@pytest.fixture
def shop():
    """A shop in which nothing was sold yet."""
    return Shop()


@given(st.lists(st.floats(1e-5, 1e7), min_size=1), st.sampled_from([1, 50, 95, 100]))
def test_percentile_is_within_one_per_cent(durations, percent):
    """Whatever was measured: half a kilobyte of counts knows each percentile as well as all durations do."""
    counted = Durations()
    for each in durations:
        counted.add(each)
    exact = sorted(durations)[max(math.ceil(len(durations) * percent / 100), 1) - 1]

    assert counted.percentile(percent) == pytest.approx(exact, rel=0.0101)
    assert counted.samples == len(durations)


def test_percentile_of_nothing_is_not_known():
    """Without a sample there is no number; a clock that was set back makes no negative one."""
    counted = Durations()
    assert counted.percentile(95) is None
    counted.add(-5.0)
    assert counted.percentile(95) == pytest.approx(1e-6, rel=0.02)


@settings(max_examples=60)
@given(data=st.data(), cut=st.floats(0.0, 1.0))
def test_every_record_is_counted_once(data, cut):
    """Of any run of any saga: each move is in the flow, and each period has its own, so that periods add up."""
    records = tuple(data.draw(histories(data.draw(sagas(most=5, groups=True)))))
    times = [record.at for record in records] or [HISTORY_AT]
    middle = times[0] + (times[-1] - times[0]) * cut
    whole, before, after = MachineStatistics(), MachineStatistics(), MachineStatistics()
    for counts, period in ((whole, Period()), (before, Period(until=middle)), (after, Period(since=middle))):
        counts.add(HISTORY_AT, records, period)

    moves = [f"{record.event} {record.source} {record.target}" for record in records]
    assert whole.moves == {move: moves.count(move) for move in moves}
    assert {move: before.moves.get(move, 0) + after.moves.get(move, 0) for move in whole.moves} == whole.moves
    assert sum(each.samples for each in whole.states.values()) == len(records)
    assert before.executions == any(at < middle for at in times[: len(records)])
    assert after.executions == any(at >= middle for at in times[: len(records)])
    assert whole.runs.samples == sum(record.target in ENDED for record in records)
    forward = ("executing.", "probing.", "retrying.", "waiting.")
    left = [
        path_of(record.source)
        for record in records
        if record.source.startswith(forward)
        and not (record.target.startswith(forward) and path_of(record.target) == path_of(record.source))
    ]
    assert {path: each.samples for path, each in whole.parts.items()} == {path: left.count(path) for path in left}


def test_numbers_are_those_of_the_runs(shop):
    """Durations with their retries, failures, retries and places: what happened to 30 orders is what is counted."""
    stats = Statistics.read(shop.saga, shop.trade(MemoryJournal(), 30, failing=6, delivered=14))
    steps = stats.steps

    assert steps["reserve"].samples == 30
    assert steps["reserve"].p95 == pytest.approx(2.0, rel=0.02)
    charge = steps["charge"]
    assert (charge.samples, charge.failures, charge.retries) == (30, 6, 12)
    assert charge.p50 == pytest.approx(10.0, rel=0.02)
    assert charge.p95 == pytest.approx(3 * 10 + 5 + 10, rel=0.02)  # its attempts, and the waits between them
    assert steps["fulfil.pack/pack"].samples == steps["fulfil"].samples == 24
    assert steps["fulfil.pack/pack"].p50 == pytest.approx(40.0, rel=0.02)
    assert (steps["delivered"].now, steps["delivered"].stuck, steps["delivered"].samples) == (10, 0, 14)
    assert steps["delivered"].p50 == pytest.approx(100.0, rel=0.02)
    assert stats.machines["order"].now == {"failed": 6, "succeeded": 14, "waiting.delivered": 10}
    assert stats.machines["order"].executions == 30
    assert stats.machines["order"].moves["rejected executing.charge compensating.reserve"] == 6
    assert stats.unreadable.count == 0


def test_who_is_stuck_is_counted(shop):
    """An execution that waits for a person is in its step, and is named as stuck."""

    @step(retry=Retry(attempts=1))
    def hand_over(order):
        raise ValueError("the address is wrong")

    paid = step(name="paid", pivot=True)(lambda order: None)
    saga, journal = Saga("sent", [paid, hand_over]), MemoryJournal()
    Mediator(saga, journal=journal).run("sent", check=False)
    found = Statistics.read(saga, journal).steps["hand_over"]

    assert (found.now, found.stuck, found.failures, found.samples) == (1, 1, 1, 1)
    assert "1 now · 1 stuck" in Statistics.read(saga, journal).diagram("now").to_mermaid()


def test_period_chooses_records_by_their_time(shop):
    """An hour's numbers are those of the hour's records; where executions are is always now."""
    journal = shop.trade(MemoryJournal(), 30, delivered=5)
    stats = Statistics.read(shop.saga, journal, since=HISTORY_AT + 10 * HOUR, until=HISTORY_AT + 20 * HOUR)

    assert stats.steps["reserve"].samples == stats.machines["order"].executions == 10
    assert stats.steps["delivered"].now == 25
    assert "succeeded" not in stats.machines["order"].now


@pytest.mark.parametrize(
    "period", [{"since": "monday"}, {"until": True}, {"since": math.nan}, {"since": 5, "until": 5}]
)
def test_period_that_is_none_is_refused(shop, period):
    """A text is no time, and a period has a length."""
    with pytest.raises(DefinitionError, match=r"seconds since the epoch|empty"):
        Statistics.read(shop.saga, MemoryJournal(), **period)


def test_other_versions_are_not_counted(shop):
    """Each version has its own statistics: its steps may be others."""
    journal = shop.trade(MemoryJournal(), 2)
    later = Saga("order", [shop.part("reserve", 1.0)], version="2")

    assert Statistics.read(later, journal).machines["order"].executions == 0


def test_row_that_cannot_be_read_is_counted_and_named(shop, tmp_path):
    """A damaged record takes one execution out of the numbers, says which, and ends nothing."""
    path = tmp_path / "sagas.db"
    shop.trade(SQLiteJournal(path), 5).close()
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(
            "UPDATE records SET details = 'no' WHERE seq = 2 AND execution = "
            "(SELECT number FROM executions WHERE saga_id = 'o-3')"
        )
    connection.close()

    stats = Statistics.read(shop.saga, path)

    assert (stats.unreadable.count, set(stats.unreadable.named)) == (1, {"o-3"})
    assert "record 2" in stats.unreadable.named["o-3"]
    assert stats.steps["reserve"].samples == 4
    assert "1 cannot be read and are left out: o-3" in stats.diagram().to_dot()


def test_journal_is_read_one_execution_at_a_time(shop):
    """However many there are: an execution's records are read, counted and let go before the next is listed."""
    inner, order = shop.trade(MemoryJournal(), 3), []

    class Watched(MemoryJournal):
        def entries(self, **chosen):
            for entry in inner.entries(**chosen):
                order.append(("listed", entry.saga_id))
                yield entry

        def records(self, saga_id):
            order.append(("read", saga_id))
            return inner.records(saga_id)

    Statistics.read(shop.saga, Watched())

    assert [verb for verb, _ in order] == ["listed", "read"] * (len(order) // 2)
    assert len(order) == 2 * 3 * 3

    order.clear()
    Statistics.read(shop.saga, Watched(), since=HISTORY_AT + 0.5 * HOUR, until=HISTORY_AT + 1.5 * HOUR)
    assert {saga_id for verb, saga_id in order if verb == "read"} == {"o-1", "o-1/fulfil.pack", "o-1/fulfil.label"}


def test_record_that_is_written_meanwhile_waits_for_the_next_reading(shop):
    """Records that are newer than the listed state are left out: numbers and places are of one moment."""
    inner = shop.trade(MemoryJournal(), 1)

    class Earlier(MemoryJournal):
        def entries(self, **chosen):
            for entry in inner.entries(**chosen):
                is_whole = entry.saga_id == "o-0"
                yield msgspec.structs.replace(entry, state="executing.charge", seq=2) if is_whole else entry

        def records(self, saga_id):
            return inner.records(saga_id)

    stats = Statistics.read(shop.saga, Earlier())

    assert (stats.steps["reserve"].samples, stats.steps["charge"].samples) == (1, 0)
    assert stats.steps["charge"].now == 1


def test_json_holds_all_numbers_and_nothing_else(shop, tmp_path):
    """What is written is read back as it was, and draws the same picture; no payload or error is in it."""
    stats = Statistics.read(shop.saga, shop.trade(MemoryJournal(), 25, failing=3, delivered=9), since=HISTORY_AT)
    (tmp_path / "week.json").write_text(stats.to_json())

    for source in (stats.to_json(), tmp_path / "week.json"):
        again = Statistics.from_json(shop.saga, source)
        assert again.steps == stats.steps
        assert again.to_json() == stats.to_json()
        assert [again.diagram(show).to_dot() for show in SHOWN] == [stats.diagram(show).to_dot() for show in SHOWN]
    assert "bank" not in stats.to_json()


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"format": 1, "saga": "order"}', b"\xff"])
def test_json_of_something_else_is_refused(shop, text):
    """A text that holds no statistics is an error that names what writes them."""
    with pytest.raises(DefinitionError, match="fsm-mediator stats"):
        Statistics.from_json(shop.saga, text)


def test_json_of_another_saga_is_refused(shop):
    """Numbers are drawn on the saga that they were counted for."""
    text = Statistics.read(shop.saga, MemoryJournal()).to_json()
    with pytest.raises(DefinitionError, match="of saga 'order' in format 1, not of 'other'"):
        Statistics.from_json(Saga("other", [shop.part("a", 1.0)]), text)
    with pytest.raises(DefinitionError, match="in format 2"):
        Statistics.from_json(shop.saga, text.replace('"format":1', '"format":2'))
    with pytest.raises(DefinitionError, match="cannot be read: No such file"):
        Statistics.from_json(shop.saga, Path("nowhere.json"))


# The picture


def drawn_counts(draw, saga):
    """Statistics with any numbers."""
    machines: dict[str, MachineStatistics] = {}
    counts = st.integers(0, 3000)
    for _, definition in definitions_in(saga):
        machine = machines.setdefault(definition.name, MachineStatistics())
        for move in definition.machine.moves():
            machine.moves[" ".join(move)] = draw(counts)
        for part in definition.parts:
            sizes = draw(st.dictionaries(st.integers(-500, 900), st.integers(1, 2000), max_size=3))
            machine.parts[part.path] = Durations(sizes)
        for state in definition.machine.states:
            machine.now[state] = draw(counts)
    return Statistics(saga, "1", machines=machines)


@pytest.mark.once
@settings(max_examples=20, deadline=None)
@given(data=st.data(), show=st.sampled_from(list(SHOWN)), direction=st.sampled_from(["right", "down"]))
def test_any_numbers_can_be_read(data, show, direction):
    """Whatever the numbers: words stay in their boxes, boxes apart, lines at their steps; side by side as well."""
    saga = data.draw(sagas(most=5, nested=True, groups=True))
    one, other = (drawn_counts(data.draw, saga) for _ in range(2))
    alone = one.diagram(show, direction=direction)
    both = one.diagram(show, beside=other, direction=direction)

    check_can_be_read(alone.picture, steps_layout(alone.picture, direction))
    layout = steps_layout(both.picture, direction)
    assert layout.second is not None
    here = [box for name, box in layout.boxes.items() if not name.startswith("beside/")]
    there = [box for name, box in layout.boxes.items() if name.startswith("beside/")]
    if layout.second[0]:
        assert max(box.right for box in here) < layout.second[0] <= min(box.left for box in there)
    else:
        assert max(box.bottom for box in here) < layout.second[1] <= min(box.top for box in there)
    for diagram in (alone, both):
        assert diagram.to_svg()
        assert diagram.to_mermaid().count("subgraph half") == (2 if diagram is both else 0)
        assert len(diagram.to_markdown_table().splitlines()) >= len(list(diagram.picture.all_nodes())) + 2


def busy(saga):
    """Statistics of a saga with long numbers on every step."""
    machines: dict[str, MachineStatistics] = {}
    for _, definition in definitions_in(saga):
        machine = machines.setdefault(definition.name, MachineStatistics(executions=123_456))
        for number, part in enumerate(definition.parts):
            machine.parts[part.path] = Durations({number * 90 - 400: 123_456})
        for move in definition.machine.moves():
            machine.moves[" ".join(move)] = 98_765 if move.event in ("start", "executed") else 4_321
        machine.now |= dict.fromkeys(definition.machine.states, 7_654)
    return Statistics(saga, "2026.11", since=HISTORY_AT, until=HISTORY_AT + HOUR, machines=machines)


def levels(diagram):
    """The colour of each step of a picture."""
    return {box.id: box.level for box in diagram.picture.all_nodes()}


@pytest.mark.once
def test_nothing_is_coloured_below_twenty_samples(shop):
    """Nineteen orders show their numbers and no colour; with the twentieth the steps have one."""
    journal = shop.trade(MemoryJournal(), LEAST_SAMPLES - 1)
    few = Statistics.read(shop.saga, journal)
    shop.trade(enough := MemoryJournal(), LEAST_SAMPLES)
    many = Statistics.read(shop.saga, enough)

    for show in SHOWN:
        assert set(levels(few.diagram(show)).values()) == {None}, show
    assert sum("n 19" in box.numbers for box in few.diagram("p95").picture.all_nodes()) == 5
    assert levels(many.diagram("p95")) == {
        "reserve": 1,
        "charge": 3,
        "fulfil": None,
        "fulfil.pack/pack": 4,
        "fulfil.label/label": 1,
        "delivered": None,
    }
    assert levels(many.diagram("now"))["delivered"] == LEVELS - 1


@pytest.mark.once
def test_lines_are_as_wide_as_their_flow(shop):
    """Half of the orders fail: the line onward is half as wide as the first one, and one that nobody took is pale."""
    diagram = Statistics.read(shop.saga, shop.trade(MemoryJournal(), 40, failing=20)).diagram()
    shares = {(line.source, line.target): line.share for line in diagram.picture.all_edges()}
    pens = re.findall(r'"pending" -> .* penwidth=([\d.]+)|"charge" -> "fulfil" .* penwidth=([\d.]+)', diagram.to_dot())

    assert shares[PENDING, "reserve"] == shares["reserve", "charge"] == 1.0
    assert shares["charge", "fulfil"] == shares["charge", "reserve"] == 0.5
    assert shares["fulfil", "reserve"] == shares["delivered", "succeeded"] == 0.0
    assert sorted(float(one or other) for one, other in pens) == [MOST_PEN / 2, MOST_PEN]


@pytest.mark.once
def test_two_periods_have_the_same_colours_and_widths(shop):
    """Side by side a colour and a width say the same, so that the eye can compare."""
    slow = MachineStatistics(parts={"reserve": Durations({220: 50})}, moves={"start pending executing.reserve": 50})
    quick = MachineStatistics(parts={"reserve": Durations({110: 25})}, moves={"start pending executing.reserve": 25})
    one, other = (Statistics(shop.saga, "1", machines={"order": each}) for each in (quick, slow))
    alone, both = one.diagram(), one.diagram(beside=other, hide={"undo"})

    assert levels(alone)["reserve"] == levels(both)["beside/reserve"] == LEVELS - 1
    assert levels(both)["reserve"] == LEVELS - 3
    assert [line.share for line in both.picture.flow.lines if line.source == PENDING] == [0.5]
    assert both.picture.scale == both.picture.beside.scale
    assert not any(line.back for line in both.picture.all_edges())


@pytest.mark.once
def test_two_versions_stand_side_by_side(shop):
    """Each version is drawn with its own steps."""
    later = Saga("order", [shop.part("reserve", 1.0), shop.part("check", 1.0)], version="2")
    both = Statistics.read(shop.saga, MemoryJournal()).diagram(beside=Statistics.read(later, MemoryJournal()))

    assert {"charge", "beside/check"} <= set(levels(both))
    assert {"version 1", "version 2"} <= {half.subheading[0].split(" · ")[0] for half in both.picture.halves}


@pytest.mark.once
@given(st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=8))
def test_colours_begin_at_round_numbers(values):
    """The limits are of the series 1, 3, 10, at most four, and the largest value has the last colour."""
    steps = {str(number): StepNumbers(note="", value=value) for number, value in enumerate(values)}
    found = limits_of([Numbers(name="", heading="", legend="", about=(), steps=steps, flows={}, words=str)])

    assert len(found) == LEVELS - 1
    assert found == sorted(found)
    assert found[-1] <= max(values) * 1.0101 < found[-1] * 3.4
    assert all(3 <= round(b / a, 3) <= 3.334 for a, b in itertools.pairwise(found))


def luminance(colour):
    """The relative luminance of WCAG 2."""
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.once
@pytest.mark.parametrize("theme", [LIGHT, DARK])
def test_ramp_can_be_read_without_seeing_hues(theme):
    """Each colour differs from the next in lightness alone, and text on each has a contrast of at least 4.5 to 1."""
    light = [luminance(ground) for ground in theme.ramp]
    ink = luminance(theme.ink)

    assert len(RAMP) == LEVELS
    steps = [(max(a, b) + 0.05) / (min(a, b) + 0.05) for a, b in itertools.pairwise(light)]
    assert min(steps) > 1.14
    assert light in (sorted(light), sorted(light, reverse=True))
    assert all((max(ink, each) + 0.05) / (min(ink, each) + 0.05) >= 4.5 for each in light)


@pytest.mark.once
def test_numbers_are_in_every_format_and_theme(shop):
    """Light, dark and automatic; SVG, DOT, Mermaid and table; as the last expression of a cell."""
    stats = Statistics.read(shop.saga, shop.trade(MemoryJournal(), 25))
    for show, words in zip(SHOWN, ("2 s", "40 s", "of 25", "25 now"), strict=True):
        diagram = stats.diagram(show)
        for text in (diagram.to_svg(), diagram.to_dot(), diagram.to_mermaid(), diagram.to_markdown_table()):
            assert words in text, show
    assert LIGHT.ramp[-1] in stats.diagram().to_svg()
    assert DARK.ramp[-1] in stats.diagram(theme="dark").to_svg()
    assert f"[fill='{LIGHT.ramp[-1]}']{{fill:{DARK.ramp[-1]}}}" in stats.diagram(theme="auto").to_svg()
    assert f"fill:{LIGHT.ramp[-1]}" in stats.diagram().to_mermaid()
    assert len(stats.diagram().alt) <= 300
    shown = in_notebook(stats)
    assert "<svg" in shown["image/svg+xml"]
    assert shown["text/plain"] == "<Statistics of saga 'order' version 1: 25 executions>"


def test_unknown_choice_is_refused(shop):
    """There are four choices, and numbers are on the steps."""
    stats = Statistics.read(shop.saga, MemoryJournal())
    with pytest.raises(DefinitionError, match="cannot show 'mean'; there are p50, p95, failures, now"):
        stats.diagram("mean")  # type: ignore[arg-type]
    with pytest.raises(DefinitionError, match="side by side in the view 'steps', not in 'detail'"):
        stats.diagram(beside=stats).with_(view="detail")


@pytest.mark.once
def test_numbers_are_on_the_states_of_the_detail_view_as_well():
    """Each executing or waiting state has the numbers and the colour of its step, each line its own count."""
    saga = FIXED["waits"]()
    stats = busy(saga)
    steps, detail = stats.diagram("failures"), stats.diagram("failures", view="detail")
    boxes = {box.id: box for box in steps.picture.all_nodes()}
    shown = {node.id.replace(f"{node.phase}.", ""): node for node in detail.picture.all_nodes() if node.numbers}

    assert shown.keys() == boxes.keys()
    for name, node in shown.items():
        assert (node.numbers, node.level) == (boxes[name].numbers, boxes[name].level)
        assert any(line[0] == node.numbers for line in detail_layout(detail.picture).lines[node.id])
    moves = {(edge.source, edge.event): edge.share for edge in detail.picture.edges}
    assert max(edge.share for edge in detail.picture.all_edges()) > 0
    assert 0 <= moves["pending", "start"] <= 1
    assert detail.alt.startswith("Numbers on the steps of the saga order")
    assert steps.picture.heading == detail.picture.heading
    assert "how often it was taken" in detail.to_dot()
    assert sum(chart_label(node.numbers) in detail.to_mermaid() for node in shown.values()) == len(shown)
    check_detail_can_be_read(detail.picture)


@pytest.mark.once
@pytest.mark.parametrize("name", FIXED)
def test_saga_without_a_run_can_be_shown(name):
    """Before its first execution every box says so."""
    saga = FIXED[name]()
    stats = Statistics.read(saga, MemoryJournal())

    assert all(step.samples == step.now == 0 for step in stats.steps.values())
    for show in SHOWN:
        assert set(levels(stats.diagram(show)).values()) == {None}
    assert stats.diagram().view == STEPS


# The command line


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty folder, in which the commands run."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def ran(*words, code=0):
    """What a command prints."""
    done = CliRunner().invoke(cli, list(words))
    assert done.exit_code == code, done.output
    return done


SHOP = "tests.test_statistics:sold.saga"
sold = Shop()


@pytest.mark.once
def test_commands_count_and_draw(here):
    """`stats` writes the JSON, `render --stats` draws it, alone or two side by side."""
    shop = Shop()
    shop.trade(SQLiteJournal("sagas.db"), 22).close()
    done = ran("stats", SHOP, "-j", "sagas.db", "-o", "week.json")
    ran("render", SHOP, "--stats", "week.json", "--show", "now", "-o", "now.dot")
    ran("render", SHOP, "--stats", "week.json", "--stats", "week.json", "-o", "both.svg", "--theme", "dark")

    stats = Statistics.read(sold.saga, "sagas.db")
    assert (here / "week.json").read_text() == stats.to_json() == ran("stats", SHOP, "-j", "sagas.db").stdout
    assert (here / "now.dot").read_text() == stats.diagram("now").to_dot()
    assert (here / "both.svg").read_text() == stats.diagram(beside=stats, theme="dark").to_svg()
    assert "22 executions" in done.stderr
    ran("render", SHOP, "--stats", "week.json", "--show", "now", "-o", "now.dot", "--check")
    ran("render", SHOP, "--stats", "week.json", "-o", "now.dot", "--check", code=1)


@pytest.mark.once
def test_command_takes_a_period_and_names_what_it_cannot_read(here):
    """--since and --until are ago; executions that cannot be read are said."""
    Shop().trade(SQLiteJournal("sagas.db"), 3).close()
    with closing(sqlite3.connect("sagas.db")) as connection, connection:
        connection.execute("UPDATE records SET details = 'no' WHERE seq = 2")
    connection.close()

    read = ran("stats", SHOP, "-j", "sagas.db")
    recent = json.loads(ran("stats", SHOP, "-j", "sagas.db", "--since", "1d", "--until", "1h").stdout)

    assert "left out: o-2" in read.stderr
    assert recent["machines"]["order"]["executions"] == 0
    assert recent["until"] - recent["since"] == pytest.approx(23 * HOUR)
    ran("stats", SHOP, "-j", "sagas.db", "--since", "7", code=2)


@pytest.mark.once
@pytest.mark.parametrize(
    "words",
    [
        ("--show", "p95", "-o", "a.svg"),
        ("--stats", "a.json", "-o", "folder/"),
        ("--stats", "a.json", "-o", "a.svg", "--id", "o-1"),
        *[("--stats", "a.json") * 3 + ("-o", "a.svg")],
    ],
)
def test_options_that_do_not_fit_are_refused(here, words):
    """An option that would do nothing is wrong usage."""
    assert "--st" in ran("render", SHOP, *words, code=2).output
