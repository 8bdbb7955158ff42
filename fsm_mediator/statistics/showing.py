"""Choose the statistics for the boxes of a picture, and write them in words."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, Literal, NamedTuple

from fsm_mediator.definition.saga import Saga
from fsm_mediator.diagram.numbers import Numbers, StepNumbers
from fsm_mediator.diagram.text import seconds
from fsm_mediator.errors import DefinitionError
from fsm_mediator.machine.parts import Kind, Part
from fsm_mediator.statistics.machines import MachineStatistics, StepStatistics

Show = Literal["p50", "p95", "failures", "now"]

LEAST_SAMPLES: Final = 20
"""The minimum number of samples for which a box gets a colour.

With fewer samples, a value may be chance. Then the value is written, but has no colour.
"""

_PLAIN: Final = f"no colour: fewer than {LEAST_SAMPLES}"
_NOTHING: Final = MachineStatistics()


class _Shown(NamedTuple):
    """A statistic that a picture can show on its steps, such as ``p95``."""

    heading: str  # the name of the statistic in a few words
    legend: str  # the meaning of signs in the notes, and of boxes without a colour
    note: Callable[[StepStatistics], str]  # returns the text in a step's box
    value: Callable[[StepStatistics], float | None]  # returns the value that the box's colour shows
    words: Callable[[float], str]  # writes a value in words
    kinds: frozenset[Kind]  # the kinds of parts whose boxes have a colour


def rounded(value: float) -> str:
    """*value*, a number of seconds, in words with two significant digits. Percentiles are not more precise."""
    figure, unit = seconds(value).split()
    return f"{float(f'{float(figure):.2g}'):g} {unit}"


def percent(share: float) -> str:
    """*share* as text in per cent, with two significant digits: ``1.5 %`` for 0.015."""
    return f"{float(f'{100 * share:.2g}'):g} %"


def _took(name: Literal["p50", "p95"]) -> _Shown:
    def note(step: StepStatistics) -> str:
        took: float | None = getattr(step, name)
        return "no samples" if took is None else f"{rounded(took)} · n {step.samples:,}"

    # Waits have no colour, because every step would look fast beside a long wait.
    return _Shown(
        f"{name}: {name[1:]} of 100 took at most",
        f"n: how many   {_PLAIN}, or a wait",
        note,
        lambda step: getattr(step, name),
        rounded,
        frozenset({Kind.STEP}),
    )


def _failed(step: StepStatistics) -> str:
    if not step.samples:
        return "no samples"
    again = f" · ↻ {step.retries:,}" if step.retries else ""
    return f"{percent(step.failures / step.samples)} of {step.samples:,}{again}"


def _now(step: StepStatistics) -> str:
    stuck = f" · {step.stuck:,} stuck" if step.stuck else ""
    return f"{step.now:,} now{stuck}"


SHOWN: Final[Mapping[Show, _Shown]] = {
    "p50": _took("p50"),
    "p95": _took("p95"),
    "failures": _Shown(
        "failures: given up, of 100",
        _PLAIN,
        _failed,
        lambda step: step.failures / step.samples if step.samples else None,
        percent,
        frozenset({Kind.STEP, Kind.SIGNAL, Kind.SLEEP}),
    ),
    "now": _Shown(
        "now: executions in a step",
        _PLAIN,
        _now,
        lambda step: float(step.now),
        lambda value: f"{value:,.0f}",
        frozenset({Kind.STEP, Kind.SIGNAL, Kind.SLEEP}),
    ),
}
"""The statistics that a picture can show, by name."""


def numbers_of(saga: Saga, machines: Mapping[str, MachineStatistics], show: Show, about: Sequence[str]) -> Numbers:
    """The statistic *show* for every step of *saga* and of its branches.

    *about* has the lines of text below the title of the picture.

    Raises:
        DefinitionError: There is no such statistic.
    """
    if show not in SHOWN:
        raise DefinitionError(f"cannot show {show!r}; there are {', '.join(SHOWN)}")
    shown = SHOWN[show]
    steps: dict[str, StepNumbers] = {}
    flows: dict[str, Mapping[str, int]] = {}
    for prefix, definition in definitions_in(saga):
        machine = machines.get(definition.name, _NOTHING)
        flows[prefix] = machine.moves
        for part in definition.parts:
            steps[prefix + part.path] = _numbers(part, machine.step(part.path), show, shown)
    return Numbers(
        name=show,
        heading=shown.heading,
        legend=shown.legend,
        about=tuple(about),
        steps=steps,
        flows=flows,
        words=shown.words,
    )


def _numbers(part: Part, step: StepStatistics, show: Show, shown: _Shown) -> StepNumbers:
    known = (step.now if show == "now" else step.samples) >= LEAST_SAMPLES and part.kind in shown.kinds
    lines = [f"{each}: {other.note(step)}" for each, other in SHOWN.items()]
    value = shown.value(step) if known else None
    return StepNumbers(note=shown.note(step), value=value, tooltip="\n".join(lines))


def definitions_in(saga: Saga, prefix: str = "") -> Iterator[tuple[str, Saga]]:
    """Yield *saga* and the sagas of all its branches, each as (prefix of its ids in a picture, saga)."""
    yield prefix, saga
    for group, branches in saga.branches.items():
        for name, branch in branches.items():
            yield from definitions_in(branch, f"{prefix}{group}.{name}/")
