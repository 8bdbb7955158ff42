"""Watches: the iterators that `Mediator.watch` and `AsyncMediator.watch` return."""

from __future__ import annotations

import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Unpack

from fsm_mediator.errors import DefinitionError, MissingExtraError
from fsm_mediator.mediator import requests
from fsm_mediator.mediator.driving import ExecutionDriver
from fsm_mediator.mediator.threads import run_blocking
from fsm_mediator.mediator.watching import Moment, WatchOfMany, WatchOfOne

if TYPE_CHECKING:
    from fsm_mediator.diagram import Look, View
    from fsm_mediator.diagram.live_widget import LiveWidget
    from fsm_mediator.mediator.diagrams import RunReader


class _Shown:
    """The methods of a watch that show a moving picture of the execution in a notebook.

    Args:
        core: The mediator's driver.
        saga_id: The execution. None in a watch of many, which has no picture.
        poll: Seconds between two queries to the journal.
        begin: Returns the `WatchOfOne` or `WatchOfMany` that reads the journal.
    """

    def __init__(
        self, core: ExecutionDriver, saga_id: str | None, poll: float, begin: Callable[[], WatchOfOne | WatchOfMany]
    ) -> None:
        self._core = core
        self._saga_id = saga_id
        self._poll = poll
        self._begin = begin

    def live(self, view: View = "detail", **look: Unpack[Look]) -> LiveWidget:
        """The picture of the execution as a widget for a notebook. It changes when any process commits a record.

        Args:
            view: ``detail`` (every state) or ``steps`` (one box for each step).
            **look: Attributes of `Diagram`.

        Raises:
            DefinitionError: This is a watch of many executions, or an argument cannot be used.
            MissingExtraError: anywidget is not installed.
            UnknownExecutionError: There is no such execution.
        """
        from fsm_mediator.mediator.diagrams import diagram_of  # loaded when it is used

        if self._saga_id is None:
            raise DefinitionError("a watch of many executions has no picture: watch one execution by its id")
        return diagram_of(self._core, self._saga_id, view).with_(**look).live(poll=self._poll)

    @property
    def reader(self) -> Callable[[], RunReader]:
        """A function that makes a reader of the execution, for `Diagram.live`."""
        from fsm_mediator.mediator.diagrams import RunReader  # loaded when it is used

        return partial(RunReader, self._core, str(self._saga_id))

    @cached_property
    def _widget(self) -> LiveWidget:
        return self.live()

    def _display_(self) -> Any:
        """The object that marimo shows: the widget, or a text if there is no picture."""
        try:
            return repr(self) if self._saga_id is None else self._widget
        except MissingExtraError as error:
            return f"{self!r}: {error}"

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> Mapping[str, Any]:  # noqa: ARG002 - as IPython calls it
        """The content that Jupyter shows: the widget and a still picture, or a text if there is no picture."""
        shown = self._display_()
        return {"text/plain": shown} if isinstance(shown, str) else shown.mimebundle()

    def __repr__(self) -> str:
        return f"<Watch of {'many executions' if self._saga_id is None else repr(self._saga_id)}>"


class Watch(_Shown, Iterator[Moment]):
    """Yields a `Moment` for each change of the watched executions: the return value of `Mediator.watch`.

    If a cell of a notebook ends with a watch of one execution, the notebook shows a picture that moves.
    """

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._closed = threading.Event()
        self._moments = self._each()

    def __iter__(self) -> Watch:
        return self

    def __next__(self) -> Moment:
        if self._closed.is_set():
            raise StopIteration
        return next(self._moments)

    def close(self) -> None:
        """End the iteration. If another thread waits for the next moment, its iteration ends too."""
        self._closed.set()

    def _each(self) -> Iterator[Moment]:
        watch = run_blocking(requests.ask, self._core, self._begin)
        while not self._closed.is_set():
            yield from (moments := run_blocking(requests.ask, self._core, watch.look))
            if watch.ended:
                return
            if not moments:
                self._closed.wait(self._poll)


class AsyncWatch(_Shown, AsyncIterator[Moment]):
    """Yields a `Moment` for each change of the watched executions: the return value of `AsyncMediator.watch`.

    If a cell of a notebook ends with a watch of one execution, the notebook shows a picture that moves.
    """

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._moments = self._each()

    def __aiter__(self) -> AsyncWatch:
        return self

    async def __anext__(self) -> Moment:
        return await anext(self._moments)

    async def aclose(self) -> None:
        """End the iteration."""
        await self._moments.aclose()

    async def _each(self) -> AsyncGenerator[Moment]:
        import asyncio  # loaded when it is used

        watch = await requests.ask(self._core, self._begin)
        while True:
            moments = await requests.ask(self._core, watch.look)
            for moment in moments:
                yield moment
            if watch.ended:
                return
            if not moments:
                await asyncio.sleep(self._poll)
