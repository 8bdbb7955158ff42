"""Draws the gallery: every example saga, its machine and some of its runs, as SVG, DOT and Mermaid.

``python diagrams/generate.py`` writes it; with ``--check`` it compares DOT, Mermaid and the page, says what is stale as
a diff, and exits with 1. SVG is not compared: it differs between versions of Graphviz. Runs are fed by hand, with a
clock of their own, so that every one is the same every time.
"""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))  # to be run as a script from anywhere

from fsm_mediator.diagram import Diagram  # noqa: E402 - after the path is known
from fsm_mediator.errors import OutcomeUnknownError, StepRejectedError  # noqa: E402
from fsm_mediator.execution import Execution  # noqa: E402
from fsm_mediator.outcome import Outcome  # noqa: E402
from fsm_mediator.parts import COMPENSATE, WAIT, Effect, Kind  # noqa: E402
from fsm_mediator.records import Acceptance, Answer, Begin, Happened, Raised, Returned  # noqa: E402
from fsm_mediator.retry import Retry  # noqa: E402
from fsm_mediator.saga import Saga  # noqa: E402
from fsm_mediator.steps import Context, Step  # noqa: E402

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


def sagas() -> dict[str, Saga]:
    """The sagas of the gallery, by the folder they are shown in."""
    from examples.profile_sync import saga as profile_sync

    return {"checkout": checkout(), "profile_sync": profile_sync}


def all_well(_effect: Effect, _attempt: int) -> Answer:
    """Every call returns."""
    return Returned()


def in_the_end(effect: Effect, attempt: int) -> Answer:
    """Every call returns, of the second step only the third."""
    number = effect.part.path in ("authorize_payment", "billing")
    return Raised(ConnectionRefusedError("no answer on port 443")) if number and attempt < 3 else Returned()


def refused(effect: Effect, _attempt: int) -> Answer:
    """The last step that can be undone, or the one after it, says no; what was done is undone."""
    if effect.kind != COMPENSATE and effect.part.path in ("place_order", "notification"):
        return Raised(StepRejectedError("the address does not exist"))
    return Returned()


def given_up(effect: Effect, attempt: int) -> Answer:
    """As `refused`, but the step before cannot be undone either."""
    if effect.kind == COMPENSATE and effect.part.path in ("authorize_payment", "billing"):
        return Raised(OutcomeUnknownError("the bank's line is dead"))
    return refused(effect, attempt)


RUNS: dict[str, tuple[str, Script]] = {
    "succeeded": ("A run that went well", all_well),
    "retried": ("A run in which a step needed three attempts", in_the_end),
    "failed": ("A run that failed, and was compensated", refused),
    "stuck": ("A run in which a compensation was given up: it waits for a person", given_up),
}


def run(saga: Saga, saga_id: str, script: Script) -> Outcome:
    """The outcome of an execution in which *script* says what comes of everything."""
    execution = Execution(saga, Acceptance(saga_id, saga.name, saga.version, saga.fingerprint, None, START))
    at = START
    execution.feed(Begin(), at)
    while (effect := execution.effect) is not None:
        if effect.kind == WAIT and execution.due_at is not None:
            at = max(at, execution.due_at)
            execution.advance(at)
            continue
        if effect.part.kind is not Kind.STEP:
            raise SystemExit(f"{saga.name}: {effect!r} waits for somebody; a run of it is not scripted yet")
        at += TOOK
        execution.feed(script(effect, execution.attempt), at)
    return execution.outcome()


def diagrams() -> Iterator[tuple[str, str, Diagram]]:
    """Every diagram: its name, what it shows, itself."""
    for folder, saga in sagas().items():
        yield f"{folder}/detail", "Every state and every transition", saga.diagram()
        yield f"{folder}/detail-dark", "The same, on a dark page", saga.diagram().with_(theme="dark")
        yield f"{folder}/overview", "The phases", saga.diagram("overview")
        for name, (shows, script) in RUNS.items():
            yield f"{folder}/{name}", shows, run(saga, f"{folder}-{name}", script).diagram()


def texts() -> dict[str, str]:
    """Everything that is compared: what each file holds, by its name."""
    held = {}
    page = [
        "# The gallery",
        "",
        "Drawn by `python diagrams/generate.py` from the machines that run; `--check` tells when it is stale.",
        "Each picture is also there as DOT and as Mermaid.",
    ]
    folder = ""
    for name, shows, diagram in diagrams():
        held[f"{name}.dot"] = diagram.to_dot()
        held[f"{name}.mmd"] = diagram.to_mermaid()
        if name.partition("/")[0] != folder:
            folder = name.partition("/")[0]
            page += ["", f"## {folder}"]
        page += [
            "",
            f"### {shows}",
            "",
            f"![{diagram.alt}]({name}.svg)",
            "",
            f"[DOT]({name}.dot) · [Mermaid]({name}.mmd)",
        ]
        if name.endswith("/failed"):
            page += ["", "### The same run, record by record", "", f"![{diagram.alt}]({name}-animated.svg)"]
    held["README.md"] = "\n".join([*page, ""])
    return held


def write(root: Path) -> None:
    """Draw the gallery into *root*."""
    for name, text in texts().items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    for name, _, diagram in diagrams():
        diagram.render(root / f"{name}.svg")
        if name.endswith("/failed"):
            diagram.render(root / f"{name}-animated.svg", animate=True)


def stale(root: Path) -> list[str]:
    """What the files in *root* should say and do not, as a diff; empty where the gallery is fresh."""
    found: list[str] = []
    held = texts()
    for name, text in held.items():
        path = root / name
        there = path.read_text(encoding="utf-8") if path.exists() else ""
        names = (f"{name} (as it is)", f"{name} (as it should be)")
        differences = list(difflib.unified_diff(there.splitlines(), text.splitlines(), *names, lineterm="", n=0))
        found += (line[:WIDE] for line in differences[:MOST])
        if len(differences) > MOST:
            found.append(f"... and {len(differences) - MOST} lines more")
    kept = {str(path.relative_to(root)) for kind in ("dot", "mmd") for path in root.rglob(f"*.{kind}")}
    found += [f"{name}: nothing draws it any more" for name in sorted(kept - held.keys())]
    return found


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
