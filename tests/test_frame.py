"""The project's frame: what is in the repo, what ships, what an import costs."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from hatchling.builders.wheel import WheelBuilder

import fsm_mediator

pytestmark = pytest.mark.once

ROOT = Path(__file__).parent.parent

# Package index hosts, and folders of somebody's machine. The brackets keep this file from matching itself.
FOREIGN = re.compile(rb"pypi[.]org|pythonhosted[.]org|(?<![\w.~])/(?:work|root|home|Users|opt)/")


def test_repo_names_no_index_host_and_no_machine() -> None:
    """A clone works anywhere: nothing in it points to one index or one machine."""
    if not (ROOT / ".git").exists():
        pytest.skip("an sdist has no list of what git tracks")
    # What git tracks, and what the next `git add .` would.
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],  # noqa: S607 - git is where it is
        cwd=ROOT,
        capture_output=True,
        check=True,
        text=True,
    ).stdout
    files = [path for name in listing.split("\0") if name and (path := ROOT / name).is_file()]

    found = {
        str(path.relative_to(ROOT)): match.group() for path in files if (match := FOREIGN.search(path.read_bytes()))
    }

    assert Path(__file__) in files
    assert found == {}


def test_public_names_are_importable_and_sorted() -> None:
    """What `__all__` promises can be imported, and stands in order."""
    assert fsm_mediator.__all__ == sorted(set(fsm_mediator.__all__))
    assert [name for name in fsm_mediator.__all__ if not hasattr(fsm_mediator, name)] == []


def test_no_public_name_is_missing_from_all() -> None:
    """What the package shows is what `__all__` promises: nothing is public by accident."""
    shown = {
        name
        for name, value in vars(fsm_mediator).items()
        if not name.startswith("_")
        and not isinstance(value, ModuleType)
        and getattr(value, "__module__", "").startswith("fsm_mediator")
    }

    assert shown - set(fsm_mediator.__all__) == set()


@pytest.mark.parametrize(
    "module", ["asyncio", "attrs", "click", "graphviz", "hashlib", "hypothesis", "pathlib", "rich", "socket", "sqlite3"]
)
def test_import_does_not_load(module: str) -> None:
    """`import fsm_mediator` is quick: what only some users need is loaded when they use it."""
    code = f"import sys, fsm_mediator; sys.exit({module!r} in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


FIRST_SAGA = """
import sys
from fsm_mediator import Mediator, Saga, step

@step
def charge(order):
    return 1

@charge.compensation
def refund(order):
    pass

assert Mediator(Saga("shop", [charge])).run("shop", {"amount": 1}).results == {"charge": 1}
print(*sys.modules)
"""


def test_first_saga_in_memory_loads_only_what_it_needs() -> None:
    """Neither the import nor the first run in memory loads ciphers, bulk verbs, groups, watches, hooks or sockets."""
    done = subprocess.run([sys.executable, "-c", FIRST_SAGA], cwd=ROOT, check=True, capture_output=True, text=True)
    later = {
        *("ciphers", "definition.plugins", "definition.shape_changes", "narration"),
        *("journal.abandoning", "journal.acknowledging", "journal.following", "journal.rows", "journal.sealing"),
        *("mediator.again", "mediator.around", "mediator.branches", "mediator.bulk", "mediator.bulk_claims"),
        *("mediator.joining", "mediator.preview", "mediator.watches", "mediator.watching"),
        *("observe.notices", "observe.observers", "redaction"),
    }
    slow = {"asyncio", "base64", "fnmatch", "json", "pathlib", "socket", "sqlite3"}

    assert slow.union(f"fsm_mediator.{name}" for name in later).intersection(done.stdout.split()) == set()


def test_wheel_ships_the_type_marker() -> None:
    """Type checkers of those who embed the package see its types."""
    shipped = {file.distribution_path for file in WheelBuilder(str(ROOT)).recurse_included_files()}

    assert "fsm_mediator/py.typed" in shipped
    assert {path.split("/")[0] for path in shipped} == {"fsm_mediator"}
