"""The explorer: a person chooses the next event of a saga, and the saga's own rules decide the result.

This module has no widgets and no HTML, and calls no steps. The module `view` prepares the data that front ends show.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cached_property, partial
from itertools import starmap
from typing import TYPE_CHECKING, Any, Final

import attrs

from fsm_mediator.definition.saga import Saga
from fsm_mediator.diagram import Diagram
from fsm_mediator.diagram.diagram import LIGHT
from fsm_mediator.diagram.history import Run
from fsm_mediator.diagram.picture import DETAIL, EDGES, View, check_view
from fsm_mediator.diagram.themes import ThemeName, theme_of
from fsm_mediator.errors import DefinitionError, MissingExtraError, RefusedError
from fsm_mediator.execution.execution import Execution
from fsm_mediator.execution.outcome import Outcome
from fsm_mediator.explorer.ledger import Entry, ledger_of
from fsm_mediator.explorer.moments import Choice, Moment
from fsm_mediator.machine.parts import WAIT
from fsm_mediator.narration import place_in_words, timeline
from fsm_mediator.records import Acceptance, Record
from fsm_mediator.verifier.action import DUE, Action, copied
from fsm_mediator.verifier.actions import ActionModel
from fsm_mediator.verifier.branches import spawned_by
from fsm_mediator.verifier.choices import ChoicePoints
from fsm_mediator.verifier.settings_changes import settings_of

if TYPE_CHECKING:
    from fsm_mediator.explorer.widget import ExplorerWidget

SAGA_ID: Final = "explored"
TOOK: Final = 0.05
"""The number of seconds that an action takes on the explorer's own clock, unless `_duration` knows a better number."""


