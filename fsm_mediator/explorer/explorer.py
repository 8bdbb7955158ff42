"""Explorer: a play of a saga. A person says what happens next; the saga's own rules say what follows.

No widget, no HTML and no step's code may enter this file: what is shown where is decided by whoever shows it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

import attrs

from fsm_mediator.definition.saga import Saga
from fsm_mediator.diagram import Diagram
from fsm_mediator.diagram.diagram import LIGHT
from fsm_mediator.diagram.history import Run
from fsm_mediator.diagram.picture import DETAIL, EDGES, VIEWS, EdgeKind
from fsm_mediator.diagram.themes import theme_of
from fsm_mediator.errors import DefinitionError, MissingExtraError, RefusedError
from fsm_mediator.execution.execution import Execution
from fsm_mediator.execution.outcome import Outcome
from fsm_mediator.explorer.ledger import Entry, ledger_of
from fsm_mediator.machine.parts import WAIT
from fsm_mediator.narration import place_in_words, timeline
from fsm_mediator.records import Acceptance, Record
from fsm_mediator.verifier.action import DUE, Action, copied
from fsm_mediator.verifier.actions import ActionModel
from fsm_mediator.verifier.branches import spawned_by
from fsm_mediator.verifier.choices import ChoicePoints
from fsm_mediator.verifier.effect_ledger import EffectLedger

if TYPE_CHECKING:
    from fsm_mediator.explorer.widget import ExplorerWidget

SAGA_ID: Final = "explored"
TOOK: Final = 0.05
"""Seconds that every move takes, on the play's own clock; a wait takes as long as it says."""


@attrs.frozen
class Choice:
    """Something that can happen now.

    Attributes:
        label: What happens, in words: ``charge times out, after its effect``; and what is decided on the way, where a
            function of the saga decides: it is not called, every answer is a choice.
        who: From whom it comes: ``participant``, ``driver``, ``others`` or ``person``.
        event: The machine's event that the rules make of it; empty where the machine does not move.
        nature: What sort of move that is; None where the machine does not move.
        leads_to: Where the saga stands then, in words.
        state: Where it stands then.
    """

    label: str
    who: str
    event: str
    nature: EdgeKind | None
    leads_to: str
    state: str


@attrs.frozen(eq=False)
class Moment:
    """Where a play stands after one more thing has happened.

    Attributes:
        label: What happened; empty at the beginning.
        execution: The execution, as it stands then.
        ledger: What has really taken effect, which the execution cannot see.
        records: What the journal has of what happened.
    """

    label: str
    execution: Execution
    ledger: EffectLedger
    records: tuple[Record, ...] = ()
    diagrams: dict[tuple[str, str], Diagram] = attrs.field(factory=dict, repr=False)


