"""Tables in Markdown: the transitions of a machine, or the records of a run."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from fsm_mediator.diagram.picture import Picture
from fsm_mediator.diagram.text import clean, seconds, shorten
from fsm_mediator.narration import who_and_why
from fsm_mediator.records import Record
from fsm_mediator.states import EVENTS


def transitions_table(picture: Picture) -> str:
    """A Markdown table with a row for each edge of *picture*, which is a transition of the machine.

    A group from which branches are left out has one more row, with their number and their names.
    """
    return markdown_table(("from", "event", "to", "what it does"), _transitions(picture))


def _transitions(picture: Picture) -> Iterator[tuple[str, ...]]:
    for edge in picture.edges:
        yield edge.source, edge.event, edge.target, EVENTS[edge.event]
    for child in picture.children:
        if child.is_rest:
            yield child.heading, "", "", f"not drawn: {', '.join(child.nodes[0].notes)}"
        yield from _transitions(child)


def records_table(records: Sequence[Record]) -> str:
    """A Markdown table with a row for each record of a run. A row has the time since the first record."""
    head = ("record", "after", "from", "event", "to", "attempt", "why")
    return markdown_table(head, [_row(record, record.at - records[0].at) for record in records])


def _row(record: Record, after: float) -> tuple[str, ...]:
    reasons = (str(record.error) if record.error is not None else "", who_and_why(record.actor, record.reason))
    why = " · ".join(shorten(each, 200) for each in reasons if each)
    number, attempt = str(record.seq), str(record.attempt or "")
    return number, seconds(after) if after > 0 else "0 s", record.source, record.event, record.target, attempt, why


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table. *head* has the titles of the columns, and each of *rows* has the texts of its cells."""
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    lines += (f"| {' | '.join(map(_cell, row))} |" for row in rows)
    return "\n".join([*lines, ""])


_SPECIAL: Final = re.compile(r"([\\`*_{}\[\]#!|~$])")
_MARKUP: Final = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", ":": "&#58;", "@": "&#64;"})
_HARMLESS: Final = re.compile(r"[A-Za-z0-9 .,%]*|[A-Za-z][A-Za-z0-9]*(?:[_.]+[A-Za-z0-9]+)*")


def _cell(text: str) -> str:
    """*text* as the content of a cell. It is escaped, so that Markdown shows it as it is, without markup and links."""
    plain = re.sub(r"\s+", " ", clean(text)).strip()
    if _HARMLESS.fullmatch(plain):
        return plain
    return _SPECIAL.sub(r"\\\1", plain).translate(_MARKUP)
