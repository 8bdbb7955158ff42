"""Tracebacks as text, as the standard library writes them, without looking up again what was looked up before.

``traceback.format_exception`` asks the file system for each frame's file and parses each line anew: some 40 µs a frame,
1 ms for the 20 frames between a step and the socket that failed it, each time a provider is down. What a frame's entry
says depends on nothing but its code and the instruction it stands at, so each is rendered once and kept.
"""

from __future__ import annotations

import traceback
from types import CodeType, TracebackType
from typing import Final

_MOST: Final = 1024
"""Entries that are kept; they keep their code alive."""

_BY_CAUSE: Final = "\nThe above exception was the direct cause of the following exception:\n\n"
_DURING: Final = "\nDuring handling of the above exception, another exception occurred:\n\n"

_entries: Final[dict[tuple[int, int], tuple[CodeType, str]]] = {}
"""By the code's identity and the instruction: equal code objects can be of different files."""


def rendered(error: BaseException) -> str:
    """What ``"".join(traceback.format_exception(error))`` gives, the causes first."""
    told: list[str] = []
    seen: set[int] = set()
    each: BaseException | None = error
    while each is not None:
        if id(each) in seen or isinstance(each, BaseExceptionGroup):
            return "".join(traceback.format_exception(error))
        seen.add(id(each))
        told.append(_without_causes(each))
        if each.__cause__ is not None:
            told.append(_BY_CAUSE)
            each = each.__cause__
        elif each.__context__ is not None and not each.__suppress_context__:
            told.append(_DURING)
            each = each.__context__
        else:
            each = None
    return "".join(reversed(told))


def _without_causes(error: BaseException) -> str:
    entries: list[str] = []
    at = error.__traceback__
    while at is not None:
        entry = _entry(at)
        if entries and entry is entries[-1]:  # a recursion, of which the first few are shown and counted
            break
        entries.append(entry)
        at = at.tb_next
    if at is not None or not entries:
        return "".join(traceback.format_exception(error, chain=False))
    return "".join(("Traceback (most recent call last):\n", *entries, *traceback.format_exception_only(error)))


def _entry(at: TracebackType) -> str:
    code = at.tb_frame.f_code
    key = id(code), at.tb_lasti
    known = _entries.get(key)
    if known is None:
        if len(_entries) >= _MOST:
            _entries.clear()
        known = _entries[key] = code, "".join(traceback.format_tb(at, limit=1))
    return known[1]
