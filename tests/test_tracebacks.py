"""Tracebacks: the text of the standard library but for the marks of columns, whatever was raised."""

from __future__ import annotations

import asyncio
import json
import traceback
from collections.abc import Callable
from types import TracebackType

import pytest

from fsm_mediator.records import MOST_CAUSES, render_traceback


class UnspeakableError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("not this either")


class Raising:
    """One function for each way in which an error comes about."""

    @staticmethod
    def fails(message: str = "no") -> None:
        raise ValueError(message)

    @staticmethod
    def by_cause() -> None:
        try:
            Raising.fails()
        except ValueError as error:
            raise KeyError("by cause") from error

    @staticmethod
    def during() -> None:
        try:
            Raising.by_cause()
        except KeyError:
            Raising.fails("during")

    @staticmethod
    def from_none() -> None:
        try:
            Raising.during()
        except ValueError:
            raise OSError(2, "alone") from None

    @staticmethod
    def noted() -> None:
        try:
            Raising.fails("several\nlines")
        except ValueError as error:
            error.add_note("a note\nof two lines")
            raise

    @staticmethod
    def recurses(depth: int = 9) -> None:
        if depth == 0:
            Raising.fails()
        Raising.recurses(depth - 1)

    @staticmethod
    def to_and_fro(depth: int = 9) -> None:
        (Raising.recurses if depth == 0 else lambda: Raising.to_and_fro(depth - 1))()

    @staticmethod
    def without_end() -> None:
        Raising.without_end()

    @staticmethod
    def grouped() -> None:
        raise ExceptionGroup("several", [ValueError("a"), KeyError("b")])

    @staticmethod
    def after_a_group() -> None:
        try:
            Raising.grouped()
        except ExceptionGroup as error:
            raise ValueError("after a group") from error

    @staticmethod
    def causes_itself() -> None:
        error = ValueError("its own cause")
        other = KeyError("between")
        error.__cause__, other.__cause__ = other, error
        raise error

    @staticmethod
    def with_a_cause_never_raised() -> None:
        raise ValueError("raised") from KeyError("never raised")

    @staticmethod
    def misspelt() -> None:
        compile("a = = b", "<here>", "exec")

    @staticmethod
    def without_source() -> None:
        exec(compile("def f():\n    raise ValueError('no source')\nf()", "<nowhere>", "exec"), {})  # noqa: S102 - ours

    @staticmethod
    def in_the_library() -> None:
        json.loads("{")

    @staticmethod
    def in_a_coroutine() -> None:
        async def main() -> None:
            await asyncio.sleep(0)
            Raising.from_none()

        asyncio.run(main())

    @staticmethod
    def unspeakable() -> None:
        raise UnspeakableError


KINDS = [getattr(Raising, name) for name in vars(Raising) if not name.startswith("_")]


def raised_by(function: Callable[[], None]) -> BaseException:
    """What *function* raises."""
    try:
        function()
    except Exception as error:
        return error
    raise AssertionError("it raised nothing")


def without_marks(text: str) -> str:
    """*text* without the lines that mark columns."""
    return "".join(line for line in text.splitlines(keepends=True) if set(line.strip()) - set("^~") or not line.strip())


def standard(error: BaseException) -> str:
    """The text of the standard library, without the lines that mark columns."""
    return without_marks("".join(traceback.format_exception(error)))


@pytest.mark.parametrize("function", [kind for kind in KINDS if "group" not in kind.__name__])
def test_text_is_that_of_the_standard_library(function):
    """Frames, causes, notes and repeated frames are written as everybody knows them."""
    error = raised_by(function)

    assert without_marks(render_traceback(error)) == standard(error)


def test_error_that_was_never_raised_is_only_named():
    """There is no frame to show."""
    assert render_traceback(ValueError("no")) == standard(ValueError("no")) == "ValueError: no\n"


@pytest.mark.parametrize("function", [Raising.grouped, Raising.after_a_group])
def test_every_error_of_a_group_is_shown(function):
    """The leaves of a group are indented below it, each with its type and message."""
    text = render_traceback(raised_by(function))

    assert "  +- 1 of 2\n  | ValueError: a\n  +- 2 of 2\n  | KeyError: 'b'\n" in text


def test_group_of_groups_ends():
    """A group nested 1,000 deep is cut, and the text still has its top."""
    error: Exception = ValueError("inside")
    for depth in range(1000):
        error = ExceptionGroup(f"at {depth}", [error])

    text = render_traceback(error)

    assert text.startswith("ExceptionGroup: at 999")
    assert len(text.splitlines()) < 100


def test_long_chain_of_causes_is_cut_and_each_is_rendered_once(monkeypatch):
    """A chain of 5,000 causes shows the latest 100, says so, and looks at no frame twice."""
    walked: list[object] = []
    walk = traceback.walk_tb

    def counted(tb: TracebackType | None) -> object:
        walked.append(tb)
        return walk(tb)

    monkeypatch.setattr(traceback, "walk_tb", counted)
    error: BaseException | None = None
    for number in range(5000):
        later = ValueError(f"number {number}")
        later.__cause__ = error
        error = later
    assert error is not None

    text = render_traceback(error)

    assert text.startswith("(Earlier causes are left out.)\n")
    assert text.endswith("ValueError: number 4999\n")
    assert text.count("ValueError") == len(walked) == MOST_CAUSES


def test_equal_code_of_two_files_is_told_apart(tmp_path):
    """Code objects are equal whatever file they are of."""
    found = []
    for name in ("one.py", "two.py"):
        path = tmp_path / name
        path.write_text(f"def f():\n    raise ValueError('x')  # {name}\n")
        names: dict[str, Callable[[], None]] = {}
        exec(compile(path.read_text(), path, "exec"), names)  # noqa: S102 - ours
        found.append(render_traceback(raised_by(names["f"])))
    assert "# one.py" in found[0]
    assert "# two.py" in found[1]