class Explorer:
    """A saga, played by hand. Made by `explore`.

    In a notebook it shows itself: the diagram, a button for each thing that can happen now, a slider over what has
    happened, the ledger of effects and the journal. The same by code::

        play = explore(checkout)
        play.choose("the saga begins")
        print(play)  # where it stands, and what can happen now, numbered
        play.choose(1)

    Attributes:
        saga: The saga.
        moments: Where it stood after each thing that happened, from the beginning.
        position: Which of the moments is shown.
        view: ``detail`` or ``overview``.
        theme: ``light`` or ``dark``.
    """

    def __init__(self, saga: Saga, *, view: str = DETAIL, theme: str = LIGHT, strict: bool = False) -> None:
        if not isinstance(saga, Saga):
            raise DefinitionError(f"explore takes a Saga, not {saga!r}")
        self.saga = saga
        self._moves = ActionModel(saga, strict=strict)
        self._decisions = ChoicePoints(saga)
        self._watchers: list[Callable[[], None]] = []
        self._widget: ExplorerWidget | None = None
        acceptance = Acceptance(SAGA_ID, saga.name, saga.version, saga.fingerprint, None, 0.0)
        self.moments = [Moment("", Execution(self._decisions.saga, acceptance), self._moves.nothing)]
        self.position = 0
        self.view = DETAIL
        self.theme = LIGHT
        self.show(view=view, theme=theme)

    # Playing

    @property
    def now(self) -> Moment:
        """The moment that is shown."""
        return self.moments[self.position]

    @property
    def choices(self) -> tuple[Choice, ...]:
        """Everything that can happen at the moment that is shown; empty only where nothing ever can."""
        return tuple(_choice(move, moment) for move, moment in self._possible())

    def choose(self, what: int | str) -> Moment:
        """Let something happen at the moment that is shown; what had come after it is dropped.

        Args:
            what: A choice's number, from 1, or its label.

        Returns:
            The moment after it.

        Raises:
            RefusedError: It cannot happen now; the message says what can.
        """
        moments = [moment for _, moment in self._possible()]
        if isinstance(what, str):
            found = [moment for moment in moments if moment.label == what]
        else:
            found = moments[what - 1 : what] if what >= 1 else []
        if not found:
            possible = "; ".join(f"{number}. {moment.label}" for number, moment in enumerate(moments, 1)) or "nothing"
            raise RefusedError(f"{what!r} cannot happen in {self.now.execution.state!r}; what can: {possible}")
        reached = found[0]
        del self.moments[self.position + 1 :]
        self.moments.append(reached)
        self.position += 1
        self._changed()
        return reached

    def play(self, path: Iterable[str]) -> Explorer:
        """Choose one label after the other; the path of a verifier's counterexample fits.

        Raises:
            RefusedError: One of them cannot happen then; those before it have.
        """
        for label in path:
            self.choose(label)
        return self

    def go(self, position: int) -> None:
        """Show another moment; nothing that has happened is lost. Beyond either end is the end."""
        self.position = min(max(position, 0), len(self.moments) - 1)
        self._changed()

    def restart(self) -> None:
        """Forget all that happened."""
        del self.moments[1:]
        self.go(0)

    def show(self, *, view: str | None = None, theme: str | None = None) -> None:
        """Show the picture in another view or theme.

        Raises:
            DefinitionError: There is no such view or theme.
        """
        if view is not None and view not in VIEWS:
            raise DefinitionError(f"there is no view {view!r}; there are {', '.join(VIEWS)}")
        if theme is not None:
            theme_of(theme)
        self.view = view or self.view
        self.theme = theme or self.theme
        self._changed()

    def _possible(self) -> list[tuple[Action, Moment]]:
        """Everything that can happen, and the moment that each leads to, by the rules that run."""
        execution, ledger = self.now.execution, self.now.ledger
        possible = []
        for move in self._moves.at(execution, ledger):
            for decided, after in self._decisions.every(lambda move=move: self._after(move)):  # type: ignore[misc]  # mypy cannot infer the type of a lambda's default
                possible.append((move, attrs.evolve(after, label=f"{move.label}{decided}")))
        return possible

    def _after(self, move: Action) -> Moment:
        before = self.now.execution
        execution = copied(before)
        at = before.history[-1].at if before.history else before.acceptance.at
        at += _took(move, before)
        move.act(execution, at)
        if len(execution.history) > before.seq:
            at = max(at, execution.history[-1].at)
        while execution.advance(at) is not None:
            pass
        execution.drain_consumed()  # as the driver does that has journaled it
        records = tuple(execution.history[before.seq :])
        ledger = self._moves.after(move.ledger, spawned_by(execution, records))
        return Moment(move.label, execution, ledger, records)

    # Looking

    @property
    def outcome(self) -> Outcome:
        """What a caller would get at the moment that is shown."""
        return self.now.execution.outcome()

    @property
    def journal(self) -> tuple[Record, ...]:
        """What the journal has at the moment that is shown."""
        return tuple(self.now.execution.history)

    @property
    def ledger(self) -> tuple[Entry, ...]:
        """For each part what has really happened at the moment that is shown, and what the saga believes."""
        return ledger_of(self.now.execution, self.now.ledger)

    def diagram(self) -> Diagram:
        """The picture of the moment that is shown."""
        moment, key = self.now, (self.view, self.theme)
        if key not in moment.diagrams:
            run = Run(saga_id=SAGA_ID, state=moment.execution.state, records=self.journal)
            moment.diagrams[key] = Diagram(self.saga, run, view=self.view, theme=self.theme)
        return moment.diagrams[key]

    def watch(self, changed: Callable[[], None]) -> None:
        """Call *changed* whenever something else is to be shown."""
        self._watchers.append(changed)

    def _changed(self) -> None:
        for changed in self._watchers:
            changed()

    @property
    def widget(self) -> ExplorerWidget:
        """The anywidget that shows it.

        Raises:
            MissingExtraError: anywidget is not installed.
        """
        if self._widget is None:
            try:
                from fsm_mediator.explorer.widget import ExplorerWidget
            except ImportError as error:
                raise MissingExtraError("the explorer's buttons", "notebook") from error
            self._widget = ExplorerWidget(self)
        return self._widget

    def _display_(self) -> ExplorerWidget | Diagram:
        """What marimo shows, which takes an anywidget, but no bundle with one."""
        try:
            return self.widget
        except MissingExtraError:
            return self.diagram()

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> Mapping[str, Any]:  # noqa: ARG002 - as IPython calls it
        """What a notebook shows: the widget; where there is no front end for one, the picture of the moment."""
        bundle = dict(self.diagram()._repr_mimebundle_())
        bundle["text/plain"] = str(self)
        try:
            shown = self.widget.mimebundle()
        except MissingExtraError:
            return bundle
        return {**shown, **bundle}

    def __str__(self) -> str:
        execution = self.now.execution
        lines = [f"saga {self.saga.name!r}, moment {self.position} of {len(self.moments) - 1}: {_standing(execution)}"]
        if execution.history:
            lines += ["", "the journal", timeline(execution.history)]
            lines += ["", "the ledger", *(f"  {entry}" for entry in self.ledger)]
        choices = self.choices
        if choices:
            lines += ["", "what can happen now"]
            width = max(len(choice.label) for choice in choices)
            lines += [f"{n:4}. {choice.label:<{width}}  -> {choice.leads_to}" for n, choice in enumerate(choices, 1)]
        return "\n".join(lines)

    def __repr__(self) -> str:
        return f"<Explorer of saga {self.saga.name!r}: {_standing(self.now.execution)}>"


