"""Offers: the verbs that are allowed for an execution in its current state, with the fields of their forms."""

from __future__ import annotations

import enum
import typing
from collections.abc import Iterator, Mapping
from types import NoneType, UnionType
from typing import Any, Final

import attrs
import msgspec

from fsm_mediator.definition.saga import Saga
from fsm_mediator.error_types import safe_repr
from fsm_mediator.errors import PayloadError
from fsm_mediator.ids import is_branch
from fsm_mediator.journal.codec import result_type
from fsm_mediator.journal.notes import Note
from fsm_mediator.journal.plain import name_of_type
from fsm_mediator.journal.protocol import Entry
from fsm_mediator.machine.parts import Kind, Part
from fsm_mediator.mediator.commands import why_not_cancellable
from fsm_mediator.states import FAILED, STUCK_PHASES, SUCCEEDED, WAITING, is_ended, phase_of

YES: Final = "yes"
NO: Final = "no"


@attrs.frozen
class Field:
    """A field in the form of a verb.

    Attributes:
        name: The name of the field in the form.
        label: The text before the field.
        choices: The choices of a list, as (value, text). If empty, the user writes a text.
        json: Whether the text is parsed as JSON. Otherwise the text itself is the value.
        required: Whether the user must fill in the field.
        hint: The text below the field.
        value: The initial content of the field.
    """

    name: str
    label: str
    choices: tuple[tuple[str, str], ...] = ()
    json: bool = False
    required: bool = False
    hint: str = ""
    value: str = ""


REASON: Final = Field("reason", "Reason", hint="It is journaled.")
_WHY: Final = attrs.evolve(REASON, required=True, hint="How did you make sure? It is journaled.")


@attrs.frozen
class Offer:
    """A verb that is allowed for an execution now.

    Attributes:
        verb: The name of the verb, which is also the name of the mediator's method.
        label: The text on the verb's button.
        does: A sentence about the effect of the verb.
        fields: The fields of the verb's form.
    """

    verb: str
    label: str
    does: str
    fields: tuple[Field, ...] = (REASON,)


def offers(
    saga: Saga | None, entry: Entry, undrivable: str | None, hold: Note | None = None, *, alerted: bool = False
) -> Iterator[Offer]:
    """Yield the verbs that are allowed for an execution now, with the fields of their forms.

    Args:
        saga: The execution's definition. None if this process does not know it.
        entry: The execution.
        undrivable: The reason why no living driver can drive the execution. None if a driver can drive it.
        hold: The hold that delays the next attempts of the execution. None if there is no hold.
        alerted: Whether the execution has a problem that causes alerts, and these alerts are not acknowledged.
    """
    branch = is_branch(entry.saga_id)
    if undrivable is not None and not branch and not is_ended(entry.state):
        yield Offer("abandon", "Give up", "Closes it as failed. Nothing is undone.", (_WHY,))
    if alerted:
        yield Offer("acknowledge", "Acknowledge", "No message about it is sent until it moves. Nothing of it changes.")
    machine = None if saga is None else saga.machine_with(entry.state)
    if saga is None or machine is None:
        return
    part = machine.places[entry.state].part
    if phase_of(entry.state) in STUCK_PHASES and part is not None:
        yield Offer("retry", "Try again", f"Tries {part.path} again. Its attempts count anew.")
        can = tuple(
            choice
            for event, choice in (("settled_done", (YES, "It has its effect")), ("settled_undone", (NO, "It has none")))
            if machine.has_transition(event, entry.state)
        )
        yield Offer("resolve", "Settle by hand", f"Settles {part.path} on your word.", tuple(_settling(part, can)))
    if phase_of(entry.state) == WAITING and part is not None and part.kind is Kind.SIGNAL:
        yield Offer(
            "signal",
            f"Send {part.path}",
            f"It goes on with this value as the result of {part.path}.",
            (value_field("value", "Value", part.returns),),
        )
    if why_not_cancellable(saga, entry.state) is None:
        yield Offer("cancel", "Cancel", "Ends its attempts, and compensates all that was done, newest first.")
    if entry.state == FAILED and not branch:
        yield Offer("again", "Run again", "Starts a new execution with the payload of this one.")
    if not is_ended(entry.state) and hold is None:
        yield Offer("hold", "Hold", "No new attempt of a step begins. Compensations go on.")
    if hold is not None and hold.saga_id == entry.saga_id:
        yield Offer("unhold", "Lift the hold", "Attempts begin again.")
    if entry.state == SUCCEEDED and machine.has_transition("undo", entry.state) and not branch:
        yield Offer("undo", "Undo", "Compensates all that was done, newest first. It ends as failed.")


