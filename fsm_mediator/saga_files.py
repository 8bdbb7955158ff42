"""Sagas from files: TOML or YAML files that combine registered steps. The files are checked against a JSON Schema.

The schema ``saga_file.schema.json`` beside this module defines the format. Editors can use it for completion, and
`load_saga` checks each file against it. Every error names the file and the line.
"""

from __future__ import annotations

import functools
import json
import os
import re
import tomllib
from collections.abc import Callable, Iterator
from importlib import resources
from pathlib import Path
from typing import Any, Final, NamedTuple, NoReturn, TypeAlias, overload

from fsm_mediator.definition.plugins import load_step
from fsm_mediator.definition.saga import Saga
from fsm_mediator.definition.steps import Step
from fsm_mediator.definition.type_variables import Payload
from fsm_mediator.definition.waits import Parallel, Signal, Sleep, Wait
from fsm_mediator.error_types import DefinitionError, MissingExtraError, safe_repr
from fsm_mediator.retry import Retry

__all__ = ["load_saga", "saga_file_schema"]

Place: TypeAlias = tuple[str | int, ...]
"""The position of a value in a file: the keys and indices that lead to the value."""

_TYPES: Final[dict[str, tuple[type | tuple[type, ...], str]]] = {
    "object": (dict, "a table"),
    "array": (list, "a list"),
    "string": (str, "a text"),
    "number": ((int, float), "a number"),
    "integer": (int, "a whole number"),
    "boolean": (bool, "true or false"),
}
_DEFS: Final = "#/$defs/"
_RETRIES: Final = ("retry", "compensation_retry")


@functools.cache
def saga_file_schema() -> str:
    """The JSON Schema of saga files, as text. ``fsm-mediator schema`` prints it."""
    return resources.files("fsm_mediator").joinpath("saga_file.schema.json").read_text(encoding="utf-8")


@overload
def load_saga(path: str | os.PathLike[str], *, payload: type[Payload]) -> Saga[Payload]: ...
@overload
def load_saga(path: str | os.PathLike[str], *, payload: Any = None) -> Saga: ...
def load_saga(path: str | os.PathLike[str], *, payload: Any = None) -> Saga:
    """Load the saga that a ``.toml``, ``.yaml`` or ``.yml`` file defines. `load_step` finds its steps by name.

    Args:
        path: The path of the file.
        payload: The type of the saga's payload: see `Saga`.

    Raises:
        DefinitionError: The file cannot be read, or something in it is wrong. The message begins with file and line.
        MissingExtraError: The file is YAML, and the extra ``yaml`` is not installed.
    """
    file = Path(path)
    reader = {".toml": _read_toml, ".yaml": _read_yaml, ".yml": _read_yaml}.get(file.suffix.lower())
    if reader is None:
        raise DefinitionError(f"{file} is not a saga file: its name must end in .toml, .yaml or .yml")
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DefinitionError(f"{file} cannot be read: {error}") from error
    source = reader(file, text)
    schema = json.loads(saga_file_schema())
    _check(source, schema, schema, source.data, ())
    settings = {name: _setting(source, (name,), value) for name, value in source.data.items()}
    for name in ("$schema", "parts", "name"):
        settings.pop(name, None)
    parts = list(_parts(source, ("parts",), source.data["parts"]))
    saga: Saga = _made(source, ("name",), Saga, source.data["name"], parts, payload=payload, **settings)
    return saga


class _Source(NamedTuple):
    """A file: its data, and a function that returns the line number of a position in the data."""

    file: Path
    data: Any
    line: Callable[[Place], int]

    def refuse(self, place: Place, message: str, cause: Exception | None = None) -> NoReturn:
        raise DefinitionError(f"{self.file}, line {self.line(place)}: {message}") from cause


def _read_toml(file: Path, text: str) -> _Source:
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        end = text.rstrip().count("\n") + 1  # an error "at end of document" has no line number
        found = re.search(r"\(at line (\d+), column \d+\)", str(error))
        raise DefinitionError(f"{file}, line {found[1] if found else end}: this is not TOML: {error}") from error
    return _Source(file, data, functools.partial(_line_in_toml, text))


def _line_in_toml(text: str, place: Place) -> int:
    """The number of the first line of the statement that sets the value at *place*.

    The standard library's parser returns no line numbers. But the lines from the beginning of the file to the end of a
    statement are valid TOML. Therefore the shortest valid piece that contains the value ends with this statement.
    """
    lines = text.splitlines()
    begins = 1
    for end in range(1, len(lines) + 1):
        try:
            found = tomllib.loads("\n".join(lines[:end]))
        except tomllib.TOMLDecodeError:
            continue
        if _holds(found, place):
            return next(number for number in range(begins, end + 1) if _has_statement(lines[number - 1]))
        begins = end + 1
    return 1


def _has_statement(line: str) -> bool:
    return bool(line.strip()) and not line.lstrip().startswith("#")


def _holds(data: Any, place: Place) -> bool:
    for key in place:
        try:
            data = data[key]
        except (KeyError, IndexError):
            return False
    return True


