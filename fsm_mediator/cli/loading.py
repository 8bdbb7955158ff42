"""Where the command line finds the sagas and the journal: options, environment, or ``pyproject.toml``.

::

    [tool.fsm-mediator]
    app = "shop.sagas:mediator"   # a mediator, a saga, a list of sagas, or a function that returns one of these
    journal = "sagas.db"
"""

from __future__ import annotations

import importlib
import sys
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import attrs

from fsm_mediator.errors import DefinitionError, JournalError, MediatorError
from fsm_mediator.journal.opening import open_journal
from fsm_mediator.journal.protocol import Journal
from fsm_mediator.saga import Saga
from fsm_mediator.steps import Step


@attrs.frozen
class App:
    """What was found under ``--app``.

    Attributes:
        sagas: The sagas it has.
        journal: The journal that its mediator was given; None if it is no mediator.
        settings: What its mediator drives by, besides: limits, observers, when to park.
    """

    sagas: tuple[Saga, ...]
    journal: Journal | None = None
    settings: Mapping[str, Any] = MappingProxyType({})

    @property
    def has_coroutines(self) -> bool:
        """Whether it takes an `AsyncMediator` to drive them."""
        return any(map(_has_coroutines, self.sagas))


def _has_coroutines(saga: Saga) -> bool:
    callbacks = (callback for part in saga.parts for callback in (part.execute, part.compensate, part.probe))
    if any(callback is not None and callback.is_coroutine for callback in callbacks):
        return True
    return any(_has_coroutines(branch) for group in saga.branches.values() for branch in group.values())


def settings() -> dict[str, Any]:
    """The table ``[tool.fsm-mediator]`` of the nearest ``pyproject.toml``, from the working directory upward.

    Raises:
        DefinitionError: That file is not TOML.
    """
    here = Path.cwd()
    for folder in (here, *here.parents):
        path = folder / "pyproject.toml"
        if path.is_file():
            try:
                table = tomllib.loads(path.read_text(encoding="utf-8")).get("tool", {}).get("fsm-mediator", {})
            except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
                raise DefinitionError(f"{path} cannot be read: {error}") from error
            return {**table, "folder": folder}
    return {}


def load_app(spec: str | None) -> App:
    """The app meant by ``module:object``.

    Raises:
        DefinitionError: There is none, it cannot be imported, or it holds no sagas.
    """
    spec = spec or settings().get("app")
    if not spec:
        raise DefinitionError(
            "which sagas? Name them with --app module:object (a mediator, a saga, or a list of sagas), "
            'or in pyproject.toml: [tool.fsm-mediator] app = "module:object"'
        )
    found = load_object(spec)
    if callable(found) and not hasattr(found, "sagas") and not isinstance(found, (Saga, Step)):
        try:
            found = found()
        except MediatorError:
            raise
        except Exception as error:
            raise DefinitionError(
                f"{spec} was called, without arguments, for its sagas, and raised {error!r}"
            ) from error
    if hasattr(found, "sagas") and hasattr(found, "journal"):
        return App(tuple(found.sagas), found.journal, getattr(found, "settings", {}))
    sagas = (found,) if isinstance(found, Saga) else tuple(found) if isinstance(found, Iterable) else ()
    if not sagas or not all(isinstance(saga, Saga) for saga in sagas):
        raise DefinitionError(f"{spec} is {found!r}; --app takes a mediator, a saga, or a list of sagas")
    return App(sagas)


def load_object(spec: str) -> Any:
    """The object that ``module:name`` (``:name.attribute``) means, the working directory being importable.

    Raises:
        DefinitionError: It cannot be imported, or there is none.
    """
    module_name, colon, path = spec.partition(":")
    if not colon or not path:
        raise DefinitionError(f"{spec!r} names no object; write it as module:object, such as shop.sagas:mediator")
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        found: Any = importlib.import_module(module_name)
    except MediatorError:
        raise
    except (Exception, SystemExit) as error:  # a script that was meant to be run ends by the latter
        raise DefinitionError(f"the module {module_name!r} cannot be imported: {error!r}") from error
    for name in path.split("."):
        if not hasattr(found, name):
            there = (
                ", ".join(each for each in vars(found) if not each.startswith("_"))
                if hasattr(found, "__dict__")
                else ""
            )
            raise DefinitionError(f"{module_name!r} has no {path!r}; it has {there or 'nothing'}")
        found = getattr(found, name)
    return found


def journal_for(spec: str | None, app: App | None, *, read_only: bool) -> Journal:
    """The journal to work on: the one named, else the app's, else that of ``pyproject.toml``.

    Raises:
        JournalError: None is named, or it cannot be opened.
    """
    if spec is None and app is not None and app.journal is not None:
        if app.journal.heartbeat is None:
            raise JournalError(
                "the app's mediator keeps its journal in memory, where no other process can see it; "
                "give it journal='sagas.db', or name a journal with --journal"
            )
        return app.journal
    if spec is None:
        found = settings()
        if "journal" not in found:
            raise JournalError(
                "which journal? Name it with --journal sagas.db, "
                'or in pyproject.toml: [tool.fsm-mediator] journal = "sagas.db"'
            )
        spec = str(found["journal"])
        if "://" not in spec:
            spec = str(Path(found["folder"]) / spec)
    if read_only:
        from fsm_mediator.journal.sqlite import SQLiteJournal

        return SQLiteJournal(path_of(spec), read_only=True)
    return open_journal(spec)


def path_of(spec: str) -> str:
    """The file that a journal's path or URL names."""
    for prefix in ("sqlite:////", "sqlite:///"):
        if spec.startswith(prefix):
            return ("/" if prefix == "sqlite:////" else "") + spec.removeprefix(prefix)
    return spec
