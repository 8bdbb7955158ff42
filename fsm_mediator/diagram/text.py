"""Clean, shorten, measure and escape the texts of pictures. This module does not depend on sagas.

The names of steps contain no special characters, because the definition of a saga checks them. The labels of
callbacks, errors, reasons and ids can be any text.
"""

from __future__ import annotations

import functools
import hashlib
import math
import re
from collections.abc import Sequence
from typing import Final

MOST_ALT: Final = 300
"""The maximum number of characters of an alternative text."""

# Characters that XML does not allow (controls, lone surrogates, non-characters), and characters that reverse the
# direction of the text after them.
_UNFIT: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")
_SPACES: Final = re.compile(r"\s+")


def clean(text: str) -> str:
    """*text* with ``U+FFFD`` for each character that XML does not allow, or that reverses the text after it."""
    if text.isprintable() or text.replace("\n", "").isprintable():
        return text
    return _UNFIT.sub("\N{REPLACEMENT CHARACTER}", text)


def shorten(text: str, most: int) -> str:
    """*text* on one line, with at most *most* characters. If it is too long, its middle is left out."""
    if not text.isprintable() or "  " in text or text[:1] == " " or text[-1:] == " ":
        text = _SPACES.sub(" ", clean(text)).strip()
    if len(text) <= most:
        return text
    head = (most - 1) * 2 // 3
    return f"{text[:head]}…{text[len(text) - (most - 1 - head) :]}"


def listed(names: Sequence[str], most: int) -> str:
    """*names* as one text of at most *most* characters, separated by commas.

    If the text would be too long, whole names before the last name are left out, and the text says how many. If even
    the first and the last name do not fit, characters are left out: see `shorten`.
    """
    whole = ", ".join(names)
    if len(whole) <= most:
        return whole
    for kept in range(min(len(names) - 2, most), 0, -1):
        short = f"{', '.join(names[:kept])}, … {len(names) - kept - 1} more …, {names[-1]}"
        if len(short) <= most:
            return short
    return shorten(whole, most)


_LEAST: Final = 0.36
"""The width of a narrow character, divided by the text size. No character is less wide."""

_NARROW: Final = frozenset(" !'(),-./:;I[\\]fijlrt|·")
_WIDE: Final = frozenset("%@MWmw+<=>~#…→←↻↩✓✗≤◆⚠▶■—‖")


@functools.lru_cache(4096)
def width(text: str, size: float, bold: bool = False) -> float:
    """The approximate width of *text* at *size*, in points, in the widest common sans-serif fonts (DejaVu, Verdana)."""
    total = 0.0
    for character in text:
        if character in _NARROW:
            total += _LEAST
        elif character in _WIDE:
            total += 0.9
        else:
            total += 0.64 if character < "\u1100" else 1.0
    return total * size * (1.1 if bold else 1.0)


def fitted(words: str, size: float, bold: bool, room: float) -> str:
    """*words* on one line that is at most *room* points wide. If they are wider, their middle is left out."""
    words = shorten(words, len(words))
    most = min(len(words), max(2, int(room / (_LEAST * size)) + 1))
    while most > 2 and width(shorten(words, most), size, bold) > room:
        most -= 1
    return shorten(words, most)


@functools.lru_cache(512)
def seconds(value: float) -> str:
    """A length of time in words: ``12 ms``, ``1.5 s``, ``5 min``, ``2 h``."""
    if not math.isfinite(value):
        return "?"
    if 0 < value < 0.000_995:
        return f"{value * 1e6:.0f} µs"
    for below, unit, name in ((0.0995, 0.001, "ms"), (119.5, 1.0, "s"), (3590, 60.0, "min"), (172_000, 3600.0, "h")):
        if value < below:
            return f"{value / unit:.3g} {name}"
    return f"{value / 86400:.3g} d"


def numbers(values: Sequence[int]) -> str:
    """Sorted numbers as a short text: all of them if there are at most two (``3, 5``), else a range (``3 … 11``)."""
    return ", ".join(map(str, values)) if len(values) < 3 else f"{values[0]} … {values[-1]}"


_PLAIN: Final = re.compile(r"[\w\n :;,.'()!?\-→·…+*/=]*")
"""A pattern for text in which only newlines must be escaped in DOT. Nearly every text matches."""


def dot_text(text: str) -> str:
    """*text* as a quoted string of DOT, for labels and tooltips. Characters with a meaning in DOT are escaped."""
    if _PLAIN.fullmatch(text) is None:
        text = clean(text).replace("\\", "\\\\").replace('"', '\\"').replace("&", "&amp;")
        text = text.replace("\r", "").replace("\t", " ")
    return '"' + text.replace("\n", "\\n") + '"'


_NOT_IN_A_NAME: Final = re.compile(r"[^\w.\-/]")


def dot_name(text: str) -> str:
    """*text* as a quoted identifier of DOT.

    A character that cannot be in a state's name is written as its code number.
    """
    return f'"{_NOT_IN_A_NAME.sub(lambda found: f"%{ord(found.group()):x}", text)}"'


def dot_id(text: str) -> str:
    """*text* as a quoted id of an SVG element. The id is a valid id in XML."""
    return dot_name(text).replace("/", "·").replace("%", "·")


@functools.lru_cache(1024)
def markup(text: str) -> str:
    """*text* escaped for XML, and for DOT's labels in HTML."""
    text = clean(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return text.replace('"', "&quot;").replace("'", "&#39;")


def digest_of(*texts: str) -> str:
    """A short digest of *texts* together. Pictures with the same text have the same digest."""
    return hashlib.sha256("".join(texts).encode()).hexdigest()[:16]
