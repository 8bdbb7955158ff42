"""Access: the permissions of an operator, and the check that a request comes from a page of the monitor."""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Iterable
from typing import Final

import attrs
from starlette.datastructures import Headers

from fsm_mediator.errors import DefinitionError

LOOK: Final = "look"
"""The permission to read every page."""

VERBS: Final = (
    *("retry", "resolve", "cancel", "signal", "undo", "abandon", "again", "hold", "unhold"),
    *("acknowledge", "prune"),
)
"""The verbs that can be permitted to an operator."""

_PERMISSIONS: Final = frozenset({LOOK, *VERBS})

_POLICY: Final = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    b"form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
SAFETY_HEADERS: Final = (
    (b"content-security-policy", _POLICY),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
)
"""The headers of every response. They make a browser load only the monitor's own scripts and styles.

The browser contacts no other host, and does not show the pages in frames of other sites.
"""


def _as_set(names: Iterable[str]) -> frozenset[str]:
    return frozenset(names)


@attrs.frozen
class Operator:
    """A user of the monitor, with the user's permissions.

    Attributes:
        name: The name that is journaled with each verb.
        may: The permissions: ``look`` to read the pages, and the names of verbs such as ``retry``. `Operator.acting`
            returns an operator with all permissions.

    Raises:
        DefinitionError: There is no such permission.
    """

    name: str
    may: frozenset[str] = attrs.field(default=frozenset({LOOK}), converter=_as_set)

    def __attrs_post_init__(self) -> None:
        if unknown := self.may - _PERMISSIONS:
            raise DefinitionError(
                f"operator {self.name!r} has unknown permissions {', '.join(sorted(unknown))}; "
                f"there are {', '.join(sorted(_PERMISSIONS))}"
            )

    @classmethod
    def acting(cls, name: str) -> Operator:
        """An operator of this name with all permissions."""
        return cls(name, _PERMISSIONS)

    def without(self, permissions: Iterable[str]) -> Operator:
        """A copy of this operator without *permissions*."""
        return attrs.evolve(self, may=self.may - frozenset(permissions))


class FormTokens:
    """Makes and checks the tokens in forms. A token proves that this monitor rendered the form.

    Args:
        secret: The key of the tokens. Processes that serve the same monitor need the same key. None for a random key.
    """

    def __init__(self, secret: bytes | None) -> None:
        self._key = secrets.token_bytes(32) if secret is None else secret

    def token_of(self, operator: Operator) -> str:
        """The token for the forms of *operator*."""
        return hmac.new(self._key, f"form:{operator.name}".encode(), "sha256").hexdigest()

    def why_refused(self, operator: Operator, headers: Headers, token: str) -> str | None:
        """The reason for which a POST is refused. None if the request comes from a form of this monitor.

        A browser sends a header that says whether a request comes from the same origin. An old browser, or any browser
        over plain HTTP, does not send this header. Then the form's token decides.
        """
        site = headers.get("sec-fetch-site")
        if site is not None:
            return None if site == "same-origin" else f"the request comes from another site ({site})"
        if hmac.compare_digest(token.encode(), self.token_of(operator).encode()):
            return None
        return (
            "the form was not rendered by this process: open the page again. "
            "Behind several processes give each the same Monitor(..., secret=...)"
        )
