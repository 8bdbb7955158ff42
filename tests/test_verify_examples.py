"""Every saga that is shown keeps every law: those of the examples, and of the README."""

from __future__ import annotations

import contextlib
import importlib
import io
import pkgutil
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import examples
from examples.bank import Banks
from fsm_mediator import Saga, verify

ROOT = Path(__file__).parent.parent


def sagas_of(names: dict[str, Any]) -> dict[str, Saga]:
    """The sagas among a module's names, alone or in lists."""
    found = {}
    for value in names.values():
        for each in value if isinstance(value, (list, tuple)) else [value]:
            if isinstance(each, Saga):
                found[each.name] = each
    return found


def shown() -> dict[str, Saga]:
    """The sagas of all example packages: each has its own as a module's name, to be drawn and verified."""
    found = {}
    for module in pkgutil.iter_modules(examples.__path__):
        package = importlib.import_module(f"examples.{module.name}")
        sagas = sagas_of(vars(package))
        if module.name == "cookbook":  # one saga a file
            files = (
                importlib.import_module(f"{package.__name__}.{each.name}")
                for each in pkgutil.iter_modules(package.__path__)
            )
            sagas = {name: saga for file in files for name, saga in sagas_of(vars(file)).items()}
        if module.name == "bank":  # its steps belong to databases, to which nothing here connects
            sagas = sagas_of({"": Banks.at("postgresql://nowhere/bank", Path("nowhere")).sagas()})
        assert sagas, f"examples.{module.name} shows no saga: name one in its __init__, or the module"
        found.update(sagas)
    return found


@pytest.mark.parametrize("name", shown())
def test_saga_of_an_example_keeps_every_law(name):
    """Whoever copies an example copies one in which every failure path ends compensated."""
    verify(shown()[name]).raise_for_violations()


def test_sagas_of_the_readme_keep_every_law(monkeypatch, tmp_path):
    """The saga that one meets first keeps every law."""
    monkeypatch.chdir(tmp_path)
    module = ModuleType("readme")
    monkeypatch.setitem(__import__("sys").modules, module.__name__, module)
    block = re.search(
        r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
    )
    assert block is not None
    with contextlib.redirect_stdout(io.StringIO()):
        exec(block[1], module.__dict__)  # noqa: S102 - it is our own page

    sagas = sagas_of(vars(module))

    assert sagas
    for saga in sagas.values():
        verify(saga).raise_for_violations()
