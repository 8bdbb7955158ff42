"""TLA+: a saga's machine as a TLA+ module for the model checker TLC. The laws of `verify` are its invariants.

The table in the module has the rows of the machine, and a variable has the effects that really happened. The file
``template.tla`` beside this file has the text that is the same for all sagas. It defines the possible outcomes of an
attempt in each phase, and the row that follows from each outcome. So the template states the rules of ``execution`` a
second time, in another language. A difference between the two shows a mistake. A test compares the states that TLC
reaches with the states that `verify` reaches by the rules of ``execution``.

Source: Lamport, "Specifying Systems", 2002.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from importlib import resources
from pathlib import Path
from typing import Final

import attrs

from fsm_mediator.definition.saga import Saga, check_is_saga
from fsm_mediator.machine.parts import GROUPS, Kind, Part
from fsm_mediator.states import ENDED

INVARIANTS: Final = (
    *("TypeOK", "DoubtIsHonest", "Law1_Attempts", "Law2_FailedLeavesNothing", "Law2_NewestFirst"),
    *("Law3_SucceededHasAll", "Law4_NothingAfterCompensation", "Law4_NothingKnownAgain"),
)
PROPERTIES: Final = ("Law1_ComesToRest",)


@attrs.frozen
class TlaModule:
    """A TLA+ module, and the configuration to check it.

    Attributes:
        name: The name of the module. The file of the module must have the name ``NAME.tla``.
        text: The text of the module.
        config: The text of the file ``NAME.cfg``, which configures TLC.
    """

    name: str
    text: str
    config: str

    def write(self, folder: Path | str) -> tuple[Path, Path]:
        """Write the module and the configuration into *folder*, and return the paths of both files."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        module, config = folder / f"{self.name}.tla", folder / f"{self.name}.cfg"
        module.write_text(self.text, encoding="utf-8")
        config.write_text(self.config, encoding="utf-8")
        return module, config


def to_tla(saga: Saga) -> TlaModule:
    """The machine of *saga* as a TLA+ module, with its laws as invariants.

    A group is one part of this module. It has an effect if any of its branches has an effect. The branches themselves
    are not in this module, because they are separate executions.

    Raises:
        DefinitionError: *saga* is not a `Saga`.
    """
    check_is_saga("to_tla()", saga)
    name = re.sub(r"\W", "_", saga.name, flags=re.ASCII)
    if not re.match(r"[A-Za-z]", name):
        name = f"saga_{name}"
    machine = saga.machine
    parts = saga.parts
    rows = []
    for event, source, target in machine.moves():
        phase, part = machine.places[source]
        values = (event, source, target, phase, part.path if part is not None else "")
        fields = zip(("event", "source", "target", "phase", "part"), values, strict=True)
        rows.append("  [" + ", ".join(f"{field} |-> {_text(value)}" for field, value in fields) + "]")
    places = [
        f"  [state |-> {_text(state)}, phase |-> {_text(place.phase)}, "
        f"part |-> {_text(place.part.path if place.part is not None else '')}]"
        for state, place in machine.places.items()
    ]
    filled = {
        "MODULE": f"---- MODULE {name} ----",
        "TITLE": f"saga {saga.name}, version {saga.version}, fingerprint {saga.fingerprint}",
        "ORDER": "<<" + ", ".join(_text(part.path) for part in parts) + ">>",
        "STEPS": _set(parts, lambda part: part.kind is Kind.STEP),
        "GROUPS": _set(parts, lambda part: part.kind in GROUPS),
        "COMPENSATABLE": _set(parts, lambda part: part.compensatable),
        "PROBED": _set(parts, lambda part: part.probe is not None),
        "REPEATABLE": _set(parts, lambda part: part.repeatable),
        "PIVOT": _set(parts, lambda part: part.pivot),
        "FORWARD_ONLY": _set(parts, lambda part: part.forward_only),
        "OUTLIVES": _set(parts, lambda part: part.can_outlive_its_timeout),
        "ATTEMPTS": _function(parts, lambda part: part.retry.attempts or 0),
        "COMPENSATION_ATTEMPTS": _function(parts, lambda part: part.compensation_retry.attempts or 0),
        "ENDED": "{" + ", ".join(_text(state) for state in machine.states if state in ENDED) + "}",
        "PLACES": "{\n" + ",\n".join(places) + "\n}",
        "TABLE": "{\n" + ",\n".join(rows) + "\n}",
    }
    template = resources.files(__package__).joinpath("template.tla").read_text(encoding="utf-8")
    text = re.sub(r"@(\w+)@", lambda match: filled[match[1]], template)
    config = ["SPECIFICATION Spec", *(f"INVARIANT {each}" for each in INVARIANTS)]
    config += [f"PROPERTY {each}" for each in PROPERTIES]
    return TlaModule(name, text, "\n".join(config) + "\n")


def _text(value: str) -> str:
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _set(parts: Iterable[Part], holds: Callable[[Part], bool]) -> str:
    return "{" + ", ".join(_text(part.path) for part in parts if holds(part)) + "}"


def _function(parts: Iterable[Part], value: Callable[[Part], int]) -> str:
    cases = " [] ".join(f"p = {_text(part.path)} -> {value(part)}" for part in parts)
    return f"[p \\in Parts |-> CASE {cases}]"
