"""Pages: make the content of each page as data for its template, and execute the verbs of submitted forms."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

import attrs
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from fsm_mediator.definition.saga import Saga, all_definitions
from fsm_mediator.diagram import Diagram
from fsm_mediator.diagram.history import frame_of, number_of_records
from fsm_mediator.diagram.picture import STEPS, View
from fsm_mediator.errors import DefinitionError, JournalError, MediatorError, RefusedError, UnknownSagaError
from fsm_mediator.ids import is_branch
from fsm_mediator.journal.archive import ArchivedExecution, archived_page
from fsm_mediator.journal.finding import attributes_of
from fsm_mediator.journal.notes import keeps_notes
from fsm_mediator.journal.operators import Drivability
from fsm_mediator.journal.protocol import Entry
from fsm_mediator.mediator.diagrams import run_of
from fsm_mediator.narration import span
from fsm_mediator.states import is_ended, path_of, phase_of
from fsm_mediator.statistics import Statistics
from fsm_mediator.statistics.machines import MachineStatistics
from fsm_mediator.ui.auditing import audit
from fsm_mediator.ui.batches import IN_BULK, MOST, Batches
from fsm_mediator.ui.caching import Cached
from fsm_mediator.ui.offers import Offer, arguments, offers
from fsm_mediator.ui.pictures import inline_svg, strip
from fsm_mediator.ui.reading import LOOKED_AT, Reader, trace_of
from fsm_mediator.verifier import verify

A_PAGE: Final = 50
"""The maximum number of executions on one page of a list."""

FILTERS: Final = ("state", "saga", "version", "error", "step", "having", "text", "parent", "since", "until")
"""The names of the filters of a list, as they are in the URL.

A filter must not have the name of a property of HTML forms, such as ``attributes``. In a browser, a field with this
name would hide the property, and the page could not refresh itself.
"""

VIEWS: Final[tuple[View, ...]] = ("steps", "detail")
SHOWS: Final = ("now", "p95", "p50", "failures")

COUNTS_KEPT: Final = 5.0
NUMBERS_KEPT: Final = 60.0
FOR_EVER: Final = float("inf")


@attrs.frozen
class Page:
    """The name of a page's template, and the data for the template."""

    template: str
    content: Mapping[str, Any]


