"""Draws the gallery: the machine and some runs of every example saga, as SVG, DOT and Mermaid.

``python diagrams/generate.py`` writes the gallery. With ``--check`` the script prints a diff for each file that is out
of date, and exits with 1. For an SVG it compares only the source, because the drawing differs between versions of
Graphviz. The gallery shows the saga of the README, two sagas of this file, and the ``saga`` or ``definition`` of every
package under ``examples``. If a package has a ``sample``, this is the payload. The runs are fed by hand, with their own
clock, so they are always the same.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import importlib
import io
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))  # to be run as a script from anywhere

from fsm_mediator.definition.saga import Saga  # noqa: E402
from fsm_mediator.definition.steps import Context, Step  # noqa: E402
from fsm_mediator.definition.waits import EACH, Choose, Parallel, Signal, Sleep  # noqa: E402
from fsm_mediator.diagram import Diagram  # noqa: E402 - after the path is known
from fsm_mediator.diagram.history import Run  # noqa: E402
from fsm_mediator.diagram.staleness import difference, text_difference  # noqa: E402
from fsm_mediator.errors import OutcomeUnknownError, StepRejectedError  # noqa: E402
from fsm_mediator.execution.execution import Execution  # noqa: E402
from fsm_mediator.machine.parts import AWAIT, COMPENSATE, GROUPS, WAIT, Effect, Kind  # noqa: E402
from fsm_mediator.records import (  # noqa: E402
    Acceptance,
    Answer,
    Begin,
    Branch,
    Branches,
    Happened,
    OperatorUndo,
    Raised,
    Returned,
    Signalled,
)
from fsm_mediator.retry import Retry  # noqa: E402
from fsm_mediator.states import COMPENSATING, FAILED, STUCK, SUCCEEDED, phase_of  # noqa: E402

START = 1_700_000_000.0
TOOK = 0.04
"""Seconds that every call takes."""

WIDE, MOST = 200, 12
"""How much of a difference is told: characters of a line, lines of a file."""

Script = Callable[[Effect, int], Answer]
"""What comes of an effect, at which attempt of it."""


class ReserveStock(Step):
    """Sets the goods aside."""

    def execute(self, order: object) -> None:
        """Sets them aside."""

    def compensate(self, order: object) -> None:
        """Gives them back."""


class AuthorizePayment(Step):
    """Asks the bank, which may answer late or not at all."""

    retry = Retry(attempts=4, wait_initial=0.2, wait_jitter=0)
    timeout = 2.0
    overtake = True

    def execute(self, order: object) -> None:
        """Asks for the money."""

    def compensate(self, order: object) -> None:
        """Gives it back."""

    def probe(self, _order: object, context: Context) -> Happened:
        """Asks the bank whether it heard us."""
        return Happened(context.execute_key)


class PlaceOrder(Step):
    """Tells the warehouse: from here on there is no way back."""

    pivot = True

    def execute(self, order: object) -> None:
        """Tells it."""


class SendReceipt(Step):
    """Tells the customer, for as long as it takes."""

    def execute(self, order: object) -> None:
        """Sends it."""


def checkout() -> Saga:
    """A shop's checkout: two steps that can be undone, the pivot, and one that can only be completed."""
    return Saga("checkout", [ReserveStock(), AuthorizePayment(), PlaceOrder(), SendReceipt()])


class Fulfil(Step):
    """A step of the order's way to the customer."""

    def __init__(self, name: str) -> None:
        self.name = name

    def execute(self, order: object) -> None:
        """Does it."""

    def compensate(self, order: object) -> None:
        """Takes it back."""


class Announce(Step):
    """Tells somebody, which cannot be taken back."""

    retry = Retry(attempts=2)

    def __init__(self, name: str) -> None:
        self.name = name

    def execute(self, order: object) -> None:
        """Tells."""


def by_weight(_order: object) -> str:
    """Which carrier takes it."""
    return "road"


