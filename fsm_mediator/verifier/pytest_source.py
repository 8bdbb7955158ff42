"""The source text of a pytest function that verifies a saga again. Its comments show the path to a broken law."""

from __future__ import annotations

import re
import sys
import textwrap
from collections.abc import Sequence

from fsm_mediator.definition.saga import Saga
from fsm_mediator.ids import root_of


def pytest_source(saga: Saga, law: int, what: str, path: Sequence[str], *, strict: bool) -> str:
    """The source of a test that fails while a saga breaks a law.

    If a loaded module has the saga under a public name, the test imports the saga from that module. Otherwise the test
    has a function to fill in. If *saga* is a branch, the test verifies the whole saga that contains this branch.

    Args:
        saga: The saga, or a branch of it.
        law: The number of the broken law.
        what: The problem, in words.
        path: The actions that lead to the broken law, in words.
        strict: Whether the search let steps raise after their effect without reporting doubt. The test does the same.
    """
    place = _public_name(saga)
    whole = root_of(saga.name)  # the name of a branch contains the name of the whole saga: checkout/fulfil.pack
    if place is not None:
        module, name = place
        imports, filled_in = f"from fsm_mediator import verify\n\nfrom {module} import {name}\n", ""
    else:
        name = "saga_to_verify()"
        imports = "from fsm_mediator import Saga, verify\n"
        message = _quoted(f"return the saga {whole!r} here")
        filled_in = (
            f"def saga_to_verify() -> Saga:\n"
            f'    """Fill in: import the saga that the test verifies, or build it."""\n'
            f"    raise NotImplementedError({message})\n\n\n"
        )
    steps = "".join(f"{_comment(number, words)}\n" for number, words in enumerate(path, 1))
    test = re.sub(r"\W", "_", f"test_{saga.name}_keeps_law_{law}")
    return (
        f'"""Found by `verify`: the shortest path on which {saga.name} breaks law {law}."""\n\n'
        f"{imports}\n\n"
        f"{filled_in}"
        f"def {test}() -> None:\n"
        f'    """This must not happen: {_docstring(what)}."""\n'
        f"    # The path that was found:\n"
        f"{steps}"
        f"    report = verify({name}{', strict=True' if strict else ''})\n\n"
        f"    assert report.ok, str(report)\n"
    )


def _public_name(saga: Saga) -> tuple[str, str] | None:
    """The module and the public name of *saga*, or of a saga that contains *saga* as a branch. None if not found."""
    for module_name, module in list(sys.modules.items()):
        if module_name != "__main__":
            for name, value in list(getattr(module, "__dict__", {}).items()):
                if type(value) is Saga and not name.startswith("_") and _holds(value, saga):
                    return module_name, name
    return None


def _holds(whole: Saga, saga: Saga) -> bool:
    branches = (branch for branches in whole.branches.values() for branch in branches.values())
    return whole is saga or any(_holds(branch, saga) for branch in branches)


def _comment(number: int, words: str) -> str:
    return textwrap.fill(words, 120, initial_indent=f"    # {number:3}. ", subsequent_indent="    #      ")


def _quoted(words: str) -> str:
    return '"' + words.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _docstring(words: str) -> str:
    return textwrap.shorten(words.replace("\\", "\\\\").replace('"', "'"), 86, placeholder=" ...")
