"""Redaction: find secrets by patterns, and hide them in logs, on the command line, in exports and in telemetry.

The data in a journal is not changed. To seal the texts of a journal, use a cipher: see ``ciphers.py``.
"""

from __future__ import annotations

import fnmatch
import logging
import re
from collections.abc import Iterable
from typing import Any, Final, TypeAlias

from fsm_mediator.error_types import DefinitionError

HIDDEN: Final = "***"
"""The text that replaces a hidden text."""

Pattern: TypeAlias = "str | re.Pattern[str]"


class Redaction:
    r"""Hides the values of fields, and the parts of texts that match a pattern.

    Args:
        patterns: Names of fields and regular expressions. A name, such as ``"password"`` or ``"card*"``, hides the
            value of the field at any depth. Upper and lower case do not matter. The names ``payload``, ``value`` (a
            result or a signal's value), ``message``, ``traceback`` and ``reason`` work too. A regular expression,
            compiled or as a text between slashes such as ``r"/\b\d{13,19}\b/"``, hides its matches in every text.

    Raises:
        DefinitionError: A pattern is neither a name nor a valid regular expression.
    """

    def __init__(self, patterns: Iterable[Pattern] = ()) -> None:
        if isinstance(patterns, (str, bytes)) or not isinstance(patterns, Iterable):
            raise DefinitionError(f"redact is a list of names of fields and regular expressions, not {patterns!r}")
        names: list[str] = []
        texts: list[re.Pattern[str]] = []
        for pattern in patterns:
            if isinstance(pattern, re.Pattern) and isinstance(pattern.pattern, str):
                texts.append(pattern)
            elif isinstance(pattern, str) and len(pattern) > 2 and pattern[0] == pattern[-1] == "/":
                try:
                    texts.append(re.compile(pattern[1:-1]))
                except re.error as error:
                    raise DefinitionError(f"redact: {pattern!r} is no regular expression: {error}") from error
            elif isinstance(pattern, str) and pattern:
                names.append(fnmatch.translate(pattern.casefold()))
            else:
                raise DefinitionError(f"redact: {pattern!r} is neither the name of a field nor a regular expression")
        self._names = re.compile("|".join(names) or r"(?!)")
        self._texts = texts

    def text(self, text: str) -> str:
        """*text* with ``***`` for every match of a regular expression."""
        for pattern in self._texts:
            text = pattern.sub(HIDDEN, text)
        return text

    def field(self, name: str, value: Any) -> Any:
        """*value*, the value of the field *name*, with ``***`` for its secrets. *value* consists of JSON types."""
        if value is not None and self._names.match(name.casefold()):
            return HIDDEN
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return {self.text(key): self.field(key, each) for key, each in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.field("", each) for each in value]
        shown = self.text(number := str(value)) if isinstance(value, (int, float)) else None
        return value if shown is None or shown == number else shown


class RedactingFilter(logging.Filter):
    """A filter of `logging` that hides parts of messages and tracebacks. Add it to a handler.

    The filter of a handler sees all messages. The filter of a logger does not see messages of its child loggers.

    Args:
        patterns: The patterns, as for `Redaction`. Names of fields have no effect here.
    """

    def __init__(self, patterns: Iterable[Pattern]) -> None:
        super().__init__()
        self._redaction = Redaction(patterns)
        self._formatter = logging.Formatter()

    def filter(self, record: logging.LogRecord) -> bool:
        """Hide the secrets in *record*. Always returns True."""
        record.msg, record.args = self._redaction.text(record.getMessage()), None
        if record.exc_info and not record.exc_text:
            record.exc_text = self._formatter.formatException(record.exc_info)
        if record.exc_text:
            record.exc_text, record.exc_info = self._redaction.text(record.exc_text), None
        for name, value in vars(record).items():
            if name.startswith("saga") and isinstance(value, str):
                setattr(record, name, self._redaction.text(value))
        return True
