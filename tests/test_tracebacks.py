"""Tracebacks: the same text as the standard library's, whatever was raised, and the second time as well."""

from __future__ import annotations

import asyncio
import json
import traceback
from collections.abc import Callable
from types import TracebackType

import pytest

from fsm_mediator import tracebacks
from fsm_mediator.tracebacks import rendered


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


def standard(error: BaseException) -> str:
    """What the standard library makes of it."""
    return "".join(traceback.format_exception(error))


@pytest.mark.parametrize("function", KINDS)
def test_the_text_is_the_standard_librarys(function):
    """The first time, the second, and of another error that came the same way."""
    error = raised_by(function)
    assert rendered(error) == standard(error)
    assert rendered(error) == standard(error)
    again = raised_by(function)
    assert rendered(again) == standard(again)


def test_what_was_never_raised_is_only_named():
    """There is no frame to tell of."""
    assert rendered(ValueError("no")) == standard(ValueError("no")) == "ValueError: no\n"


def test_equal_code_of_two_files_is_told_apart(tmp_path):
    """Code objects are equal whatever file they are of."""
    found = []
    for name in ("one.py", "two.py"):
        path = tmp_path / name
        path.write_text(f"def f():\n    raise ValueError('x')  # {name}\n")
        names: dict[str, Callable[[], None]] = {}
        exec(compile(path.read_text(), path, "exec"), names)  # noqa: S102 - ours
        error = raised_by(names["f"])
        assert rendered(error) == standard(error)
        found.append(rendered(error))
    assert "one.py" in found[0]
    assert "two.py" in found[1]


def test_a_frame_is_looked_up_once_and_not_too_many_are_kept(monkeypatch):
    """What is kept of a frame keeps its code alive, so that there is an end to it."""
    asked: list[object] = []
    format_tb = traceback.format_tb

    def counted(at: TracebackType, limit: int) -> list[str]:
        asked.append(at)
        return format_tb(at, limit)

    monkeypatch.setattr(traceback, "format_tb", counted)
    monkeypatch.setattr(tracebacks, "_MOST", 3)
    tracebacks._entries.clear()

    raised = [raised_by(Raising.fails) for _ in range(3)]
    assert len({rendered(error) for error in raised}) == 1
    assert len(asked) == len(tracebacks._entries) == 2

    for function in KINDS:
        rendered(raised_by(function))
        assert len(tracebacks._entries) <= 3
