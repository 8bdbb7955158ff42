"""The write-ahead log of SQLite, read as a file, to find commits that are hidden by damage.

SQLite reads the log up to the first frame with a wrong checksum, and reports no error. An interrupted write leaves such
a frame, and so does damage. But no commit follows an interrupted write. Therefore the log was damaged if a commit
follows the wrong frame. Damage to the last commit alone looks like an interrupted write.

This module must not open and close any other file of a journal: closing a file ends all locks that this process has on
it, whichever connection holds them (https://sqlite.org/howtocorrupt.html, 2.2). SQLite locks the index and the file,
but never the log.

Source: https://sqlite.org/fileformat2.html#walformat and https://sqlite.org/walformat.html.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from struct import unpack_from
from typing import Final, NamedTuple

from fsm_mediator.journal.sqlite.path import beside

_HEADER: Final = 32
"""The number of bytes before the first frame."""

_FRAME_HEADER: Final = 24
"""The number of bytes before the page in a frame: page number, file size after a commit, two salts, two checksums."""

_PAGE: Final = 4096
"""The page size in bytes that is assumed if the header is damaged: SQLite's default."""

_BIG_ENDIAN: Final = 0x377F0683
"""The magic number of a log with big-endian checksums. With little-endian checksums the last bit of the number is 0."""

_LOOKS: Final = 2
"""The number of further checks that must find the same damage, because a frame that is being written looks damaged."""


class _Hidden(NamedTuple):
    """Commits that SQLite does not see.

    Attributes:
        frame: The number of the first damaged frame, from 1. 0 if the header is damaged.
        commits: The number of commits after this frame.
        header: The header of the log.
    """

    frame: int
    commits: int
    header: bytes


def hidden_commits(path: str) -> list[str]:
    """A description of the damage in the log of the journal at *path*. Empty if there is no damage or no log.

    The journal must be open, so that SQLite has read the log.
    """
    log, _ = beside(path)
    first = _look(path)
    if first is None or any(_look(path) != first for _ in range(_LOOKS)):
        return []
    place = f"from frame {first.frame} on" if first.frame else "in its header"
    return [f"the log {log!r} is damaged {place}: {first.commits} commits behind that place are lost"]


def _look(path: str) -> _Hidden | None:
    log, _ = beside(path)
    try:
        data = Path(log).read_bytes()
    except OSError:
        return None
    if len(data) < _HEADER + _FRAME_HEADER:
        return None
    magic, _, page, _, _, _, *checksum = unpack_from(">8I", data)
    big, salts, is_whole = magic == _BIG_ENDIAN, data[16:24], _is_header_sound(data)
    if not is_whole:
        big, page, salts = sys.byteorder == "big", _PAGE, data[_HEADER + 8 : _HEADER + 16]
    size = _FRAME_HEADER + (65536 if page == 1 else page)
    damaged = next(_unsound(data, size, salts, checksum, big=big), None) if is_whole else 0
    if damaged is None:
        return None
    starts = enumerate(range(_HEADER, len(data) - size + 1, size), 1)
    commits = [number for number, at in starts if _ends_commit(data[at : at + _FRAME_HEADER], salts)]
    hidden = sum(_follows(data, number, size, big=big) for number in commits if number > max(damaged, 1))
    return _Hidden(damaged, hidden, data[: _HEADER + _FRAME_HEADER]) if hidden else None


def _ends_commit(frame: bytes, salts: bytes) -> bool:
    return frame[8:16] == salts and frame[4:8] != b"\0\0\0\0"


def _is_header_sound(data: bytes) -> bool:
    magic, *_, one, two = unpack_from(">8I", data)
    begun = _checksum(data[: _HEADER - 8], (0, 0), big=magic == _BIG_ENDIAN)
    return bool(magic | 1 == _BIG_ENDIAN) and begun == (one, two)


def _unsound(data: bytes, size: int, salts: bytes, before: Sequence[int], *, big: bool) -> Iterator[int]:
    """The numbers of the frames in *data*, the content of a log, that have wrong salts or a wrong checksum."""
    for number, at in enumerate(range(_HEADER, len(data) - size + 1, size), 1):
        if data[at + 8 : at + 16] != salts or not _is_sound(data, at, size, before, big=big):
            yield number
        before = unpack_from(">2I", data, at + 16)


def _follows(data: bytes, number: int, size: int, *, big: bool) -> bool:
    """Whether the frame with this number has the right checksum, which depends on the previous frame."""
    at = _HEADER + (number - 1) * size
    return _is_sound(data, at, size, unpack_from(">2I", data, at - size + 16), big=big)


def _is_sound(data: bytes, at: int, size: int, before: Sequence[int], *, big: bool) -> bool:
    begun = _checksum(data[at : at + 8], before, big=big)
    return _checksum(data[at + _FRAME_HEADER : at + size], begun, big=big) == unpack_from(">2I", data, at + 16)


def _checksum(data: bytes, before: Sequence[int], *, big: bool) -> tuple[int, int]:
    words = array("I", data)
    if big != (sys.byteorder == "big"):
        words.byteswap()
    one, two = before
    pairs = iter(words)
    for first, second in zip(pairs, pairs, strict=True):
        one = (one + first + two) & 0xFFFFFFFF
        two = (two + second + one) & 0xFFFFFFFF
    return one, two