class Pages:
    """Makes the content of each page, and executes the verbs of submitted forms.

    Args:
        reader: Reads the journal.
        batches: Starts and resumes batches, and reads their results.
        call: A function that calls a method of the mediator by its name. None if there is no mediator.
        archive: The folder of the archive. None if no archive is shown.
    """

    def __init__(
        self,
        reader: Reader,
        batches: Batches,
        call: Callable[..., Awaitable[Any]] | None,
        archive: Path | None = None,
    ) -> None:
        self._archive = archive
        self._reader = reader
        self._call = call
        self._cache = Cached()
        self.batches = batches

    async def now(self, _request: Request) -> Page:
        """The start page: the executions in trouble, then each machine with the number of executions in each state."""
        troubled = await run_in_threadpool(self._reader.troubled)
        counts, age = await self._counts()
        machines = [
            {
                "name": name,
                "version": version,
                "phases": sorted(_by_phase(states).items()),
                "picture": await self._picture_of_counts(name, version, counts),
            }
            for name, version, states in _ordered(counts)
            if name not in self._reader.branch_names
        ]
        return Page(
            "now.html", {"title": "Now", "troubled": troubled, "machines": machines, "age": age, "most": LOOKED_AT}
        )

    async def _counts(self) -> tuple[Mapping[tuple[str, str], Counter[str]], str]:
        """The number of executions in each state, by saga and version, and the age of these numbers in words."""
        (counts, lag), age = await self._cache.get("counts", self._reader.counts, seconds=COUNTS_KEPT)
        return counts, _age(lag, age)

    async def _picture_of_counts(self, name: str, version: str, counts: Mapping[tuple[str, str], Counter[str]]) -> Any:
        saga = self._saga(name, version)
        if saga is None:
            return None
        states = {
            each.name: MachineStatistics(executions=found.total(), now=dict(found))
            for each in all_definitions(saga)
            if (found := counts.get((each.name, each.version))) is not None
        }
        diagram = Statistics(saga, version, machines=states).diagram("now", theme="auto")
        return await run_in_threadpool(inline_svg, diagram)

    def _saga(self, name: str, version: str) -> Saga | None:
        known = [saga for saga in self._reader.sagas if (saga.name, saga.version) == (name, version)]
        return known[-1] if known else None

    async def runs(self, request: Request) -> Page:
        """The page with the newest executions that match the filters in the URL."""
        asked = {name: request.query_params.get(name, "").strip() or None for name in FILTERS}
        wanted, after = request.query_params.get("id", "").strip(), request.query_params.get("after") or None
        if wanted:
            entries = [await run_in_threadpool(self._reader.entry, wanted)]
        else:
            entries = await run_in_threadpool(self._reader.executions, asked, after, A_PAGE + 1)
        rows = await run_in_threadpool(self._reader.rows, entries[:A_PAGE])
        more = None
        if len(entries) > A_PAGE and entries[A_PAGE - 1].cursor is not None:
            filters = {name: value for name, value in asked.items() if value is not None}
            more = urlencode({**filters, "after": entries[A_PAGE - 1].cursor})
        asked |= {"id": wanted}
        content = {"title": "Executions", "rows": rows, "asked": asked, "more": more, "in_bulk": IN_BULK}
        return Page("runs.html", content)

    async def run(self, request: Request) -> Page:
        """The page of one execution: its picture, timeline, inbox and branches, and the verbs that are allowed now."""
        return await self._run_page(self._reader, request.path_params["saga_id"], request)

    async def _run_page(self, reader: Reader, saga_id: str, request: Request) -> Page:
        view = request.query_params.get("view", "steps")
        at = request.query_params.get("at", "")
        only = request.query_params.get("state") or None
        read = functools.partial(self._read_run, reader, saga_id)
        content = await run_in_threadpool(read)
        entry, records = content["row"].entry, content.pop("records")
        picture, last = await self._picture_of(reader, entry, view if view in VIEWS else STEPS, at)
        shown = [line for line in content["lines"] if only is None or _touches(line.record, only)]
        content |= {"picture": picture, "view": view, "last": last, "at": at, "only": only, "lines": shown}
        now = None if is_ended(entry.state) else self._reader.clock()
        content["preview"] = await self._preview(saga_id, content["offers"])
        content["strip"] = strip(records, entry.acceptance.at, now)
        return Page("run.html", content)

    async def _preview(self, saga_id: str, taken: Iterable[Offer]) -> Any:
        """The steps that a cancel or an undo would compensate. None if neither is allowed now."""
        if self._call is None or not any(offer.verb in ("cancel", "undo") for offer in taken):
            return None
        try:
            return await self._call("preview", saga_id)
        except MediatorError:  # the execution has just changed its state. If the form is submitted, this is reported
            return None

    def _read_run(self, reader: Reader, saga_id: str) -> dict[str, Any]:
        entry = reader.entry(saga_id)
        look = Drivability(reader.journal)
        records, unreadable = reader.records(saga_id)
        branches = reader.executions({"parent": saga_id}, None, A_PAGE + 1)
        (row,) = reader.rows([entry], look)
        return {
            "title": saga_id,
            "row": row,
            "records": records,
            "lines": reader.lines(entry, records),
            "unreadable": unreadable,
            "inbox": reader.inbox(saga_id),
            "notes": reader.notes(saga_id),
            "attributes": attributes_of(reader.journal, saga_id),
            "payload": reader.json_of(entry.acceptance.payload),
            "branches": reader.rows(branches[:A_PAGE], look),
            "more_branches": len(branches) > A_PAGE,
            "offers": self._offers(reader, entry, look),
            "hold": reader.hold_of(entry),
            "acknowledged": reader.acknowledgement_of(entry),
            "is_branch": is_branch(saga_id),
            "trace": trace_of(entry.acceptance.carrier),
            "states": sorted({record.source for record in records} | {record.target for record in records}),
        }

    async def _picture_of(self, reader: Reader, entry: Entry, view: View, at: str) -> tuple[Any, int]:
        """The picture of an execution after its *at*-th record, and the number of its records.

        If *at* is not a number, the picture shows the current state. None and 0 if the picture cannot be drawn.
        """
        saga = reader.saga_of(entry)
        if saga is None:  # if the definition is not known, the page shows only the timeline
            return None, 0
        try:
            way = await run_in_threadpool(run_of, reader.journal, entry, reader.hidden)
        except JournalError:
            return None, 0
        last = number_of_records(way)
        if at.isdecimal() and len(at) < 10:
            way = await run_in_threadpool(frame_of, way, min(int(at), last))
        diagram = Diagram(saga, way, view=view, theme="auto")
        return await run_in_threadpool(functools.partial(inline_svg, diagram, ids=True)), last

    async def stuck(self, _request: Request) -> Page:
        """The page with the executions that wait for a person, grouped by saga, step and error type."""
        return Page("stuck.html", await run_in_threadpool(self._read_stuck))

    def _read_stuck(self) -> dict[str, Any]:
        reader, look = self._reader, Drivability(self._reader.journal)
        groups = [(*group, self._in_bulk(group[3][0][0], look)) for group in reader.stuck_groups()]
        looked_at = sum(len(group[3]) for group in groups)
        most = LOOKED_AT if looked_at == LOOKED_AT else None
        return {"title": "Stuck", "groups": groups, "redact": reader.redact, "most": most}

    def _in_bulk(self, entry: Entry, look: Drivability) -> list[str]:
        """The verbs for a whole group of stuck executions. *entry* is one execution of the group.

        ``acknowledge`` is included even if *entry* is acknowledged, because other executions of the group may not be.
        """
        verbs = [each.verb for each in self._offers(self._reader, entry, look) if each.verb != "acknowledge"]
        if verbs and keeps_notes(self._reader.journal):
            verbs.append("acknowledge")
        return [verb for verb in verbs if verb in IN_BULK]

    def _offers(self, reader: Reader, entry: Entry, look: Drivability) -> list[Offer]:
        """The verbs that are allowed for an execution now. Empty for an archived execution or without a mediator."""
        if self._call is None or reader is not self._reader:
            return []
        why = look.why_not(entry) if look.is_undrivable(entry) else None
        alerted = reader.is_alerted(entry, look)
        return list(offers(reader.saga_of(entry), entry, why, reader.hold_of(entry), alerted=alerted))

    async def machines(self, _request: Request) -> Page:
        """The page with every saga and version that this process knows or that the journal has."""
        counts, _ = await self._counts()
        known = {(saga.name, saga.version) for saga in self._reader.sagas}
        listed = [(*key, key in known, counts.get(key, Counter()).total()) for key in sorted({*known, *counts})]
        return Page("machines.html", {"title": "Machines", "machines": listed})

    async def machine(self, request: Request) -> Page:
        """The page of one machine: its statistics, the verifier's report, and the comparison with other versions."""
        name, version = request.path_params["name"], request.path_params["version"]
        show = request.query_params.get("show", "now")
        saga = self._saga(name, version)
        if saga is None:
            raise UnknownSagaError(f"no saga {name!r} of version {version!r} is known here; start with its --app")
        read = functools.partial(self._reader.numbers, saga)
        (numbers, lag), age = await self._cache.get(("numbers", name, version), read, seconds=NUMBERS_KEPT)
        diagram = numbers.diagram(show if show in SHOWS else "now", theme="auto")
        report = None
        if request.query_params.get("verify"):
            walk = functools.partial(verify, saga)
            report, _ = await self._cache.get(("verified", name, version), walk, seconds=FOR_EVER)
        earlier = [each for each in self._reader.sagas if each.name == name and each.version != version]
        content = {
            "title": f"{name} {version}",
            "saga": saga,
            "show": show,
            "shows": SHOWS,
            "age": _age(lag, age),
            "numbers": numbers,
            "picture": await run_in_threadpool(inline_svg, diagram),
            "report": None if report is None else str(report),
            "compared": [await self._compared(each, saga) for each in earlier],
        }
        return Page("machine.html", content)

    async def _compared(self, old: Saga, new: Saga) -> dict[str, Any]:
        from fsm_mediator.upgrades import compare

        comparison = await run_in_threadpool(compare, old, new)
        counts, _ = await self._counts()
        states = counts.get((old.name, old.version), Counter())
        flight = sum(count for state, count in states.items() if not is_ended(state))
        return {"version": old.version, "report": str(comparison), "in_flight": flight}

    async def archive(self, request: Request) -> Page:
        """The page with the executions of the archive. The newest file of the archive is first.

        If the URL has an id, the page of this archived execution.
        """
        assert self._archive is not None
        wanted, before = request.query_params.get("id", "").strip(), request.query_params.get("before") or None
        if wanted:
            return await self._archived(wanted, request)
        lines, more = await run_in_threadpool(archived_page, self._archive, before)
        query = None if more is None else urlencode({"before": more})
        return Page("archive.html", {"title": "Archive", "lines": lines, "more": query})

    async def archived(self, request: Request) -> Page:
        """The page of one execution of the archive. It looks like the page of an execution in the journal (`run`)."""
        return await self._archived(request.path_params["saga_id"], request)

    async def _archived(self, saga_id: str, request: Request) -> Page:
        assert self._archive is not None
        reader = self._reader
        cipher = reader.journal.codec.cipher if reader.journal.encodes else None
        found: Any = await run_in_threadpool(ArchivedExecution, self._archive, saga_id, cipher)
        return await self._run_page(Reader(found, reader.sagas, reader.redact, reader.clock), saga_id, request)

    async def audit(self, request: Request) -> Page:
        """The page with the actions of people. The newest action is first."""
        after = request.query_params.get("after") or None
        deeds, more = await run_in_threadpool(audit, self._reader.journal, self._reader.redact, after)
        query = None if more is None else urlencode({"after": more})
        return Page("audit.html", {"title": "Audit", "deeds": deeds, "more": query, "after": after})

    async def bulk(self, request: Request) -> Page:
        """The page with the executions that a new batch would have, and with the form that confirms the batch."""
        verb = request.query_params.get("verb", "")
        if verb not in IN_BULK:
            raise DefinitionError(f"no batch gives {verb!r}; there are {', '.join(IN_BULK)}")
        asked = {name: request.query_params.get(name, "").strip() or None for name in FILTERS}
        fit, ids = await run_in_threadpool(self.batches.preview, verb, asked)
        offer = await run_in_threadpool(self.batches.offer, verb, asked)
        content = {"title": f"{verb} many", "offer": offer, "asked": asked, "fit": fit, "most": MOST, "ids": ids}
        return Page("bulk.html", content)

    async def batch(self, request: Request) -> Page:
        """The page of one batch, with its results."""
        found = await run_in_threadpool(self.batches.found, request.path_params["name"])
        return Page("batch.html", {"title": "Batch", **found})

    # Submitted forms.

    async def act(self, verb: str, saga_id: str, form: Mapping[str, str], actor: str) -> str:
        """Let the mediator execute the verb of a submitted form. *actor* is journaled with the verb.

        Returns:
            The id of the execution whose page is shown next.

        Raises:
            RefusedError: The verb is not allowed for the execution now.
            PayloadError: A field of the form is wrong.
        """
        entry = await run_in_threadpool(self._reader.entry, saga_id)
        look = await run_in_threadpool(Drivability, self._reader.journal)
        taken = await run_in_threadpool(self._offers, self._reader, entry, look)
        offer = next((each for each in taken if each.verb == verb), None)
        if offer is None or self._call is None:
            raise RefusedError(
                f"execution {saga_id!r} takes no {verb!r} now: it is in {entry.state!r}. Another person may have "
                f"been faster; reload its page"
            )
        values = arguments(offer, form)
        if verb == "signal":
            await self._call("signal", saga_id, path_of(entry.state), values.get("value"), actor=actor)
        else:
            answer = await self._call(verb, saga_id, **values, actor=actor)
            if verb == "again":
                return str(answer.saga_id)
        return saga_id


def _age(lag: float | None, kept: float) -> str:
    """The age of the numbers of executions, in words.

    Args:
        lag: The seconds by which the side store may be out of date. None if the numbers come from the journal.
        kept: The number of seconds since the numbers were read.
    """
    source = "counted" if lag is None else "looked up in the side store"
    missing = "" if not lag else f", which lacks the changes of the last {span(lag)}"
    return f"{source} {span(kept)} ago{missing}" if kept >= 1 else f"{source} now{missing}"


def _by_phase(states: Mapping[str, int]) -> Counter[str]:
    found: Counter[str] = Counter()
    for state, count in states.items():
        found[phase_of(state)] += count
    return found


def _ordered(counts: Mapping[tuple[str, str], Counter[str]]) -> list[tuple[str, str, Counter[str]]]:
    """The name, the version and the counts of each machine, ordered by the number of stuck executions, then by name."""
    ordered = sorted(counts.items(), key=lambda item: (-_by_phase(item[1])["stuck"], item[0]))
    return [(name, version, states) for (name, version), states in ordered]


def _touches(record: Any, place: str) -> bool:
    """Whether the transition of *record* left or entered *place*, which is a state or the path of a step."""
    return any(place in (state, path_of(state)) for state in (record.source, record.target))
