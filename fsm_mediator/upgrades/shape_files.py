"""Shape files: the command ``fsm-mediator export-shape`` writes them, and ``fsm-mediator compare`` reads them.

docs/upgrades.md describes the format.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from fsm_mediator.definition.saga import Saga, fingerprint_of
from fsm_mediator.definition.shape import Shape, shape_as_data, shape_from_data
from fsm_mediator.error_types import DefinitionError
from fsm_mediator.machine.table import TABLE_FORMAT

FORMAT: Final = 1
"""The number of the format of shape files."""


def dump_shapes(sagas: Iterable[Saga | Shape]) -> str:
    """The text of a file with the shapes of *sagas*."""
    shapes = [shape_as_data(saga if isinstance(saga, Shape) else Shape.of(saga)) for saga in sagas]
    return json.dumps({"fsm_mediator_shapes": FORMAT, "table_format": TABLE_FORMAT, "sagas": shapes}, indent=2)


def read_shapes(path: Path | str) -> tuple[Shape, ...]:
    """The shapes in a file that ``fsm-mediator export-shape`` wrote.

    Raises:
        DefinitionError: The file cannot be read, has no shapes, was changed by hand, or has another format.
    """
    path = Path(path)
    advice = "Write the file again with the code of that version: fsm-mediator export-shape APP -o FILE"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        formats = content["fsm_mediator_shapes"], content["table_format"]
        shapes = tuple(map(shape_from_data, content["sagas"])) if formats == (FORMAT, TABLE_FORMAT) else ()
    except OSError as error:
        raise DefinitionError(f"{path} cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:  # the error's repr has the whole file
        raise DefinitionError(f"{path} is not a text file with shapes of sagas: {error.reason}. {advice}") from error
    except RecursionError as error:
        raise DefinitionError(f"{path} is not a file with shapes of sagas: too deeply nested. {advice}") from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise DefinitionError(f"{path} is not a file with shapes of sagas ({error!r}). {advice}") from error
    if formats != (FORMAT, TABLE_FORMAT):
        raise DefinitionError(
            f"{path} has format {formats[0]} and tables of format {formats[1]}; this version compares format {FORMAT} "
            f"and {TABLE_FORMAT}. Newer code cannot drive executions of the other table format: let them end first"
        )
    for shape in shapes:
        if fingerprint_of(shape.without_functions()) != shape.fingerprint:
            raise DefinitionError(f"{path}: {shape} has another fingerprint: the file was changed. {advice}")
    return shapes