_LABELS: Final = {
    "retry": ("Try again", "Tries their steps again. Their attempts count anew."),
    "resolve": ("Settle by hand", "Settles the steps on your word, each with the same result."),
    "cancel": ("Cancel", "Ends their attempts, and compensates all that was done, newest first."),
    "signal": ("Send a signal", "They go on with this value as the result of the signal."),
    "again": ("Run again", "Starts a new execution for each, with its payload."),
    "hold": ("Hold", "No new attempt of a step begins. Compensations go on."),
    "unhold": ("Lift the holds", "Attempts begin again."),
    "acknowledge": ("Acknowledge", "No message about them is sent until they move."),
    "prune": ("Delete", "Deletes them for good, each with its branches. Only executions that have ended are deleted."),
}
_WHY_EACH: Final = attrs.evolve(REASON, required=True, hint="It is journaled for each.")


def offer_for_many(verb: str, part: Part | None) -> Offer:
    """The verb of a batch, with the fields of its form.

    Args:
        verb: The name of the verb.
        part: The part that all executions of the batch are in. None if this part is not known.
    """
    label, does = _LABELS[verb]
    path = "the step" if part is None else part.path
    fields: tuple[Field, ...] = ()
    if verb == "resolve":
        typed = value_field("result", f"Result of {path}", Any if part is None else result_type(part))
        choices = ("", "choose"), (YES, "It has its effect"), (NO, "It has none")
        fields = (
            Field("done", f"Does {path} have its effect?", choices=choices, required=True),
            attrs.evolve(typed, hint=f"Only where it has its effect. {typed.hint}".strip()),
        )
    if verb == "signal":
        is_signal = part is not None and part.kind is Kind.SIGNAL
        name = Field("signal", "Signal", required=True, value=path if is_signal else "", hint="Its name.")
        fields = name, value_field("value", "Value", part.returns if part is not None and is_signal else Any)
    return Offer(verb, label, does, (*fields, _WHY_EACH))


def _settling(part: Part, can: tuple[tuple[str, str], ...]) -> Iterator[Field]:
    yield Field("done", f"Does {part.path} have its effect?", choices=can, required=True)
    if any(value == YES for value, _ in can):
        label = f"Result of {part.path}"
        field = value_field("result", label, result_type(part))
        yield attrs.evolve(field, required=False, hint=f"Only where it has its effect. {field.hint}".strip())
    yield _WHY


def value_field(name: str, label: str, type: Any) -> Field:
    """The field of a form in which the user enters a value of *type*.

    The user selects a boolean, or a value with fixed choices, from a list. The user enters a string as plain text, and
    any other value as JSON.
    """
    optional = False
    if typing.get_origin(type) in (typing.Union, UnionType):
        members = typing.get_args(type)
        optional = NoneType in members
        rest = [each for each in members if each is not NoneType]
        type = rest[0] if len(rest) == 1 else type
    words = "" if type is Any or type is NoneType else name_of_type(type)
    none = (("", "none"),) if optional else ()
    if type is bool:
        return Field(name, label, choices=(*none, ("true", "true"), ("false", "false")), json=True)
    if typing.get_origin(type) is typing.Literal:
        choices = tuple((_json(each), str(each)) for each in typing.get_args(type))
        return Field(name, label, choices=(*none, *choices), json=True)
    if isinstance(type, enum.EnumType):
        members = tuple((_json(each.value), str(each.name)) for each in type)  # type: ignore[var-annotated]
        return Field(name, label, choices=(*none, *members), json=True)
    if type is str:
        return Field(name, label, hint="Text, as it is.")
    return Field(name, label, json=True, hint=f"JSON{f', a {words}' if words else ''}; empty: null.")


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def arguments(offer: Offer, form: Mapping[str, str]) -> dict[str, Any]:
    """The arguments of the verb's method, by name, from the fields of the submitted *form*.

    Raises:
        PayloadError: A required field is missing, a value is none of the choices, or a text is not JSON.
    """
    found: dict[str, Any] = {}
    for field in offer.fields:
        text = form.get(field.name, "").strip()
        if field.required and not text:
            raise PayloadError(f"{offer.verb}: {field.label!r} is empty; fill it in")
        if field.choices and text and text not in dict(field.choices):
            raise PayloadError(f"{offer.verb}: {text!r} is not a choice of {field.label!r}")
        if field.name == "done":
            found["done"] = text == YES
        elif field.name == "signal":
            found["name"] = text
        elif field.json or not text:
            found[field.name] = _value_of(field, text)
        else:
            found[field.name] = text
    if found.get("done") is False:
        found.pop("result", None)
    return found


def _value_of(field: Field, text: str) -> Any:
    if not text:
        return None
    try:
        return msgspec.json.decode(text)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise PayloadError(f"{field.label}: {safe_repr(text)} is not JSON ({error}); a text needs quotes") from error
