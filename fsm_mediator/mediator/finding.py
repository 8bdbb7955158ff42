"""Finding: lists and counts the executions in a journal, and changes their attributes, for a mediator."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from msgspec.structs import replace

from fsm_mediator.error_types import safe_repr
from fsm_mediator.errors import DefinitionError, PayloadError
from fsm_mediator.execution.execution import Execution
from fsm_mediator.journal.attributes import MOST, Scalar, checked_attributes
from fsm_mediator.journal.finding import KEYS, Filter, attributes_of, finds, for_finding, place_of_cursor
from fsm_mediator.journal.notes import ATTRIBUTES, Note, for_notes
from fsm_mediator.journal.protocol import Entry, Journal, check_bounds
from fsm_mediator.mediator.core import Core
from fsm_mediator.mediator.store import with_drivability, with_queue_info
from fsm_mediator.mediator.validation import check_listing
from fsm_mediator.states import UNDRIVABLE

if TYPE_CHECKING:
    from fsm_mediator.statistics.side_store import SideStore

PAGE: Final = 1000
"""The number of executions that are read from the journal at a time."""


def filter_of(
    *,
    state: str | Collection[str] | None = None,
    saga: str | None = None,
    attributes: Mapping[str, Any] | None = None,
    since: float | None = None,
    until: float | None = None,
    **texts: Any,
) -> Filter:
    """The filter that the arguments of a caller describe: see `Mediator.executions`.

    Raises:
        DefinitionError: The filter can match nothing: there is no such state, or an argument has the wrong type.
        PayloadError: An attribute is not allowed.
    """
    several = isinstance(state, Collection) and not isinstance(state, str)
    states: tuple[Any, ...] = tuple(state or ()) if several else (state,)
    for each in states:
        check_listing(each, saga, None)
    for name, text in texts.items():
        if text is not None and not isinstance(text, str):
            raise DefinitionError(f"{name}={safe_repr(text)} must be a text")
    check_bounds(since, None)
    check_bounds(until, None)
    named = tuple((name, value) for name, value in checked_attributes(attributes or {}).items() if value is not None)
    known = tuple(each for each in states if each is not None)
    return Filter(saga=saga, states=known, attributes=named, since=since, until=until, **texts)


def executions(core: Core, chosen: Filter, after: str | None, limit: int | None) -> list[Entry]:
    """The executions that fit *chosen*: see `Mediator.executions`."""
    return with_queue_info(find(core.journal, chosen, after, limit), core.owned.active)


def find(journal: Journal, chosen: Filter, after: str | None, limit: int | None) -> list[Entry]:
    """The executions that fit *chosen*, with their attributes. `Entry.undrivable` is set for undrivable executions."""
    if UNDRIVABLE in chosen.states:
        others = tuple(each for each in chosen.states if each != UNDRIVABLE)
        every = with_drivability(journal, _pages(journal, replace(chosen, states=()), after, None))
        found = (entry for entry in every if entry.undrivable is not None or (others and _in_any(others, entry)))
        entries = list(islice(found, limit))
    else:
        entries = list(with_drivability(journal, _pages(journal, chosen, after, limit)))
    known = journal.attributes([entry.saga_id for entry in entries]) if entries and finds(journal) else {}
    return [replace(each, attributes=known[each.saga_id]) if each.saga_id in known else each for each in entries]


def _in_any(states: tuple[str, ...], entry: Entry) -> bool:
    return Filter(states=states).fits(entry, {}, ())


def _pages(journal: Journal, chosen: Filter, after: str | None, limit: int | None) -> Iterator[Entry]:
    """The executions that fit *chosen*. Pages are read when they are needed."""
    if not finds(journal):
        state = chosen.states[0] if chosen.states else None
        plain = Filter(saga=chosen.saga, states=chosen.states[:1], parent=chosen.parent, until=chosen.until)
        if chosen != replace(plain, roots=chosen.roots) or after is not None:
            for_finding(journal)  # raises an error that names the missing methods
        entries = journal.entries(phase=state, saga=chosen.saga, parent=chosen.parent, before=chosen.until)
        yield from islice((each for each in entries if not (chosen.roots and each.acceptance.parent)), limit)
        return
    if chosen.text is not None and chosen.parent is None and not chosen.attributes:  # the journal has no index
        from fsm_mediator.statistics.side_store import fresh_store_of

        store = fresh_store_of(journal)
        if store is not None:
            yield from islice(_with_text(journal, store, chosen, after), limit)
            return
    left = limit
    while left is None or left > 0:
        page = journal.search(chosen, after, PAGE if left is None else min(left, PAGE))
        yield from page
        if len(page) < PAGE:
            return
        after, left = page[-1].cursor, None if left is None else left - len(page)


def count(core: Core, chosen: Filter, by: str | None) -> int | dict[str, int]:
    """The number of executions that fit *chosen*: see `Mediator.count`."""
    if by is not None and by not in KEYS:
        raise DefinitionError(f"by={safe_repr(by)}: executions can be counted by {', '.join(KEYS)}, or all together")
    if UNDRIVABLE in chosen.states:
        raise DefinitionError(f"{UNDRIVABLE!r} is counted by len(mediator.executions(state={UNDRIVABLE!r}))")
    found, _ = count_in(core.journal, chosen, by)
    return sum(found.values()) if by is None else dict(sorted(found.items(), key=lambda each: (-each[1], each[0])))


def count_in(journal: Journal, chosen: Filter, by: str | None) -> tuple[dict[str, int], float | None]:
    """Count the executions that fit a filter, in the side store if it is fresh and can answer.

    Otherwise the journal counts: see `FindingJournal.count`.

    Returns:
        The counts, and the seconds by which they may be out of date. The seconds are None if the journal was
        counted.
    """
    from fsm_mediator.statistics.side_store import fresh_store_of

    store = fresh_store_of(journal)
    counted = None if store is None else store.count(chosen, by)
    if store is None or counted is None:
        return for_finding(journal).count(chosen, by), None
    return counted, store.age()


def _with_text(journal: Any, store: SideStore, chosen: Filter, after: str | None) -> Iterator[Entry]:
    """The executions that fit *chosen*. They are found by the text in *chosen*, in the index of the side store."""
    assert chosen.text is not None
    below = 2**63 - 1 if after is None else place_of_cursor(after)
    while page := store.with_text(chosen.text, below, PAGE):
        for below, saga_id, saga, version in page:
            named = chosen.saga in (None, saga) and chosen.version in (None, version)
            entry = journal.find(saga_id) if named else None
            if entry is not None and _fits(journal, chosen, entry):
                yield replace(entry, cursor=str(below))
        if len(page) < PAGE:
            return


def _fits(journal: Any, chosen: Filter, entry: Entry) -> bool:
    reads = chosen.error is not None or chosen.step is not None
    return chosen.fits(entry, {}, journal.records(entry.saga_id) if reads else ())


def give_attributes(core: Core, execution: Execution, attributes: Mapping[str, Any]) -> None:
    """Add attributes to an execution that is not journaled yet. Its first commit writes them.

    Raises:
        PayloadError: An attribute is not allowed.
        JournalError: The journal keeps no attributes.
    """
    kept = checked_attributes(attributes)
    if not kept:
        return
    for_finding(core.journal)
    for_notes(core.journal)
    acceptance = execution.acceptance
    note = Note(ATTRIBUTES, acceptance.saga_id, value=kept, at=acceptance.at)
    execution.acceptance = replace(acceptance, notes=(*acceptance.notes, note))


def set_attributes(
    core: Core, saga_id: str, attributes: Mapping[str, Any], reason: str | None, actor: str | None, token: int
) -> dict[str, Scalar]:
    """Change attributes of an execution. Returns all of its attributes. See `Mediator.set_attributes`."""
    core.store.entry(saga_id)
    note = Note(ATTRIBUTES, saga_id, value=attributes, actor=actor, reason=reason, at=core.clock())
    change_attributes(core.journal, note, token)
    core.store.entry(saga_id)  # raises an error if it was deleted meanwhile
    return attributes_of(core.journal, saga_id)


def change_attributes(journal: Journal, note: Note, token: int) -> None:
    """Give an execution the attributes in *note*. An attribute with the value None is removed.

    Raises:
        PayloadError: An attribute is not allowed, or there would be too many attributes.
        JournalError: The journal keeps no attributes.
    """
    assert note.saga_id is not None
    changes = checked_attributes(note.value, removes=True)
    before = for_finding(journal).attributes([note.saga_id]).get(note.saga_id, {})
    after = {name: value for name, value in {**before, **changes}.items() if value is not None}
    if len(after) > MOST:
        raise PayloadError(f"execution {note.saga_id!r} would have {len(after)} attributes, and can have {MOST}")
    for_notes(journal).add_note(replace(note, value=changes), token=token)
