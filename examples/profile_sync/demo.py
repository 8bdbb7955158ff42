"""The demo: a file of changes through the mediator, several sagas at once, on services that fail.

Holds what happens, in order. How it looks on the screen is in `report`, what must be true afterwards in `check`.
"""

from __future__ import annotations

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import TYPE_CHECKING

import attrs

from examples.profile_sync.changes import Line, Malformed, ProfileChange, original, read_changes
from examples.profile_sync.check import QUERIES, Mismatch, check
from examples.profile_sync.faults import Faults
from examples.profile_sync.lifecycle import UserLifecycleMediator
from examples.profile_sync.services import Services
from examples.profile_sync.steps import profile_steps

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from fsm_mediator import Journal, Outcome

JOURNAL = "sagas.db"
BEGUN_WITH = "begun_with.json"


class OtherRunError(Exception):
    """The folder holds the state of another file or seed, which this run cannot take up."""


@attrs.frozen
class Result:
    """What a run of the demo came to.

    Attributes:
        outcomes: Of each line, in order.
        malformed: The lines that could not be used.
        late: What became of requests that reached a service after everything had ended.
        mismatches: Where the participants' tables are not what the outcomes promise; empty if all is well.
    """

    outcomes: list[tuple[Line, Outcome]]
    malformed: list[Malformed]
    late: dict[str, int]
    mismatches: list[Mismatch]


def demo_faults(seed: int, latency: float = 0.0) -> Faults:
    """Enough trouble that every path is taken."""
    return Faults(
        seed=seed, down=0.08, lost=0.05, late=0.03, outage=0.02, outage_calls=5, refused=0.03, latency=latency
    )


def synchronise(
    source: Path,
    folder: Path,
    faults: Faults,
    *,
    journal: Journal | str | None = None,
    workers: int = 8,
    on_begin: Callable[[int], None] = lambda total: None,
    on_end: Callable[[Line, Outcome], None] = lambda line, outcome: None,
) -> Result:
    """Brings every change of *source* to all participants or to none, and checks that.

    With a journal on disk a run that was killed is taken up where it was: the sagas have the same ids and are
    joined, not repeated. Without one they run anew, on services that recognise every request they know.

    Args:
        source: The file of changes, one JSON object per line.
        folder: Where the participants keep their state.
        faults: What goes wrong.
        journal: Where the mediator keeps what happened; None for memory.
        workers: How many sagas at once.
        on_begin: Told how many sagas there will be.
        on_end: Told of each saga that ended.

    Raises:
        OtherRunError: *folder* was begun with another file or seed.
    """
    lines, malformed = read_changes(source)
    _same_run(folder, {"seed": faults.seed, "source": hashlib.sha256(source.read_bytes()).hexdigest()})
    services = Services.at(folder, faults)
    try:
        services.enroll(original(line.change.user_id) for line in lines)
        on_begin(len(lines))
        with (
            UserLifecycleMediator(profile_steps(services), payload=ProfileChange, journal=journal) as mediator,
            ThreadPoolExecutor(workers) as pool,
        ):
            mediator.recover()
            runs = {
                pool.submit(mediator.execute, line.change, saga_id=line.saga_id, check=False): line for line in lines
            }
            try:
                for run in as_completed(runs):
                    on_end(runs[run], run.result())
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)  # else Ctrl-C would wait for all the rest
                raise
            outcomes = [(line, mediator.outcome(line.saga_id)) for line in lines]
        late = faults.deliver_late()
    finally:
        services.close()
    states = {line.saga_id: outcome.state for line, outcome in outcomes}
    return Result(outcomes, malformed, dict(late), check(folder, lines, states))


def clear(folder: Path) -> None:
    """Removes what the demo keeps in *folder*, and nothing else."""
    databases = [*(f"{participant}.db" for participant in QUERIES), JOURNAL]
    for name in [BEGUN_WITH, *(f"{database}{suffix}" for database in databases for suffix in ("", "-wal", "-shm"))]:
        (folder / name).unlink(missing_ok=True)


def prepare(folder: Path) -> None:
    """Makes *folder*; one that was made here keeps itself out of git."""
    if not folder.exists():
        folder.mkdir(parents=True)
        (folder / ".gitignore").write_text("*\n")


def _same_run(folder: Path, this: dict[str, object]) -> None:
    """A saga id is a line of one file, and its fate hangs on one seed: another of either is another run."""
    prepare(folder)
    path = folder / BEGUN_WITH
    if not path.exists():
        half = path.with_suffix(".half")
        half.write_text(json.dumps(this))
        half.replace(path)  # a kill in between leaves no half-written file behind
    elif json.loads(path.read_text()) != this:
        raise OtherRunError(f"{folder} was begun with another file or seed: give the same ones, or begin --fresh")


def attempts_of(outcomes: Sequence[Outcome], phase: str) -> int:
    """How many attempts of one phase (``executing``, ``compensating``) there were in all."""
    return sum(record.source.startswith(f"{phase}.") for outcome in outcomes for record in outcome.history)


def gave_up_at(outcome: Outcome) -> str:
    """The step that set compensation off."""
    return next(r.step or "" for r in outcome.history if r.event in {"rejected", "in_doubt"})
