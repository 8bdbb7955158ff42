"""The payload: a change of a profile, its validation, and the reader of the file of changes.

This module uses neither the services nor the saga.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal, get_args

import attrs
import msgspec

Plan = Literal["free", "pro", "team"]

CENTS_PER_SEAT: dict[Plan, int] = {"free": 0, "pro": 900, "team": 1500}

_EMAIL = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+")


def _email(_: object, field: attrs.Attribute[str], value: str) -> None:
    if not _EMAIL.fullmatch(value):
        raise ValueError(f"{field.name!r} is not an e-mail address: {value!r}")


def _not_blank(_: object, field: attrs.Attribute[str], value: str) -> None:
    if not value.strip():
        raise ValueError(f"{field.name!r} is blank")


@attrs.frozen(kw_only=True)
class ProfileChange:
    """The new profile of a user, for every service that stores a part of it.

    Attributes:
        user_id: The user, from 1.
        email: The new address.
        plan: The new plan.
        seats: The seats that the user pays for, 1 to 500.
        display_name: The name on the profile page.
    """

    user_id: int = attrs.field(validator=attrs.validators.ge(1))
    email: str = attrs.field(validator=_email)
    plan: Plan = attrs.field(validator=attrs.validators.in_(get_args(Plan)))
    seats: int = attrs.field(validator=[attrs.validators.ge(1), attrs.validators.le(500)])
    display_name: str = attrs.field(validator=_not_blank)

    @property
    def cents(self) -> int:
        """The price of a month, in cents."""
        return CENTS_PER_SEAT[self.plan] * self.seats

    @property
    def message(self) -> str:
        """The message to the user."""
        return f"Hello {self.display_name}, you are on plan {self.plan} with {self.seats} seat(s)."


def original(user_id: int) -> ProfileChange:
    """The profile of a user before the demo runs."""
    return ProfileChange(
        user_id=user_id, email=f"user{user_id}@old.example", plan="free", seats=1, display_name=f"User {user_id}"
    )


@attrs.frozen
class Line:
    """A valid line of the file."""

    number: int
    change: ProfileChange

    @property
    def saga_id(self) -> str:
        """The id of the saga: the same line has the same id in every run of the demo."""
        return f"sync-{self.number}"


@attrs.frozen
class Malformed:
    """A line that is not valid, and the reason."""

    number: int
    reason: str
    text: str


def read_changes(path: Path) -> tuple[list[Line], list[Malformed]]:
    """Reads one change per line. Returns the valid lines and the malformed ones.

    Several lines are processed at the same time, in no fixed order. So of two changes of one user the first is
    used, and the second is reported as malformed.
    """
    lines: list[Line] = []
    malformed: list[Malformed] = []
    first_seen: dict[int, int] = {}
    for number, raw in enumerate(path.read_bytes().splitlines(), start=1):
        try:
            change = _decode(raw)
            first = first_seen.setdefault(change.user_id, number)
            if first != number:
                raise ValueError(f"user {change.user_id} has a change already, on line {first}")
        except ValueError as error:  # the errors of msgspec and Unicode are ValueErrors, too
            malformed.append(Malformed(number, _reason(error), raw.decode(errors="replace")))
        else:
            lines.append(Line(number, change))
    return lines, malformed


def _decode(raw: bytes) -> ProfileChange:
    if not raw.strip():
        raise ValueError("blank line")
    return msgspec.json.decode(raw, type=ProfileChange)


def _reason(error: ValueError) -> str:
    if isinstance(error, UnicodeDecodeError):
        return "not UTF-8"
    cause = error.__cause__ if isinstance(error.__cause__, ValueError) else error
    # attrs adds the field and its value to some errors; people need the message only.
    return str(cause.args[0]) if cause.args else str(cause)
