"""Loading: the sagas and the journal, from options, the environment, or ``pyproject.toml``.

::

    [tool.fsm-mediator]
    app = "shop.sagas:mediator"   # a mediator, a saga, a list of sagas, or a function that returns one of these
    journal = "sagas.db"
    cipher = "env:SHOP_KEYS"      # what opens sealed texts
    redact = ["card*"]            # what is never shown
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
"""The settings of ``[tool.fsm-mediator]``, with their types."""

_KINDS: Final[dict[type, str]] = {str: "text", dict: "table", list: "list"}

_VARIABLE: Final = "env:"
"""Before the name of an environment variable that holds the journal's path or URL."""

_OURS: Final = frozenset({__file__, importlib.__file__})


@attrs.frozen
class App:
    """The object that ``--app`` names.

    Attributes:
        sagas: Its sagas.
        journal: The journal of its mediator; None if it is no mediator.
        settings: The other settings of its mediator: limits, observers, when to park.
    """

    sagas: tuple[Saga, ...]
    journal: Journal | None = None
    settings: Mapping[str, Any] = MappingProxyType({})

    @property
    def has_coroutines(self) -> bool:
        """Whether only an `AsyncMediator` can drive them."""
        parts = (part for saga in self.sagas for member in all_definitions(saga) for part in member.parts)
        callbacks = (callback for part in parts for callback in (part.execute, part.compensate, part.probe))
        return any(callback is not None and callback.is_coroutine for callback in callbacks)

    def sagas_named(self, name: str | None) -> tuple[Saga, ...]:
        """Its sagas of this name, in every version; all of them for None.

        Raises:
            UnknownSagaError: It has no saga of this name.
        """
        found = tuple(saga for saga in self.sagas if name is None or saga.name == name)
        if not found:
            known = ", ".join(sorted({saga.name for saga in self.sagas}))
            raise UnknownSagaError(f"no saga is named {name!r}; the app has {known}")
        return found


def settings() -> dict[str, Any]:
    """The table ``[tool.fsm-mediator]`` of the nearest ``pyproject.toml``, from the working directory upward.

    Raises:
        DefinitionError: That file is not TOML, or a setting is unknown or has another type.
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
    """The table ``[tool.fsm-mediator]``, checked against `SETTINGS`."""
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
    """The app that ``module:object`` names.

    Raises:
        DefinitionError: There is none, it cannot be imported, or it holds no sagas.
    """
    configured = {} if spec else settings()
    spec = spec or configured.get("app")
    if not spec:
        raise DefinitionError(
            "which sagas? Name them with --app module:object (a mediator, a saga, or a list of sagas), "
            'or in pyproject.toml: [tool.fsm-mediator] app = "module:object"'
        )
    with chdir(configured.get("folder", ".")):  # what an app of pyproject.toml names, its journal, is beside that file
        return _app_of(load_object(spec), spec)


def _app_of(found: Any, spec: str) -> App:
    """The app *found*, or the app that calling it returns."""
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
    """The saga of this name; of several versions the last. Without a name, the only saga of the app.

    Raises:
        DefinitionError: No name is given, and the app has several.
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
    """The journal that the commands which drive would use, and the app if it was needed to find it.

    With *journal* given, only an app that is given too is loaded, and that only if the command *wants_app*: a journal
    can be looked into where its app is broken or missing.

    Raises:
        DefinitionError: The app cannot be loaded.
        JournalError: As `journal_for`.
    """
    loaded = None
    if (app and wants_app) if journal else (app or settings().get("app")):
        try:
            loaded = load_app(app)
        except DefinitionError as error:
            raise DefinitionError(f"{error}; a journal needs no app if you name it with --journal") from error
    return loaded, journal_for(journal, loaded, read_only=read_only, creates=migrates)


def archived(path: Path, saga_id: str, app: str | None) -> tuple[App | None, Any]:
    """The app, if it is named, and an archive as the journal of one execution and its branches."""
    loaded = None if app is None else load_app(app)
    codec = None if loaded is None or loaded.journal is None else loaded.journal.codec
    return loaded, ArchivedExecution(path, saga_id, _cipher_for(codec))


def execution_in(journal: Journal, saga_id: str) -> Entry:
    """The execution with this id.

    Raises:
        UnknownExecutionError: There is none.
        JournalError: It is too damaged to be listed.
    """
    entry = journal.find(saga_id)
    if entry is None and (damage := damage_of(journal, saga_id)):
        raise JournalError(f"{'; '.join(damage)}; see fsm-mediator check")
    if entry is None:
        raise UnknownExecutionError(f"the journal knows no execution {saga_id!r}")
    return entry


def with_branches(journal: Journal, entry: Entry) -> Iterator[Entry]:
    """The execution, its branches, and theirs."""
    yield entry
    for branch in journal.entries(parent=entry.saga_id):
        yield from with_branches(journal, branch)


def load_object(spec: str) -> Any:
    """The object that ``module:name`` or ``module:name.attribute`` names; a module may be in the working directory.

    Raises:
        DefinitionError: It cannot be imported, or there is none.
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
    except (Exception, SystemExit) as error:  # a script that is not meant to be imported may exit
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
    """The line of the app's own code that raised *error*, if any."""
    if isinstance(error, SyntaxError):
        return f" ({error.filename}, line {error.lineno})"
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if not frame.filename.startswith("<") and frame.filename not in _OURS]
    return f" ({own[-1].filename}, line {own[-1].lineno})" if own else ""


def _hint(module_name: str) -> str:
    """Advice where *module_name* is the name of a file."""
    if not module_name.endswith(".py"):
        return ""
    return f"; a module is named without .py, and with dots: {module_name.removesuffix('.py').replace('/', '.')}"


def _apps_in(module: object) -> str:
    """The names in *module* that may be apps."""
    names = []
    for name, value in getattr(module, "__dict__", {}).items():
        sagas = value if isinstance(value, (list, tuple)) else [value]
        is_mediator = not isinstance(value, type) and type(value).__name__.endswith("Mediator")
        if not name.startswith("_") and (is_mediator or (sagas and all(isinstance(saga, Saga) for saga in sagas))):
            names.append(name)
    return f"it has {', '.join(names) or 'no sagas'}"


def journal_for(spec: str | None, app: App | None, *, read_only: bool = False, creates: bool | None = False) -> Journal:
    """The journal of the option --journal, else the app's own on the disk, else that of ``pyproject.toml``.

    Args:
        spec: The value of the option, a path or a URL.
        app: The app, if one is loaded.
        read_only: Whether to open it only for reading.
        creates: Whether to create a missing journal; otherwise a mistyped path would look like an empty journal. None:
            the tables of one on PostgreSQL are not even looked for.

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
    """The value of an option of the whole command line."""
    context = click.get_current_context(silent=True)
    return None if context is None else context.find_root().params.get(option)


def redaction() -> Redaction:
    """The redaction by the option --redact, and by ``redact`` in ``pyproject.toml``."""
    return Redaction((*(_group_option("redact") or ()), *settings().get("redact", ())))


def _cipher_for(codec: Codec | None) -> Cipher | None:
    """The cipher of the option --cipher, else that of the app's journal, else that of ``pyproject.toml``.

    Raises:
        DefinitionError: It cannot be loaded, or is no cipher.
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
    """The text that *spec* stands for: of ``env:NAME``, the value of that environment variable.

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
