"""The content of the steps view, extracted from the built machines. No coordinates, no colours, no format.

The order of the steps, the forks and the compensation path come from the machine's transitions. Words come from the
parts that are bound to the machine's states. Marks come from a run's records.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from itertools import chain
from typing import NamedTuple

import msgspec

from fsm_mediator.definition.saga import Saga
from fsm_mediator.definition.waits import EACH
from fsm_mediator.diagram.flow_notes import chosen_of, name_of_callback, notes_of, runs_of
from fsm_mediator.diagram.folding import REST, folded, ranges, rank_of, rank_of_state, rest_title, rest_tooltip
from fsm_mediator.diagram.history import NOT_BEGUN, Run, machine_of
from fsm_mediator.diagram.labels import in_full
from fsm_mediator.diagram.progress import StepMark, StepState, became, marks_of_steps, merged
from fsm_mediator.machine.machine import CompiledMachine
from fsm_mediator.machine.parts import GROUPS, Callback, Effect, Kind, Part
from fsm_mediator.states import (
    COMPENSATING,
    EXECUTING,
    FAILED,
    PENDING,
    SUCCEEDED,
    WAITING,
    name_of,
    path_of,
)


class StepBox(msgspec.Struct, frozen=True, kw_only=True):
    """A box of the steps view. It shows one part of a saga: a step, a wait, a group or a choice."""

    id: str  # the prefix of the branch, followed by the part's path
    path: str  # the part's path in its own machine
    title: str  # the part's own name
    kind: Kind  # the kind of part
    scope: str = ""  # the path of the nested saga that contains the part, with a trailing dot. Empty if there is none
    notes: tuple[str, ...] = ()  # the small print of a wait, a group or a choice
    undo: str | None = None  # the name of the compensation, which may be empty. None if the part has no compensation
    attempts: int | None = 1  # the maximum number of attempts. None for no limit
    sticks: bool = False  # whether the part waits for a person if its attempts are used up
    pivot: bool = False  # whether the part is the pivot: when it is done, no earlier step can be undone
    each: bool = False  # whether the group has one branch for each item
    branches: tuple[FlowBranch, ...] = ()  # the branches of a group or a choice
    tooltip: str = ""  # the text that is shown if the reader points at the box
    mark: StepMark | None = None  # the run's mark. None if the picture shows no run
    numbers: str | None = None  # the statistics of many runs, as text. None in a picture without statistics
    level: int | None = None  # the index of the box's colour in `Theme.ramp`, for statistics. None for no colour
    rest: int = 0  # if the box stands for branches that are left out of the picture: the number of these branches
    leftovers: tuple[str, ...] = ()  # the titles of leftovers in these branches


class FlowBranch(msgspec.Struct, frozen=True, kw_only=True):
    """A branch of a group or of a choice."""

    name: str  # the branch's name in the group. A choice chooses a branch by its name
    flow: Flow  # the steps of the branch
    mark: StepMark | None = None  # the run's mark. None if the picture shows no run


class FlowLine(msgspec.Struct, frozen=True, kw_only=True):
    """A line of the steps view, from one step to another."""

    source: str  # the id of the step, or of the start, at which the line begins
    target: str  # the id of the step, or of the end, to which the line leads
    back: bool  # whether the line is part of the compensation path
    moves: tuple[tuple[str, str, str], ...]  # the transitions that the line shows: event, source, target
    reached: bool | None = None  # whether a run took the line. None in a picture without a run
    tooltip: str = ""  # the transitions in words
    share: float | None = None  # how often many runs took the line, divided by the largest such count. None if unknown


class Flow(msgspec.Struct, frozen=True, kw_only=True):
    """The steps of one machine in order, and the lines between them."""

    prefix: str  # the text before every id: the path of the branch and a slash, empty for a saga's own steps
    boxes: tuple[StepBox, ...]  # the steps in the order of execution
    lines: tuple[FlowLine, ...]  # the lines of execution and of the compensation path
    fails: bool  # whether the machine can end in ``failed``

    @property
    def forward(self) -> tuple[FlowLine, ...]:
        """The lines that lead forward, from the start to ``succeeded``, in the order of execution."""
        return tuple(line for line in self.lines if not line.back)

    @property
    def back(self) -> tuple[FlowLine, ...]:
        """The compensation path. Each line leads from a step to the step that is compensated next, or to ``failed``."""
        return tuple(line for line in self.lines if line.back)

    def without(self, hide: Collection[str]) -> Flow:
        """A copy of this flow without the kinds of elements in *hide*. See the attribute `Diagram.hide`."""
        boxes = []
        for box in self.boxes:
            if "unreached" in hide and box is not self.boxes[0] and box.mark is not None and box.mark.is_silent:
                continue
            known = [each for each in box.branches if "unreached" not in hide or each.mark is None or each.mark.note]
            left = msgspec.structs.replace(
                box,
                undo=None if "undo" in hide else box.undo,
                attempts=1 if "retrying" in hide else box.attempts,
                sticks=box.sticks and "stuck" not in hide,
                branches=tuple(msgspec.structs.replace(each, flow=each.flow.without(hide)) for each in known),
            )
            boxes.append(left)
        kept = {box.id for box in boxes} | {self.prefix + end for end in (PENDING, SUCCEEDED, FAILED)}
        lines = tuple(
            line
            for line in self.lines
            if {line.source, line.target} <= kept
            and not ("undo" in hide and line.back)
            and not ("unreached" in hide and line.reached is False)
        )
        fails = any(line.target == self.prefix + FAILED for line in lines)
        return msgspec.structs.replace(self, boxes=tuple(boxes), lines=lines, fails=fails)

    def all_boxes(self) -> Iterator[StepBox]:
        """Every step of this flow and of its branches. The steps of branches come right after their group."""
        for box in self.boxes:
            yield box
            for branch in box.branches:
                yield from branch.flow.all_boxes()

    def all_lines(self) -> Iterator[FlowLine]:
        """Every line of this flow, then every line of its branches."""
        yield from self.lines
        for box in self.boxes:
            for branch in box.branches:
                yield from branch.flow.all_lines()


class FlowPicture(msgspec.Struct, frozen=True, kw_only=True):
    """The content of a picture in the steps view, which shows a saga or a run."""

    name: str  # the saga's name
    heading: str  # the title
    subheading: tuple[str, ...]  # the lines below the title
    flow: Flow  # the steps and lines
    state: str | None = None  # the state of the run. None if the picture shows no run
    alt: str = ""  # the alternative text
    numbers: tuple[str, str] | None = None  # the meaning of the statistics, and of the signs in them. None without them
    scale: tuple[str, ...] = ()  # the meaning of each colour of the ramp. The palest colour is first
    beside: FlowPicture | None = None  # a second picture, which is drawn beside this one

    @property
    def is_run(self) -> bool:
        """Whether the picture shows a run."""
        return self.state is not None

    def without(self, hide: Collection[str]) -> FlowPicture:
        """A copy of the picture without the kinds of elements in *hide*. See the attribute `Diagram.hide`."""
        return msgspec.structs.replace(self, flow=self.flow.without(hide)) if hide else self

    @property
    def halves(self) -> tuple[FlowPicture, ...]:
        """This picture and, if there is one, the picture `beside` it."""
        return (self,) if self.beside is None else (self, self.beside)

    def all_nodes(self) -> Iterator[StepBox]:
        """Every step of this picture and of the picture `beside` it."""
        return chain.from_iterable(half.flow.all_boxes() for half in self.halves)

    def all_edges(self) -> Iterator[FlowLine]:
        """Every line of this picture and of the picture `beside` it."""
        return chain.from_iterable(half.flow.all_lines() for half in self.halves)


def flow_picture(
    saga: Saga, run: Run | None, *, about: Sequence[str], prefix: str = "", most: int | None = None
) -> FlowPicture:
    """The picture of the steps of *saga*, with the marks of *run*.

    Args:
        saga: The definition.
        run: The run that is marked. None for no run.
        about: The lines below the heading.
        prefix: The text before every id.
        most: The maximum number of branches of each group and choice. None for all branches.
    """
    flow = flow_of(saga, run, prefix, most=most)
    heading, subheading = saga.name, [line for line in about if line.strip()]
    if run is not None:
        heading = f"{saga.name} · {run.saga_id}"
        left = list(_leftovers(flow))
        if left:
            subheading.append(f"left over: {', '.join(left)}")
    text = f"Run {run.saga_id} of the saga {saga.name}: {', '.join(subheading)}." if run else _described(saga, flow)
    return FlowPicture(
        name=saga.name,
        heading=heading,
        subheading=tuple(subheading),
        flow=flow,
        state=None if run is None else run.state,
        alt=text,
    )


def _leftovers(flow: Flow) -> Iterator[str]:
    """The titles of the steps that have, or may have, an effect that the saga will not undo."""
    for box in flow.all_boxes():
        if box.rest:
            yield from box.leftovers
        elif box.mark is not None and box.mark.leftover:
            yield box.title


def _described(saga: Saga, flow: Flow) -> str:
    steps = ", then ".join(box.title for box in flow.boxes)
    undone = ", ".join(box.title for box in flow.boxes if box.undo is not None)
    pivot = next((f" No way back after {box.title}." for box in flow.boxes if box.pivot), "")
    return f"Steps of the saga {saga.name}: {steps}.{f' Can be undone: {undone}.' if undone else ''}{pivot}"


def flow_of(
    saga: Saga,
    run: Run | None,
    prefix: str = "",
    runs: Sequence[Run] = (),
    undone: bool = False,
    most: int | None = None,
) -> Flow:
    """The flow of *saga*: its steps in the order of its machine, and the lines between the steps.

    Args:
        saga: The definition.
        run: The run that is marked. None for no run.
        prefix: The text before every id.
        runs: If *saga* is the branch of a group over items, the runs of this branch, one for each item.
        undone: If *saga* is a branch, whether its group has been given up.
        most: The maximum number of branches of each group and choice. None for all branches.
    """
    every = list(runs) or ([] if run is None else [run])
    machine = saga.machine if not every else machine_of(saga, every[0])
    marks = [marks_of_steps(machine, each, undone=undone) for each in every]
    boxes = []
    for part, bound in _in_order(machine):
        mark = None if not every else merged([each[part.path] for each in marks])
        boxes.append(_box(saga, machine, part, bound, mark, prefix, every, most))
    taken = {(record.event, record.source, record.target) for each in every for record in each.records}
    lines = tuple(_lines(machine, prefix, taken if every else None))
    fails = any(line.target == prefix + FAILED for line in lines)
    return Flow(prefix=prefix, boxes=tuple(boxes), lines=lines, fails=fails)


def _in_order(machine: CompiledMachine) -> Iterator[tuple[Part, Callback | None]]:
    """Yield each part in the order of execution, and the function that the part calls, or None if it calls none."""
    onward = {move.source: move.target for move in machine.moves() if move.event in ("start", "executed")}
    state = onward.get(PENDING, SUCCEEDED)
    while state != SUCCEEDED:
        part = machine.places[state].part
        assert part is not None
        bound = machine.states[state].on_enter[0]
        yield part, bound.callback if isinstance(bound, Effect) else None
        state = onward.get(state, SUCCEEDED)


def _lines(machine: CompiledMachine, prefix: str, taken: set[tuple[str, str, str]] | None) -> Iterator[FlowLine]:
    pairs: dict[tuple[str, str, bool], list[tuple[str, str, str]]] = {}
    for move in machine.moves():
        event, source, target = move
        back = event in ("rejected", "compensated", "settled_undone")
        if (back or event in ("start", "executed", "settled_done")) and not (back and source == PENDING):
            pairs.setdefault((path_of(source) or source, path_of(target) or target, back), []).append(
                (event, source, target)
            )
    for (source, target, back), moves in pairs.items():
        text = "\n".join(f"{event}: {one} → {other}" for event, one, other in moves)
        reached = None if taken is None else any(move in taken for move in moves)
        yield FlowLine(
            source=prefix + source,
            target=prefix + target,
            back=back,
            moves=tuple(moves),
            reached=reached,
            tooltip=text,
        )


def _box(
    saga: Saga,
    machine: CompiledMachine,
    part: Part,
    bound: Callback | None,
    mark: StepMark | None,
    prefix: str,
    runs: Sequence[Run],
    most: int | None,
) -> StepBox:
    undoing = machine.states.get(f"{COMPENSATING}.{part.path}")
    undo = None
    if undoing is not None and part.calls_compensation:
        effect = undoing.on_enter[0]
        undo = name_of_callback(effect.callback if isinstance(effect, Effect) else None)
    sticks = any(move.event == "exhausted" and path_of(move.source) == part.path for move in machine.moves())
    branches = tuple(_branches(saga, part, mark, prefix, runs, most)) if part.kind in GROUPS else ()
    box = StepBox(
        id=prefix + part.path,
        path=part.path,
        title=getattr(part.subject, "label", None) or name_of(part.path),
        kind=part.kind,
        scope=part.scope,
        notes=notes_of(part, len(saga.branches.get(part.path, ())), runs),
        undo=undo,
        attempts=part.retry.attempts if part.kind is Kind.STEP else 1,
        sticks=sticks,
        pivot=part.pivot,
        each=part.each,
        branches=branches,
        mark=mark,
    )
    return msgspec.structs.replace(box, tooltip=_in_full(box, part, bound))


def _in_full(box: StepBox, part: Part, bound: Callback | None) -> str:
    """The tooltip of a part: all its settings and the mark of the run, with one fact per line."""
    lines = [part.path, *box.notes, *in_full(EXECUTING if part.kind is Kind.STEP else WAITING, part, bound).split("\n")]
    if box.undo is not None:
        lines.append(f"undone by {part.compensate.label}" if part.compensate else "undone branch by branch")
    if box.sticks:
        lines.append("waits for a person when it cannot be executed")
    if box.mark is not None:
        lines += [box.mark.note or str(box.mark.state), *box.mark.errors]
    return "\n".join(filter(None, lines))


class _Branch(NamedTuple):
    """A branch of a group, before its flow is made."""

    name: str  # the branch's name in the group
    saga: Saga
    prefix: str  # the text before the ids of the branch
    begun: list[Run]  # the runs of the branch. Empty if they are not known
    mark: StepMark | None  # None if the picture shows no run
    undone: bool  # whether the group has been given up

    def flow(self, most: int | None) -> Flow:
        """The flow of the branch, with the marks of its runs."""
        if self.begun:
            return flow_of(self.saga, self.begun[0], self.prefix, self.begun, self.undone, most)
        flow = flow_of(self.saga, None, self.prefix, most=most)
        return flow if self.mark is None else _all_in(flow, self.mark)

    @property
    def can_leave_effects(self) -> bool:
        """Whether a step of the branch, or of a branch inside it, may have an effect that the saga will not undo."""
        marks = (marks_of_steps(machine_of(self.saga, run), run, undone=self.undone) for run in self.begun)
        return bool(self.saga.branches) or any(mark.leftover for each in marks for mark in each.values())


def _branches(
    saga: Saga, part: Part, mark: StepMark | None, prefix: str, runs: Sequence[Run], most: int | None
) -> Iterator[FlowBranch]:
    """The branches of *part*. The last one stands for the branches that are left out, if there are more than *most*."""
    undone = mark is not None and mark.state in (StepState.COMPENSATED, StepState.IN_DOUBT, StepState.FAILED)
    known = any(run.branches is not None for run in runs)
    chosen = chosen_of(part, runs)
    every = []
    for name, branch in saga.branches.get(part.path, {}).items():
        begun: list[Run] = []
        whole: StepMark | None = None
        if mark is not None and known:
            begun = [each for run in runs for each in runs_of(part.path, name, run)] or [NOT_BEGUN]
            whole = merged([StepMark(state=became(each)) for each in begun])
        elif mark is not None:
            done = StepState.DONE if mark.state is StepState.DONE else StepState.UNKNOWN
            begun_one = bool(chosen) and (name == EACH or name in chosen)
            whole = StepMark(state=done if begun_one else StepState.NEVER)
        every.append(_Branch(name, branch, f"{prefix}{part.path}.{name}/", begun, whole, undone))
    in_the_end = chosen_of(part, [run.end or run for run in runs])

    def rank(branch: _Branch) -> int:
        if branch.begun:
            return min(map(rank_of, branch.begun))
        return rank_of_state(StepState.UNKNOWN if branch.name in in_the_end else StepState.NEVER)

    shown, rest = folded(every, most, rank)
    for each in shown:
        yield FlowBranch(name="each" if each.name == EACH else each.name, flow=each.flow(most), mark=each.mark)
    if rest:
        yield _rest(part, prefix, [each.name for each in every], rest)


def _rest(part: Part, prefix: str, names: Sequence[str], rest: Sequence[_Branch]) -> FlowBranch:
    """A branch with a single box, which stands for the branches *rest*. *names* has all names of the group."""
    marks = [each.mark for each in rest if each.mark is not None]
    flows = (each.flow(None) for each in rest if each.can_leave_effects)
    leftovers = tuple(title for flow in flows for title in _leftovers(flow))
    mark = msgspec.structs.replace(merged(marks), leftover=bool(leftovers)) if marks else None
    left_out = {each.name for each in rest}
    inner, title = f"{prefix}{part.path}.{REST}/", rest_title(len(rest))
    box = StepBox(
        id=inner + REST,
        path=REST,
        title=title,
        kind=part.kind,
        notes=(ranges(names, left_out),),
        tooltip=rest_tooltip(part.path, names, left_out),
        mark=mark,
        rest=len(rest),
        leftovers=leftovers,
    )
    reached = None if mark is None else mark.state is not StepState.NEVER
    lines = tuple(
        FlowLine(source=source, target=target, back=False, moves=(), reached=reached)
        for source, target in ((inner + PENDING, box.id), (box.id, inner + SUCCEEDED))
    )
    return FlowBranch(name=title, flow=Flow(prefix=inner, boxes=(box,), lines=lines, fails=False), mark=mark)


def _all_in(flow: Flow, mark: StepMark) -> Flow:
    """A copy of a branch's flow in which every step has the mark *mark*.

    Used if the steps of the branch are not known, only the branch's outcome.
    """
    boxes = []
    for box in flow.boxes:
        inner = tuple(
            msgspec.structs.replace(branch, flow=_all_in(branch.flow, mark), mark=mark) for branch in box.branches
        )
        boxes.append(msgspec.structs.replace(box, mark=mark, branches=inner))
    done = mark.state is StepState.DONE
    lines = tuple(msgspec.structs.replace(line, reached=done and not line.back) for line in flow.lines)
    return msgspec.structs.replace(flow, boxes=tuple(boxes), lines=lines)