def fulfilment() -> Saga:
    """An order's fulfilment: an approval, work in parallel, a choice and a wait."""
    pack = Fulfil("pack")
    pack.timeout, pack.overtake = 5.0, True
    return Saga(
        "fulfilment",
        [
            Fulfil("reserve"),
            Signal("approval", timeout=86_400),
            Parallel("prepare", [pack, Saga("papers", [Fulfil("invoice"), Announce("customs")])]),
            Choose("carrier", {"road": Fulfil("truck"), "air": Fulfil("plane")}, by=by_weight),
            Sleep("returns", 14 * 86_400),
            Announce("thanks"),
        ],
    )


def readme_saga() -> Saga:
    """The saga that the README defines in its first block of code: what the README shows is what it says."""
    page = (HERE.parent / "README.md").read_text(encoding="utf-8")
    block = re.search(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    if block is None:
        raise SystemExit("README.md has no block of Python, so that there is no saga to draw")
    module = ModuleType("readme")
    sys.modules["readme"] = module  # annotations are resolved by looking their module up
    with contextlib.redirect_stdout(io.StringIO()):
        exec(block[1], module.__dict__)  # noqa: S102 - it is our own page
    del sys.modules["readme"]
    found = [each for each in vars(module).values() if isinstance(each, Saga)]
    return found[-1]


@functools.cache
def sagas() -> dict[str, Saga]:
    """The sagas of the gallery, by the folder they are shown in."""
    found = {"readme": readme_saga(), "checkout": checkout(), "fulfilment": fulfilment()}
    for package in sorted((HERE.parent / "examples").glob("*/__init__.py")):
        module = importlib.import_module(f"examples.{package.parent.name}")
        shown = getattr(module, "saga", getattr(module, "definition", None))
        if isinstance(shown, Saga):
            found[package.parent.name] = shown
    return found


def sample(folder: str) -> object:
    """The payload of an example's runs."""
    if not (HERE.parent / "examples" / folder).is_dir():
        return None
    return getattr(importlib.import_module(f"examples.{folder}"), "sample", None)


def all_well(_steps: list[str]) -> Script:
    """Every call returns."""
    return lambda _effect, _attempt: Returned()


def in_the_end(steps: list[str], error: str = "no answer on port 443") -> Script:
    """Every call returns, of the first step only the third."""

    def answer(effect: Effect, attempt: int) -> Answer:
        refuses = effect.kind != COMPENSATE and effect.part.path == steps[0] and attempt < 3
        return Raised(ConnectionResetError(error)) if refuses else Returned()

    return answer


def refused(steps: list[str]) -> Script:
    """The first step says no; what was done is undone."""

    def answer(effect: Effect, _attempt: int) -> Answer:
        if effect.kind != COMPENSATE and effect.part.path == steps[0]:
            return Raised(StepRejectedError("the address does not exist"))
        return Returned()

    return answer


def unreachable(steps: list[str]) -> Script:
    """The first step never gets an answer: the README's failing run."""

    def answer(effect: Effect, _attempt: int) -> Answer:
        if effect.kind != COMPENSATE and effect.part.path == steps[0]:
            return Raised(ConnectionResetError("the mail server hung up"))
        return Returned()

    return answer


def given_up(steps: list[str]) -> Script:
    """As `refused`, and no step can be undone."""

    def answer(effect: Effect, attempt: int) -> Answer:
        if effect.kind == COMPENSATE:
            return Raised(OutcomeUnknownError("the bank's line is dead"))
        return refused(steps)(effect, attempt)

    return answer


RUNS: dict[str, tuple[str, Callable[[list[str]], Script], Callable[[Run], bool]]] = {
    "succeeded": ("A run that went well", all_well, lambda run: run.state == SUCCEEDED),
    "retried": (
        "A run in which a step needed three attempts",
        in_the_end,
        lambda run: run.state == SUCCEEDED and "errored" in events_of(run),
    ),
    "failed": (
        "A run that failed, and was compensated",
        refused,
        lambda run: run.state == FAILED and "compensated" in events_of(run),
    ),
    "stuck": (
        "A run in which a compensation was given up: it waits for a person",
        given_up,
        lambda run: phase_of(run.state) == STUCK,
    ),
}
"""Of each run: the caption, the script by the steps, of which the first fails, and whether the caption is true."""


def events_of(run: Run) -> set[str]:
    """Every event of a run and its branches."""
    found = {record.event for record in run.records}
    return found.union(*(events_of(each) for each in (run.branches or {}).values()))


def steps_of(saga: Saga) -> list[str]:
    """The steps in order, those of branches where their group stands."""
    found: list[str] = []
    for part in saga.parts:
        if part.kind is Kind.STEP:
            found.append(part.path)
        for branch in saga.branches.get(part.path, {}).values():
            found += steps_of(branch)
    return found


class Scripted:
    """An execution in which *script* says what comes of everything, and its branches, which go on at the same time."""

    def __init__(self, saga: Saga, accepted: Acceptance, script: Script, given: Mapping[str, object]) -> None:
        self.execution = Execution(saga, accepted)
        if saga.single is not None:
            self.execution.parent_results = lambda: given
        self.script = script
        self.branches: dict[str, Scripted] = {}

    def drive(self, answer: Answer, at: float) -> float:
        """Feed *answer* and all that follows, until nothing goes on by itself; returns the time."""
        execution = self.execution
        execution.feed(answer, at)
        while (effect := execution.effect) is not None:
            if execution.advance(at) is not None:
                continue
            if effect.part.kind in GROUPS:
                at = self._drive_branches(effect.part.path, at)
            elif execution.due_at is not None and effect.kind == WAIT:
                at = max(at, execution.due_at)
            else:
                at += TOOK
                said = Signalled(None) if effect.kind == AWAIT else self.script(effect, execution.attempt)
                execution.feed(said, at)
        return at

    def _drive_branches(self, group: str, at: float) -> float:
        """Have the branches of *group* begin, or take back what they did, and tell how they stand."""
        execution, saga = self.execution, self.execution.saga
        ends = [at]
        for born in execution.pop_new_branches():
            name = born.saga_id.rpartition(".")[2]
            known = saga.branches[group]
            branch = Scripted(known.get(name) or known[EACH], born, self.script, dict(execution.results))
            self.branches[f"{group}.{name}"] = branch
            ends.append(branch.drive(Begin(), at))
        mine = {name: self.branches[f"{group}.{name}"] for name in execution.group}
        if execution.phase == COMPENSATING:
            ends += [branch.drive(OperatorUndo(), at) for branch in mine.values() if branch.can_undo()]
        execution.feed(Branches(tuple(branch.told(name) for name, branch in mine.items())), max(ends))
        return max(ends)

    def can_undo(self) -> bool:
        """Whether it has succeeded, and has something to take back."""
        return self.execution.state == SUCCEEDED and self.execution.machine.has_transition("undo", SUCCEEDED)

    def told(self, name: str) -> Branch:
        """How it stands, for its parent."""
        outcome = self.execution.outcome()
        return Branch(name, outcome.state if outcome.ended else "stuck", error=outcome.error, undoable=self.can_undo())

    def run(self) -> Run:
        """It, as a diagram shows it."""
        execution = self.execution
        branches = {name: branch.run() for name, branch in self.branches.items()}
        records = tuple(execution.history)
        return Run(saga_id=execution.saga_id, state=execution.state, records=records, branches=branches)


def run(saga: Saga, saga_id: str, script: Script, payload: object) -> Diagram:
    """The way of an execution in which *script* says what comes of everything."""
    accepted = Acceptance(saga_id, saga.name, saga.version, saga.fingerprint, payload, START)
    scripted = Scripted(saga, accepted, script, {})
    scripted.drive(Begin(), START)
    return Diagram(saga, scripted.run(), theme="auto")


def run_as_captioned(folder: str, name: str) -> Diagram:
    """The run called *name* of a saga: the first step for which its caption is true is the one that fails."""
    saga, (caption, script, is_true) = sagas()[folder], RUNS[name]
    told = (folder, name) == ("readme", "failed")  # by the README itself
    steps = steps_of(saga)
    for first in (*range(2, len(steps)), *range(min(2, len(steps)))):
        order = [steps[first], *steps[:first], *steps[first + 1 :]]
        saga_id = "bob" if told else f"{folder}-{name}"
        diagram = run(saga, saga_id, (unreachable if told else script)(order), sample(folder))
        if diagram.run is not None and is_true(diagram.run):
            return diagram
    raise SystemExit(f"{folder}: no step makes this true: {caption}")


def diagrams() -> Iterator[tuple[str, str, Diagram]]:
    """Every diagram: its name, what it shows, itself. Each is light, and dark on a dark page."""
    for folder, saga in sagas().items():
        yield f"{folder}/steps", "The steps, for readers", saga.diagram("steps", theme="auto")
        for name, (shows, _, _) in RUNS.items():
            yield f"{folder}/{name}", shows, run_as_captioned(folder, name).with_(view="steps")
        yield f"{folder}/detail", "Every state and every transition", saga.diagram(theme="auto")
        yield f"{folder}/failed-detail", "Every state of the run that failed", run_as_captioned(folder, "failed")


def page(shown: list[tuple[str, str, Diagram]]) -> str:
    """The gallery's page."""
    lines = [
        "# The gallery",
        "",
        "`python diagrams/generate.py` draws this page from the machines that run; `--check` finds old pictures.",
        "Each picture is also stored as DOT and as Mermaid.",
    ]
    folder = ""
    for name, shows, diagram in shown:
        if name.partition("/")[0] != folder:
            folder = name.partition("/")[0]
            lines += ["", f"## {folder}"]
        picture = f"![{diagram.alt}]({name}.svg)"
        lines += ["", f"### {shows}", "", picture, "", f"[DOT]({name}.dot) · [Mermaid]({name}.mmd)"]
        if name.endswith("/failed"):
            lines += ["", "### The same run, record by record", "", picture.replace(".svg)", "-animated.svg)")]
    return "\n".join([*lines, ""])


def write(root: Path) -> None:
    """Draw the gallery into *root*."""
    shown = list(diagrams())
    for name, _, diagram in shown:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        for kind in ("svg", "dot", "mmd"):
            diagram.render(root / f"{name}.{kind}")
        if name.endswith("/failed"):
            diagram.render(root / f"{name}-animated.svg", animate=True)
    (root / "README.md").write_text(page(shown), encoding="utf-8")


def stale(root: Path) -> list[str]:
    """What the files in *root* should say and do not, as a diff; empty where the gallery is fresh."""
    shown = list(diagrams())
    found: list[str] = []
    drawn = set()
    for name, _, diagram in shown:
        names = [f"{name}.{kind}" for kind in ("svg", "dot", "mmd")]
        names += [f"{name}-animated.svg"] if name.endswith("/failed") else []
        drawn.update(names)
        for each in names:
            found += _told(each, difference(root / each, diagram), root)
    there = (root / "README.md").read_text(encoding="utf-8") if (root / "README.md").exists() else ""
    found += _told("README.md", text_difference(root / "README.md", there, page(shown)), root)
    kept = {str(path.relative_to(root)) for kind in ("svg", "dot", "mmd") for path in root.rglob(f"*.{kind}")}
    found += [f"{name}: nothing draws it any more" for name in sorted(kept - drawn)]
    return found


def _told(name: str, differences: list[str], root: Path) -> list[str]:
    told = [line.replace(f"{root}/", "")[:WIDE] for line in differences[:MOST]]
    if len(differences) > MOST:
        told.append(f"... and {len(differences) - MOST} lines more in {name}")
    return told


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 and a diff if it is stale")
    parser.add_argument("--into", type=Path, default=HERE, help="the folder of the gallery (by default this one)")
    options = parser.parse_args()
    if not options.check:
        write(options.into)
        return 0
    found = stale(options.into)
    if found:
        sys.stdout.write("\n".join([*found, "", "The gallery is stale. Draw it anew: python diagrams/generate.py", ""]))
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main())
