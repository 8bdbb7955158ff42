"""Address: the URL of a database, and the parts of the URL that may be shown. The password is never shown."""

from __future__ import annotations

import re
from typing import Any, Final

from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict

from fsm_mediator.errors import DefinitionError

_DEFAULTS: Final[dict[str, Any]] = {
    "client_encoding": "utf8",
    "application_name": "fsm_mediator",
    # A server that disappears without closing its connections is noticed after some 20 seconds.
    "connect_timeout": 5,
    "keepalives_idle": 5,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
}
"""The default settings of a connection. Settings in the URL replace them."""

_SHOWN: Final = ("user", "host", "port", "dbname", "service")


class Address:
    """The location of a database, and the settings for connections to it.

    Args:
        url: A URL or a text of key=value pairs, in libpq's format: ``postgresql://app@db/shop`` or
            ``postgresql:///shop?service=production``. In addition, ``?schema=NAME`` names the schema of the journal,
            and ``?stats_schema=NAME`` names the schema of its side store. Other settings come from libpq's environment
            variables, service file and password file.

    Attributes:
        schema: The schema in the URL. None if the URL has no ``schema``.
        stats_schema: The schema of the side store in the URL. None if the URL has no ``stats_schema``.
        parameters: The settings of a connection, including the password.
        shown: The URL without any secret, for display.

    Raises:
        DefinitionError: *url* is not a valid URL. The message does not show it.
    """

    schema: str | None
    stats_schema: str | None

    def __init__(self, url: str) -> None:
        url, self.schema = _without("schema", url)
        url, self.stats_schema = _without("stats_schema", url)
        try:
            settings = conninfo_to_dict(url)
        except (ProgrammingError, UnicodeError, TypeError):  # their messages can show a part of the password
            raise self._refusal() from None
        host, port, dbname = (str(settings.get(name) or "") for name in ("host", "port", "dbname"))
        if "@" in host or "@" in dbname or not (not port or port.replace(",", "").isdigit()):
            raise self._refusal()
        self.parameters: dict[str, Any] = {**_DEFAULTS, **settings}
        parts = {name: str(settings[name]) for name in _SHOWN if settings.get(name)}
        user = f"{parts['user']}@" if "user" in parts else ""
        at = parts.get("host", "") + (f":{port}" if port else "")
        service = f"?service={parts['service']}" if "service" in parts else ""
        self.shown: str = f"postgresql://{user}{at}/{dbname}{service}"

    @staticmethod
    def _refusal() -> DefinitionError:
        return DefinitionError(
            "the journal's URL is none that PostgreSQL's libpq knows: write postgresql://USER@HOST:PORT/DATABASE, and "
            "the characters @ : / ? # % of a password as %40 %3A %2F %3F %23 %25 (the URL is not shown: it may hold a "
            "password)"
        )


def _without(parameter: str, url: str) -> tuple[str, str | None]:
    """The URL without *parameter*, and the value of *parameter*. The value is None if the URL has no such parameter."""
    found = re.search(rf"[?&]{parameter}=([^&]*)", url) if isinstance(url, str) else None
    if found is None:
        return url, None
    before, after = url[: found.start()], url[found.end() :]
    return before + (after if "?" in before else after.replace("&", "?", 1)), found[1]
