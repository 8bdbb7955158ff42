"""Load the sagas, the journal and the settings of a command from its options, the environment or ``pyproject.toml``.

::

    [tool.fsm-mediator]
    app = "shop.sagas:mediator"   # a mediator, a saga, a list of sagas, or a function that returns one of these
    journal = "sagas.db"
    cipher = "env:SHOP_KEYS"      # the cipher that opens sealed texts
    redact = ["card*"]            # the names of fields that are never shown
"""

from __future__ import annotations

import importlib
import os
import sys
import tomllib
import traceback
from collections.abc import Iterable, Iterator, Mapping
from contextlib import chdir
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import attrs
import click

from fsm_mediator.ciphers import AesGcm, Cipher, check_cipher
from fsm_mediator.definition.saga import Saga, all_definitions
from fsm_mediator.definition.steps import Step
from fsm_mediator.error_types import safe_repr
from fsm_mediator.errors import DefinitionError, JournalError, MediatorError, UnknownExecutionError, UnknownSagaError
from fsm_mediator.journal.archive import ArchivedExecution
from fsm_mediator.journal.codec import Codec
from fsm_mediator.journal.factory import is_postgres, path_of, without_password
from fsm_mediator.journal.protocol import Entry, Journal
from fsm_mediator.journal.repair import damage_of
from fsm_mediator.journal.sqlite.connections import MEMORY
from fsm_mediator.journal.sqlite.journal import SQLiteJournal
from fsm_mediator.redaction import Redaction

SETTINGS: Final[dict[str, type]] = {"app": str, "journal": str, "diagrams": dict, "cipher": str, "redact": list}
"""The name and the type of each setting of ``[tool.fsm-mediator]``."""

_KINDS: Final[dict[type, str]] = {str: "text", dict: "table", list: "list"}

_VARIABLE: Final = "env:"
"""The prefix of a value that names an environment variable: ``env:NAME`` means the value of NAME."""

_OURS: Final = frozenset({__file__, importlib.__file__})


@attrs.frozen
class App:
    """The sagas and settings of the object that ``--app`` names.

    Attributes:
        sagas: The sagas of the object.
        journal: The journal, if the object is a mediator. None otherwise.
        settings: If the object is a mediator, its other settings, such as limits, observers and park_after.
    """

    sagas: tuple[Saga, ...]
    journal: Journal | None = None
    settings: Mapping[str, Any] = MappingProxyType({})

    @property
    def has_coroutines(self) -> bool:
        """Whether some function of the sagas is a coroutine function. Then only an `AsyncMediator` can drive them."""
        parts = (part for saga in self.sagas for member in all_definitions(saga) for part in member.parts)
        callbacks = (callback for part in parts for callback in (part.execute, part.compensate, part.probe))
        return any(callback is not None and callback.is_coroutine for callback in callbacks)

    def sagas_named(self, name: str | None) -> tuple[Saga, ...]:
        """The sagas of this name, in every version. If *name* is None, all sagas.

        Raises:
            UnknownSagaError: The app has no saga of this name.
        """
        found = tuple(saga for saga in self.sagas if name is None or saga.name == name)
        if not found:
            known = ", ".join(sorted({saga.name for saga in self.sagas}))
            raise UnknownSagaError(f"no saga is named {name!r}; the app has {known}")
        return found


def settings() -> dict[str, Any]:
    """The table ``[tool.fsm-mediator]`` of the nearest ``pyproject.toml``: in the working directory or a parent folder.

    Raises:
        DefinitionError: The file is not TOML, or a setting is unknown or has the wrong type.
    """
    here = Path.cwd()
    for folder in (here, *here.parents):
        path = folder / "pyproject.toml"
        if path.is_file():
            try:
                table = tomllib.loads(path.read_text(encoding="utf-8"))
            except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
                raise DefinitionError(f"{path} cannot be read: {error}") from error
            return {**_checked(table, path), "folder": folder}
    return {}