class Explorer:
    """A saga that you play by hand. Create it with `explore`.

    A notebook shows the diagram, a button for each event that can happen now, a slider over the past events, the ledger
    of effects, and the journal. You can do the same by code::

        play = explore(checkout)
        play.choose("the saga begins")
        print(play)  # the state, and a numbered list of the possible events
        play.choose(1)

    Attributes:
        saga: The saga.
        moments: The moment at the beginning, and the moment after each event.
        position: The index of the shown moment in *moments*.
        view: The view of the diagram: ``detail`` or ``steps``.
        theme: The theme of the diagram: ``light`` or ``dark``.
    """

    def __init__(self, saga: Saga, *, view: View = DETAIL, theme: ThemeName = LIGHT, strict: bool = False) -> None:
        if not isinstance(saga, Saga):
            raise DefinitionError(f"explore takes a Saga, not {saga!r}")
        self.saga = saga
        self._actions = ActionModel(saga, strict=strict)
        self._every_action = ActionModel(saga, strict=strict, thorough=True)
        self._decisions = ChoicePoints(saga)
        self._watchers: list[Callable[[], None]] = []
        acceptance = Acceptance(SAGA_ID, saga.name, saga.version, saga.fingerprint, None, 0.0)
        self.moments: list[Moment] = [Moment("", Execution(self._decisions.saga, acceptance), self._actions.nothing)]
        self.position: int = 0
        self.view: View = DETAIL
        self.theme: ThemeName = LIGHT
        self.show(view=view, theme=theme)

    # Methods that play the saga.

    @property
    def now(self) -> Moment:
        """The moment that is shown: the element of `moments` at `position`."""
        return self.moments[self.position]

    @property
    def choices(self) -> tuple[Choice, ...]:
        """The choices at the shown moment: every event that can happen. Empty if no event can ever happen again."""
        return tuple(starmap(_choice, self._possible()))

    def choose(self, what: int | str) -> Moment:
        """Let an event happen at the shown moment, and drop all later moments.

        Args:
            what: The number of a choice (the first of `choices` has the number 1), or its label. The labels of the
                rare actions that only `verify` tries are accepted too, although `choices` does not list them.

        Returns:
            The moment after the event.

        Raises:
            RefusedError: The event cannot happen now. The message lists the events that can happen.
        """
        moments = [moment for _, moment in self._possible()]
        found = [moment for number, moment in enumerate(moments, 1) if what in (number, moment.label)]
        if not found and isinstance(what, str):
            found = [moment for _, moment in self._possible(self._every_action) if moment.label == what]
        if not found:
            possible = "; ".join(f"{number}. {moment.label}" for number, moment in enumerate(moments, 1)) or "nothing"
            raise RefusedError(f"{what!r} cannot happen in {self.now.execution.state!r}; what can: {possible}")
        self.moments[self.position + 1 :] = found[:1]
        self.go(self.position + 1)
        return found[0]

    def play(self, path: Iterable[str]) -> Explorer:
        """Choose several labels in order. *path* can be the path of a verifier's counterexample.

        Raises:
            RefusedError: An event cannot happen at its position in the path. The events before it have happened.
        """
        for label in path:
            self.choose(label)
        return self

    def go(self, position: int) -> None:
        """Show the moment with the index *position*. All moments are kept.

        A negative position means the first moment, and a position that is too large means the last moment.
        """
        self.position = min(max(position, 0), len(self.moments) - 1)
        self._changed()

    def restart(self) -> None:
        """Go back to the beginning, and drop all later moments."""
        del self.moments[1:]
        self.go(0)

    def show(self, *, view: View | None = None, theme: ThemeName | None = None) -> None:
        """Show the picture in another view or theme.

        Raises:
            DefinitionError: There is no such view or theme.
        """
        if theme is not None:
            theme_of(theme)
        self.view = self.view if view is None else check_view(view)
        self.theme = theme or self.theme
        self._changed()

    def _possible(self, actions: ActionModel | None = None) -> list[tuple[Action, Moment]]:
        """Every action that can happen at the shown moment, each with the moment after it.

        If a function of the saga decides something during the action, there is one element for each possible decision.
        """
        return [
            (action, attrs.evolve(after, label=f"{action.label}{decided}"))
            for action in (actions or self._actions).at(self.now.execution, self.now.ledger)
            for decided, after in self._decisions.every(partial(self._after, action))
        ]

    def _after(self, action: Action) -> Moment:
        before = self.now.execution
        execution = copied(before)
        at = before.history[-1].at if before.history else before.acceptance.at
        at += _duration(action, before)
        with settings_of(action, execution):
            action.act(execution, at)
            if len(execution.history) > before.seq:
                at = max(at, execution.history[-1].at)
            while execution.advance(at) is not None:
                pass
        execution.drain_consumed()  # a driver calls this too, after it has committed the records
        records = tuple(execution.history[before.seq :])
        ledger = self._actions.after(action.ledger, spawned_by(execution, records))
        return Moment(action.label, execution, ledger, records)

    # Methods that show the moment.

    @property
    def outcome(self) -> Outcome:
        """The outcome of the execution at the shown moment."""
        return self.now.execution.outcome()

    @property
    def journal(self) -> tuple[Record, ...]:
        """The records in the journal at the shown moment."""
        return tuple(self.now.execution.history)

    @property
    def ledger(self) -> tuple[Entry, ...]:
        """The entry of each part at the shown moment: its real effect, and its effect according to the records."""
        return ledger_of(self.now.execution, self.now.ledger)

    def diagram(self) -> Diagram:
        """The diagram of the saga's execution at the shown moment."""
        moment, key = self.now, (self.view, self.theme)
        if key not in moment.diagrams:
            run = Run(saga_id=SAGA_ID, state=moment.execution.state, records=self.journal)
            moment.diagrams[key] = Diagram(self.saga, run, view=self.view, theme=self.theme)
        return moment.diagrams[key]

    def watch(self, changed: Callable[[], None]) -> None:
        """Call *changed* after every change of the shown moment, of the view or of the theme."""
        self._watchers.append(changed)

    def _changed(self) -> None:
        for changed in self._watchers:
            changed()

    @cached_property
    def widget(self) -> ExplorerWidget:
        """The widget that shows this explorer in a notebook.

        Raises:
            MissingExtraError: anywidget is not installed.
        """
        try:
            from fsm_mediator.explorer.widget import ExplorerWidget
        except ImportError as error:
            raise MissingExtraError("the explorer's buttons", "notebook") from error
        return ExplorerWidget(self)

    def _display_(self) -> ExplorerWidget | Diagram:
        """The object that marimo shows. Marimo accepts an anywidget, but not a MIME bundle with an anywidget in it."""
        try:
            return self.widget
        except MissingExtraError:
            return self.diagram()

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> Mapping[str, Any]:  # noqa: ARG002 - as IPython calls it
        """The content for a notebook: the widget, and a diagram of the moment for front ends without widgets."""
        bundle = dict(self.diagram()._repr_mimebundle_())
        bundle["text/plain"] = str(self)
        try:
            shown = self.widget.mimebundle()
        except MissingExtraError:
            return bundle
        return {**shown, **bundle}

    def __str__(self) -> str:
        execution = self.now.execution
        place = place_in_words(execution.state)
        lines = [f"saga {self.saga.name!r}, moment {self.position} of {len(self.moments) - 1}: {place}"]
        if execution.history:
            lines += ["", "the journal", timeline(execution.history)]
            lines += ["", "the ledger", *(f"  {entry}" for entry in self.ledger)]
        if choices := self.choices:
            lines += ["", "what can happen now"]
            width = max(len(choice.label) for choice in choices)
            lines += [f"{n:4}. {choice.label:<{width}}  -> {choice.leads_to}" for n, choice in enumerate(choices, 1)]
        return "\n".join(lines)

    def __repr__(self) -> str:
        return f"<Explorer of saga {self.saga.name!r}: {place_in_words(self.now.execution.state)}>"