def explore(
    saga: Saga, path: Iterable[str] = (), *, view: str = DETAIL, theme: str = LIGHT, strict: bool = False
) -> Explorer:
    """Play *saga* through by hand: its steps are not called, a person says what comes of each.

    In Jupyter, VS Code and Colab the last line of a cell shows it, with a button for each thing that can happen now
    (extra ``notebook``); elsewhere `Explorer.choose` does the same, and a still picture is shown.

    Args:
        saga: The saga.
        path: What is to have happened already: labels of choices, or the path of a counterexample.
        view: ``detail`` or ``overview``.
        theme: ``light`` or ``dark``, until the notebook's own is known.
        strict: Offer also that a step raises after its effect without saying so, which is against the rules.

    Raises:
        DefinitionError: It is no saga, or there is no such view or theme.
        RefusedError: Something in *path* cannot happen then.
    """
    explorer = Explorer(saga, view=view, theme=theme, strict=strict)
    if not isinstance(path, Iterable) or isinstance(path, str):
        raise DefinitionError(f"explore(): path is a list of labels of choices, not {path!r}")
    return explorer.play(path)


def _choice(move: Action, moment: Moment) -> Choice:
    state = moment.execution.state
    event = moment.records[0].event if moment.records else ""
    nature = EDGES[event][1] if event else None
    return Choice(moment.label, move.who, event, nature, place_in_words(state), state)


def _took(move: Action, before: Execution) -> float:
    """How many seconds *move* takes. A wait says itself when it is over."""
    effect = before.effect
    if effect is None:
        return TOOK
    if effect.kind == WAIT or move.said == DUE:
        return 0.0
    if move.said in ("timed out", "late") and effect.part.timeout is not None:
        return effect.part.timeout
    if move.said == "abandoned":
        return (effect.part.timeout or 0.0) + (effect.part.grace or 0.0)
    return TOOK


def _standing(execution: Execution) -> str:
    return place_in_words(execution.state)