def _checked(table: dict[str, Any], path: Path) -> dict[str, Any]:
    """The table ``[tool.fsm-mediator]`` of the file *path*, whose content is *table*. Wrong settings are refused."""
    tool = table.get("tool", {})
    found = tool.get("fsm-mediator", tool.get("fsm_mediator", {})) if isinstance(tool, dict) else {}
    where = f"[tool.fsm-mediator] in {path}"
    if not isinstance(found, dict):
        raise DefinitionError(f"{where} must be a table, not {found!r}")
    for name, value in found.items():
        kind = SETTINGS.get(name)
        if kind is None:
            raise DefinitionError(f"{where} has {name!r}, which is an unknown setting; there are {', '.join(SETTINGS)}")
        if not isinstance(value, kind) or not value:
            raise DefinitionError(f"{where}: {name} must be a {_KINDS[kind]}, not {value!r}")
    return found


def load_app(spec: str | None) -> App:
    """Import the object that *spec*, ``module:object``, names, and return its sagas and settings.

    If *spec* is None, the setting ``app`` of ``pyproject.toml`` is used.

    Raises:
        DefinitionError: There is no such object, it cannot be imported, or it has no sagas.
    """
    configured = {} if spec else settings()
    spec = spec or configured.get("app")
    if not spec:
        raise DefinitionError(
            "which sagas? Name them with --app module:object (a mediator, a saga, or a list of sagas), "
            'or in pyproject.toml: [tool.fsm-mediator] app = "module:object"'
        )
    with chdir(configured.get("folder", ".")):  # paths in such an app are relative to pyproject.toml
        return _app_of(load_object(spec), spec)


def _app_of(found: Any, spec: str) -> App:
    """The sagas and settings of the object *found*, or of the object that *found* returns if it is a function."""
    asked = "looked at"
    try:
        if callable(found) and not hasattr(found, "sagas") and not isinstance(found, (Saga, Step)):
            asked = "called, without arguments,"
            found = found()
        if hasattr(found, "sagas") and hasattr(found, "journal"):
            return App(tuple(found.sagas), found.journal, getattr(found, "settings", {}))
        sagas = (found,) if isinstance(found, Saga) else tuple(found) if isinstance(found, Iterable) else ()
    except MediatorError:
        raise
    except (Exception, SystemExit) as error:
        raise DefinitionError(f"{spec} was {asked} for its sagas, and raised {safe_repr(error)}") from error
    if not sagas or not all(isinstance(saga, Saga) for saga in sagas):
        raise DefinitionError(f"{spec} is {safe_repr(found)}; --app takes a mediator, a saga, or a list of sagas")
    return App(sagas)


def one_saga(app: App, name: str | None) -> Saga:
    """The saga of this name, in its last version. If *name* is None, the only saga of the app.

    Raises:
        DefinitionError: No name is given, and the app has several sagas.
        UnknownSagaError: The app has no saga of this name.
    """
    known = ", ".join(sorted({saga.name for saga in app.sagas}))
    if name is None:
        if len(app.sagas) > 1:
            raise DefinitionError(
                f"which of the sagas {known}? Name it with --saga; `render` draws all of them with -o into a folder"
            )
        return app.sagas[0]
    found = [saga for saga in app.sagas if saga.name == name]
    if not found:
        raise UnknownSagaError(f"the app has no saga {name!r}; it has {known}")
    return found[-1]


def load_journal(
    app: str | None,
    journal: str | None,
    *,
    read_only: bool = False,
    wants_app: bool = False,
    migrates: bool | None = False,
) -> tuple[App | None, Journal]:
    """Open the journal of a command. Returns the app, or None if the app was not loaded, and the journal.

    If *journal* is None, the app is loaded if there is one, and its journal is used. If *journal* is given, the app is
    loaded only if *app* is given and *wants_app* is True. So a journal is readable even if the app is broken. For
    *migrates*, see the argument *creates* of `journal_for`.

    Raises:
        DefinitionError: The app cannot be loaded.
        JournalError: No journal is named, it is missing, or it cannot be opened.
    """
    loaded = None
    if (app and wants_app) if journal else (app or settings().get("app")):
        try:
            loaded = load_app(app)
        except DefinitionError as error:
            raise DefinitionError(f"{error}; a journal needs no app if you name it with --journal") from error
    return loaded, journal_for(journal, loaded, read_only=read_only, creates=migrates)