def explore(
    saga: Saga, path: Iterable[str] = (), *, view: View = DETAIL, theme: ThemeName = LIGHT, strict: bool = False
) -> Explorer:
    """Play *saga* by hand. Its steps are not called; a person chooses the result of each step.

    In Jupyter, VS Code and Colab, a cell that ends with the explorer shows it, with a button for each event that can
    happen now. This needs the extra ``notebook``. In other programs, use `Explorer.choose` and a static diagram.

    Args:
        saga: The saga.
        path: The labels of the choices that are made first, for example the path of a verifier's counterexample.
        view: The view of the diagram: ``detail`` or ``steps``.
        theme: The theme of the diagram: ``light`` or ``dark``. It is used until the notebook's own theme is known.
        strict: Whether the choices include that a step raises after its effect without reporting doubt. Steps must
            not do this.

    Raises:
        DefinitionError: *saga* is not a saga, or there is no such view or theme.
        RefusedError: A choice in *path* cannot happen at its position.
    """
    explorer = Explorer(saga, view=view, theme=theme, strict=strict)
    if not isinstance(path, Iterable) or isinstance(path, str):
        raise DefinitionError(f"explore(): path is a list of labels of choices, not {path!r}")
    return explorer.play(path)


def _choice(action: Action, moment: Moment) -> Choice:
    state = moment.execution.state
    event = moment.records[0].event if moment.records else ""
    return Choice(moment.label, action.who, event, EDGES[event][1] if event else None, place_in_words(state), state)


def _duration(action: Action, before: Execution) -> float:
    """The number of seconds that *action* takes on the explorer's clock.

    It is 0 for the end of a wait, because the wait itself sets the time at which it ends.
    """
    effect = before.effect
    if effect is None:
        return TOOK
    part = effect.part
    if effect.kind == WAIT or action.observation == DUE:
        return 0.0
    if action.observation in ("timed out", "late") and part.timeout is not None:
        return part.timeout
    if action.observation == "abandoned":
        return (part.timeout or 0.0) + (part.grace or 0.0)
    return TOOK