def _read_yaml(file: Path, text: str) -> _Source:
    try:
        import yaml
    except ImportError as error:
        raise MissingExtraError(f"the saga file {file}", "yaml") from error
    lines: dict[Place, int] = {}
    loader = yaml.SafeLoader(text)

    def value(node: Any, place: Place, above: tuple[Any, ...]) -> Any:
        lines.setdefault(place, node.start_mark.line + 1)
        if node in above:
            raise DefinitionError(f"{file}, line {node.start_mark.line + 1}: this value contains itself")
        above = (*above, node)
        if isinstance(node, yaml.SequenceNode):
            return [value(each, (*place, index), above) for index, each in enumerate(node.value)]
        if not isinstance(node, yaml.MappingNode):
            return loader.construct_object(node)
        found: dict[str, Any] = {}
        for key, each in node.value:
            name, line = str(key.value), key.start_mark.line + 1
            if name in found:
                raise DefinitionError(
                    f"{file}, line {line}: {name!r} is set twice; the first is in line {lines[*place, name]}"
                )
            lines[*place, name] = line
            found[name] = value(each, (*place, name), above)
        return found

    try:
        root = loader.get_single_node()
        data = None if root is None else value(root, (), ())
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = 1 if mark is None else mark.line + 1
        raise DefinitionError(f"{file}, line {line}: this is not YAML: {getattr(error, 'problem', error)}") from error
    return _Source(
        file, data, lambda place: next((lines[place[:n]] for n in range(len(place), 0, -1) if place[:n] in lines), 1)
    )


def _check(source: _Source, root: Any, schema: Any, value: Any, place: Place) -> None:
    """Check the value at *place* against *schema*, which is a part of the whole schema *root*.

    Only the features of JSON Schema that ``saga_file.schema.json`` uses are supported.

    Raises:
        DefinitionError: The value does not fit the schema.
    """
    if "$ref" in schema:
        schema = root["$defs"][schema["$ref"].removeprefix(_DEFS)]
    if "oneOf" in schema:
        schema = _alternative(source, root, schema["oneOf"], value, place)
    kinds = [schema["type"]] if isinstance(schema["type"], str) else schema["type"]
    if not any(isinstance(value, _TYPES[kind][0]) and (kind == "boolean" or type(value) is not bool) for kind in kinds):
        what = repr(place[-1]) if place and isinstance(place[-1], str) else "this"
        source.refuse(
            place, f"{what} must be {' or '.join(_TYPES[kind][1] for kind in kinds)}, not {safe_repr(value, 80)}"
        )
    if isinstance(value, list):
        if len(value) < schema.get("minItems", 0):
            source.refuse(place, f"{place[-1]!r} is empty; list at least one part")
        for index, each in enumerate(value):
            _check(source, root, schema["items"], each, (*place, index))
    if isinstance(value, dict) and "properties" in schema:
        known = schema["properties"]
        for name, each in value.items():
            if name not in known:
                source.refuse((*place, name), _unknown(name, known))
            _check(source, root, known[name], each, (*place, name))
        for name in schema.get("required", ()):
            if name not in value:
                source.refuse(place, f"{name!r} is missing; there must be {', '.join(schema['required'])}")


def _alternative(source: _Source, root: Any, choices: list[Any], value: Any, place: Place) -> Any:
    """The one schema of *choices* that fits *value*, which describes a part of a saga.

    Each schema describes one kind of part. The first required key of the schema names this kind. *value* must have
    exactly one of these keys.
    """
    kinds = {each["required"][0]: each for each in (root["$defs"][one["$ref"].removeprefix(_DEFS)] for one in choices)}
    found = [kind for kind in kinds if isinstance(value, dict) and kind in value]
    if len(found) != 1:
        has = f"it has {' and '.join(found)}" if found else f"it is {safe_repr(value, 80)}"
        source.refuse(place, f"a part must have exactly one of {', '.join(kinds)}; {has}")
    return kinds[found[0]]


def _unknown(name: str, known: Any) -> str:
    import difflib

    near = difflib.get_close_matches(name, known, 1)
    meant = f"did you mean {near[0]!r}? " if near else ""
    return f"{name!r} is no setting here; {meant}there are {', '.join(each for each in known if each != '$schema')}"


def _parts(source: _Source, place: Place, tables: list[Any]) -> Iterator[Step | Saga | Wait]:
    for index, table in enumerate(tables):
        here = (*place, index)
        settings = {name: _setting(source, (*here, name), value) for name, value in table.items()}
        if "signal" in settings:
            yield _made(source, here, Signal, settings.pop("signal"), **settings)
        elif "sleep" in settings:
            yield _made(source, here, Sleep, settings.pop("sleep"), **settings)
        elif "parallel" in settings:
            branches = list(_parts(source, (*here, "branches"), settings["branches"]))
            yield _made(source, here, Parallel, settings["parallel"], branches)
        else:
            yield _made(source, here, _step, **settings)


def _step(step: str, name: str | None = None, arguments: Any = None, **settings: Any) -> Step | Saga:
    found = load_step(step, **(arguments or {}))
    if settings and not isinstance(found, Step):
        raise DefinitionError(f"{step!r} is a saga, which takes no {', '.join(settings)}")
    if isinstance(found, Step) and settings:
        found = found.with_(**settings)
    return found if name is None else found.named(name)


def _setting(source: _Source, place: Place, value: Any) -> Any:
    if place[-1] not in _RETRIES:
        return value
    attempts = value.get("attempts")
    if isinstance(attempts, str):
        if attempts != "unlimited":
            source.refuse((*place, "attempts"), f"'attempts' must be a whole number or 'unlimited', not {attempts!r}")
        value = {**value, "attempts": None}
    return _made(source, place, Retry, **value)


def _made(source: _Source, place: Place, make: Callable[..., Any], *arguments: Any, **settings: Any) -> Any:
    """Call *make* and return its result. If it raises a `DefinitionError`, the message gets the file and the line."""
    try:
        return make(*arguments, **settings)
    except DefinitionError as error:
        source.refuse(place, str(error), error)