def archived(path: Path, saga_id: str, app: str | None) -> tuple[App | None, Any]:
    """The app, or None if *app* is None, and a journal that contains only an archived execution and its branches.

    *path* is the folder of the archive.
    """
    loaded = None if app is None else load_app(app)
    codec = None if loaded is None or loaded.journal is None else loaded.journal.codec
    return loaded, ArchivedExecution(path, saga_id, _cipher_for(codec))


def execution_in(journal: Journal, saga_id: str) -> Entry:
    """The row of the execution with this id.

    Raises:
        UnknownExecutionError: The journal has no such execution.
        JournalError: The row of the execution is damaged and cannot be read.
    """
    entry = journal.find(saga_id)
    if entry is None and (damage := damage_of(journal, saga_id)):
        raise JournalError(f"{'; '.join(damage)}; see fsm-mediator check")
    if entry is None:
        raise UnknownExecutionError(f"the journal knows no execution {saga_id!r}")
    return entry


def with_branches(journal: Journal, entry: Entry) -> Iterator[Entry]:
    """Yield the execution, its branches, and the branches of these branches."""
    yield entry
    for branch in journal.entries(parent=entry.saga_id):
        yield from with_branches(journal, branch)


def load_object(spec: str) -> Any:
    """The object that ``module:name`` or ``module:name.attribute`` names. Modules in the working directory are found.

    Raises:
        DefinitionError: The module cannot be imported, or has no such object.
    """
    module_name, colon, path = spec.partition(":")
    if not colon or not path:
        raise DefinitionError(f"{spec!r} names no object; write it as module:object, such as shop.sagas:mediator")
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        found: Any = importlib.import_module(module_name)
    except MediatorError:
        raise
    except (Exception, SystemExit) as error:  # a script that is not meant for import may end the process
        raise DefinitionError(
            f"the module {module_name!r} cannot be imported: {safe_repr(error)}{_place_of(error)}{_hint(module_name)}"
        ) from error
    for name in path.split("."):
        try:
            found = getattr(found, name)
        except AttributeError:
            raise DefinitionError(f"{module_name!r} has no {path!r}; {_apps_in(found)}") from None
        except Exception as error:
            raise DefinitionError(f"{spec!r}: looking for {name!r} raised {safe_repr(error)}") from error
    return found


def _place_of(error: BaseException) -> str:
    """The file and line of the user's code that raised *error*, as text. Empty if the traceback has no such line."""
    if isinstance(error, SyntaxError):
        return f" ({error.filename}, line {error.lineno})"
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if not frame.filename.startswith("<") and frame.filename not in _OURS]
    return f" ({own[-1].filename}, line {own[-1].lineno})" if own else ""


def _hint(module_name: str) -> str:
    """Advice for an error message if *module_name* is the name of a file. Otherwise an empty text."""
    if not module_name.endswith(".py"):
        return ""
    return f"; a module is named without .py, and with dots: {module_name.removesuffix('.py').replace('/', '.')}"


def _apps_in(module: object) -> str:
    """A text for an error message with the names in *module* that --app could name."""
    names = []
    for name, value in getattr(module, "__dict__", {}).items():
        sagas = value if isinstance(value, (list, tuple)) else [value]
        is_mediator = not isinstance(value, type) and type(value).__name__.endswith("Mediator")
        if not name.startswith("_") and (is_mediator or (sagas and all(isinstance(saga, Saga) for saga in sagas))):
            names.append(name)
    return f"it has {', '.join(names) or 'no sagas'}"


