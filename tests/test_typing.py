"""Type checkers: what they accept of a user's code, and the slips that they report."""

from __future__ import annotations

import copy
import inspect
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import attrs
import msgspec
import pytest

from fsm_mediator import Context, Mediator, Saga, Step
from fsm_mediator.definition.checks import StepSettings
from fsm_mediator.engines.replay import Turns
from fsm_mediator.engines.settings import EngineSettings
from fsm_mediator.transactions import Transactions
from fsm_mediator.transactions.transactions import TransactionsSettings

pytestmark = pytest.mark.once

ROOT = Path(__file__).parent.parent
FILES = {name: ROOT / "tests" / "typing" / f"{name}.py" for name in ("uses", "slips")}

Finding = tuple[str, int, str]
"""A file's name, a line, and the code of an error there."""

MARK = re.compile(r"# error: (?P<mypy>[\w-]+), (?P<pyright>[\w ]+)$")


def marked(checker: str) -> set[Finding]:
    """The errors that the files announce."""
    return {
        (path.name, number, code)
        for path in FILES.values()
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if (found := MARK.search(line)) is not None
        for code in found[checker].split()
    }


def run(*command: str | Path) -> str:
    """What a type checker prints: it sees this folder's package, whatever is installed, and as Python 3.11 would."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "MYPYPATH": str(ROOT), "PYTHONPATH": str(ROOT), "PATH": path}
    return subprocess.run(
        [sys.executable, "-m", *command], cwd=ROOT, env=environment, check=False, capture_output=True, text=True
    ).stdout


def mypy(_: Path) -> set[Finding]:
    """The errors that mypy finds."""
    options = ("--strict", "--config-file=", "--python-version=3.11", "--explicit-package-bases", "--output=json")
    printed = run("mypy", *options, "--cache-dir=.mypy_cache/typing", *FILES.values())
    found = [json.loads(line) for line in printed.splitlines()]
    return {(Path(each["file"]).name, each["line"], each["code"]) for each in found if each["severity"] == "error"}


def pyright(folder: Path) -> set[Finding]:
    """The errors that pyright finds."""
    settings: dict[str, Any] = {"typeCheckingMode": "strict", "pythonVersion": "3.11", "extraPaths": [str(ROOT)]}
    project = folder / "pyrightconfig.json"
    project.write_text(json.dumps({**settings, "include": list(map(str, FILES.values()))}))
    found = json.loads(run("basedpyright", "--outputjson", "--project", project))["generalDiagnostics"]
    return {
        (Path(each["file"]).name, each["range"]["start"]["line"] + 1, each["rule"])
        for each in found
        if each["severity"] == "error"
    }


@pytest.mark.parametrize("checker", [mypy, pyright])
def test_checker_accepts_uses_and_refuses_slips(checker, tmp_path):
    """My editor is content with what works, and underlines each slip before I run it; mypy and pyright alike."""
    expected = marked(checker.__name__)

    unexpected = sorted(checker(tmp_path) ^ expected)

    assert unexpected == []
    assert len(expected) >= 10


def test_parameters_of_types_change_nothing_at_run_time():
    """A saga or a step with a parameter is made, run and copied as one without."""

    class Plain(Step[str]):
        def execute(self, order: str, context: Context[str]) -> str:
            return f"{order} by {context.step}"

    @attrs.frozen
    class Slotted(Step[str]):
        prefix: str

        def execute(self, order: str) -> str:
            return self.prefix + order

    class Struct(Step[int], msgspec.Struct):
        number: int

        def execute(self, order: str) -> int:
            return self.number

    steps = [Plain(), Slotted("green "), Struct(3)]
    saga = Saga[str]("s", steps)
    outcome = Mediator(saga).run(saga, "tea")

    assert [outcome.result_of(each) for each in steps] == ["tea by plain", "green tea", 3]
    assert saga.fingerprint == Saga("s", steps).fingerprint
    assert type(saga) is Saga
    assert not hasattr(saga, "__dict__")
    assert copy.deepcopy(saga) is saga
    assert steps[1].with_(timeout=3.0).timeout == 3.0
    assert not hasattr(Context[str]("s", "plain", 1, "execute", {}), "__dict__")


def test_type_of_every_public_symbol_is_known():
    """A type checker knows the whole package from its annotations alone: it infers nothing, and nothing is unknown."""
    report = json.loads(run("basedpyright", "--verifytypes", "fsm_mediator", "--ignoreexternal", "--outputjson"))
    complete = report["typeCompleteness"]

    unknown = [
        each["name"]
        for each in complete["symbols"]
        if (each["isExported"] and not each["isTypeKnown"]) or each["isTypeAmbiguous"]
    ]
    assert unknown == []
    assert complete["packageRootDirectory"] == str(ROOT / "fsm_mediator")
    assert complete["exportedSymbolCounts"]["withKnownType"] > 6000
    assert complete["completenessScore"] == 1


@pytest.mark.parametrize(
    ("settings", "owner", "besides"),
    [
        (StepSettings, Step, {"name"}),
        (EngineSettings, Turns.__init__, {"sagas", "return"}),
        (TransactionsSettings, Transactions.__init__, {"database", "return"}),
    ],
)
def test_settings_have_the_types_of_what_they_set(settings, owner, besides):
    """A type checker accepts for a keyword what the class that takes it accepts, and knows every one."""
    declared = {name: str(hint) for name, hint in inspect.get_annotations(owner).items() if name not in besides}
    checked = {
        name: hint.__forward_arg__ for cls in settings.__mro__ for name, hint in inspect.get_annotations(cls).items()
    }

    assert checked == declared
