"""The demo: run a saga for each line of a file, several at a time, on services that fail.

The output is in `report`, the check of the result in `check`.
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
RUN_FILE = "run.json"


class DifferentRunError(Exception):
    """The folder holds the state of another file or seed, which this run cannot resume."""


@attrs.frozen
class Result:
    """The result of a run of the demo.

    Attributes:
        outcomes: The outcome of each line, in order.
        malformed: The lines that are not valid.
        late: The requests that reached a service after all sagas had ended, counted by result.
        mismatches: The rows that do not match the outcomes.
    """

    outcomes: list[tuple[Line, Outcome]]
    malformed: list[Malformed]
    late: dict[str, int]
    mismatches: list[Mismatch]


def demo_faults(seed: int, latency: float = 0.0) -> Faults:
    """Faults that are frequent enough to take every path."""
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
    """Applies every change of *source* in all services or in none, and checks the result.

    With a journal on disk, a run that was killed is resumed: the sagas have the same ids, so none runs twice.
    Without a journal they run again, and the services recognise the requests that they know.

    Args:
        source: The file of changes, one JSON object per line.
        folder: The folder of the services' databases.
        faults: The faults of the network.
        journal: The journal of the mediator; None for memory.
        workers: How many sagas run at a time.
        on_begin: Called with the number of sagas.
        on_end: Called with each line whose saga ended, and its outcome.

    Raises:
        DifferentRunError: *folder* was used with another file or seed.
    """
    lines, malformed = read_changes(source)
    _check_same_run(folder, {"seed": faults.seed, "source": hashlib.sha256(source.read_bytes()).hexdigest()})
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
                pool.shutdown(wait=False, cancel_futures=True)  # or Ctrl-C would wait for all other sagas
                raise
            outcomes = [(line, mediator.outcome(line.saga_id)) for line in lines]
        late = faults.deliver_late()
    finally:
        services.close()
    states = {line.saga_id: outcome.state for line, outcome in outcomes}
    return Result(outcomes, malformed, dict(late), check(folder, lines, states))


def clear(folder: Path) -> None:
    """Deletes the state of the demo in *folder*, and no other file."""
    databases = [*(f"{participant}.db" for participant in QUERIES), JOURNAL]
    for name in [RUN_FILE, *(f"{database}{suffix}" for database in databases for suffix in ("", "-wal", "-shm"))]:
        (folder / name).unlink(missing_ok=True)


def prepare(folder: Path) -> None:
    """Creates *folder*, if needed, with a file that keeps it out of git."""
    if not folder.exists():
        folder.mkdir(parents=True)
        (folder / ".gitignore").write_text("*\n")


def _check_same_run(folder: Path, this: dict[str, object]) -> None:
    """Refuses another file or seed: the ids of the sagas and the faults depend on both."""
    prepare(folder)
    path = folder / RUN_FILE
    if not path.exists():
        temporary = path.with_suffix(".tmp")
        temporary.write_text(json.dumps(this))
        temporary.replace(path)  # a kill in between leaves no half-written file
    elif json.loads(path.read_text()) != this:
        raise DifferentRunError(f"{folder} was used with another file or seed: use the same, or pass --fresh")


def count_attempts(outcomes: Sequence[Outcome], phase: str) -> int:
    """The number of attempts in one phase (``executing`` or ``compensating``)."""
    return sum(record.source.startswith(f"{phase}.") for outcome in outcomes for record in outcome.history)


def failed_step(outcome: Outcome) -> str:
    """The step whose failure started the compensation."""
    return next(r.step or "" for r in outcome.history if r.event in {"rejected", "in_doubt"})