def journal_for(spec: str | None, app: App | None, *, read_only: bool = False, creates: bool | None = False) -> Journal:
    """Open the journal of the option --journal, or the app's journal on disk, or the journal of ``pyproject.toml``.

    Args:
        spec: The value of the option --journal, a path or a URL. None if the option is not given.
        app: The app, if one is loaded.
        read_only: Whether to open the journal only for reading.
        creates: True to create a missing journal. False to refuse a missing journal, because a mistyped path would
            look like an empty journal. None is like False, but does not check the tables of a journal on PostgreSQL.

    Raises:
        JournalError: No journal is named, it is missing, or it cannot be opened.
    """
    if spec is None and app is not None and app.journal is not None and app.journal.heartbeat is not None:
        app.journal.codec.cipher = _cipher_for(app.journal.codec)
        return app.journal
    if spec is None:
        found = settings()
        if "journal" not in found and app is not None and app.journal is not None:
            raise JournalError(
                "the app's mediator keeps its journal in memory, where no other process can see it; "
                "give it journal='sagas.db', or name a journal with --journal"
            )
        if "journal" not in found:
            raise JournalError(
                "which journal? Name it with --journal sagas.db, "
                'or in pyproject.toml: [tool.fsm-mediator] journal = "sagas.db"'
            )
        spec = found["journal"]
        if "://" not in spec and not spec.startswith(_VARIABLE):
            spec = str(Path(found["folder"]) / spec)
    spec = from_environment(spec)
    codec = None if app is None or app.journal is None else app.journal.codec
    types, cipher = None if codec is None else codec.types, _cipher_for(codec)
    if is_postgres(spec):
        from fsm_mediator.journal.postgres import PostgresJournal

        return PostgresJournal(spec, read_only=read_only, migrate=creates, types=types, cipher=cipher)
    path = _path_of(spec)
    if not creates and not read_only and not Path(path).exists():
        raise JournalError(f"there is no journal at {path!r}; `fsm-mediator run` and `serve` create it")
    return SQLiteJournal(path, read_only=read_only, types=types, cipher=cipher)


def _group_option(option: str) -> Any:
    """The value of an option that is given before the name of the command. None outside of the command line."""
    context = click.get_current_context(silent=True)
    return None if context is None else context.find_root().params.get(option)


def redaction() -> Redaction:
    """The `Redaction` that hides the fields in the option --redact and in ``redact`` of ``pyproject.toml``."""
    return Redaction((*(_group_option("redact") or ()), *settings().get("redact", ())))


def _cipher_for(codec: Codec | None) -> Cipher | None:
    """The cipher of the option --cipher, or of the app's journal, or of ``pyproject.toml``. None if no cipher is named.

    Raises:
        DefinitionError: The cipher cannot be loaded, or the object is not a cipher.
        JournalError: The environment variable is not set.
    """
    spec = _group_option("cipher") or ((codec is None or codec.cipher is None) and settings().get("cipher"))
    if not spec:
        return None if codec is None else codec.cipher
    if spec.startswith(_VARIABLE):
        return AesGcm.from_text(from_environment(spec, "--cipher", "keys, each as ID:BASE64"))
    found = load_object(spec)
    found = found() if callable(found) and not hasattr(found, "seal") else found
    check_cipher(f"--cipher {spec}", found)
    return found  # type: ignore[no-any-return]


def from_environment(spec: str, option: str = "--journal", what: str = "a path or a URL") -> str:
    """*spec*, or, if *spec* is ``env:NAME``, the value of the environment variable NAME.

    *option* and *what* are for the error message: the name of the option, and the meaning of its value.

    Raises:
        JournalError: There is no such variable.
    """
    if not spec.startswith(_VARIABLE):
        return spec
    name = spec.removeprefix(_VARIABLE)
    if not os.environ.get(name):
        raise JournalError(f"{option} {spec}: the environment variable {name!r} is not set; set it to {what}")
    return os.environ[name]


def _path_of(spec: str) -> str:
    try:
        path = path_of(spec)
    except DefinitionError as error:
        raise JournalError(
            f"--journal {without_password(spec)!r} is no journal: write a path, sqlite:///sagas.db, "
            f"sqlite:////var/lib/sagas.db or postgresql://app@db/shop"
        ) from error
    if path == MEMORY:
        raise JournalError(
            f"--journal {spec!r} would keep the journal in memory, and lose it when the command ends; name a file"
        )
    if "://" in spec and "?" in path:
        raise JournalError(f"--journal {spec!r}: settings after a question mark are not supported; name only the file")
    return path
