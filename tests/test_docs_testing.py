"""The page about testing: its code runs and prints what it says, and its table of bugs is made here."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest

from fsm_mediator.testing import (
    PromiseBrokenError,
    SagaBrokenError,
    SagaMachineError,
    check_promises,
    check_saga,
    saga_state_machine,
)
from tests import fake_services
from tests.fake_services import BUGS, ORDER, shop
from tests.test_readme import BLOCK, run

pytestmark = pytest.mark.once

pytest_plugins = ["pytester"]

PAGE = Path(__file__).parent.parent / "docs" / "testing.md"
MANY_LINES = re.MULTILINE | re.DOTALL
TABLE = re.compile(r"(?<=<!-- made by tests/test_docs_testing.py -->\n\n).*(?=\n<!-- end -->)", re.DOTALL)


def test_page_does_what_it_says(monkeypatch, pytestconfig):
    """Whoever pastes the page's code sees the page's output, the real bug that is caught included."""
    # As the plugin does, which is not imported here: the runs within this one load it themselves.
    pytestconfig.addinivalue_line("markers", "saga: one test for every fault")
    assert run(PAGE.read_text(encoding="utf-8"), monkeypatch) == 11


def test_page_shows_where_hypothesis_gets_to():
    """The moves that the page shows lead to the failure that it shows."""
    page = PAGE.read_text(encoding="utf-8")
    shop: dict[str, Any] = {"__name__": "shop"}
    exec("".join(block["code"] for block in list(BLOCK.finditer(page))[:2]), shop)  # noqa: S102 - our own page
    shown = re.search(r"^```console\nFailing test case.*?\n(?P<moves>.*?)^(?P<told>saga .*?)^```$", page, MANY_LINES)
    assert shown is not None
    machine = saga_state_machine(shop["shop"], {"sku": "tea", "amount": 7})

    state = machine()
    *moves, last = re.findall(r"^state\.(\w+)\(\)$", shown["moves"], re.MULTILINE)
    for move in moves:
        getattr(state, move)()
    with pytest.raises(SagaMachineError) as caught:
        getattr(state, last)()

    assert shown["moves"].startswith(f"state = {machine.__name__}()\n")
    assert str(caught.value).startswith(shown["told"])


def test_page_shows_what_pytest_prints(pytester: pytest.Pytester):
    """The lines of pytest that the page shows are printed by it."""
    page = PAGE.read_text(encoding="utf-8")
    code = [block["code"] for block in BLOCK.finditer(page) if "pytest_plugins" not in block["code"]]
    shown = re.search(r"^```console\n\$ pytest (?P<arguments>.*)\n(?P<lines>.*?)^```$", page, MANY_LINES)
    assert shown is not None
    tests = [each for each in code if "try:" not in each and "print(" not in each and "hypothesis" not in each]
    pytester.makepyfile(
        test_shop="\n".join(tests)
        .replace("if context.result is not None:", "if True:")
        .replace('context.result["receipt"]', "context.execute_key")
    )

    printed = pytester.runpytest_inprocess("-p", "no:cacheprovider", *shown["arguments"].split()).outlines

    bare = [re.sub(r"\s+\[ *\d+%\]$", "", line) for line in printed]
    assert [line for line in shown["lines"].splitlines() if line not in bare] == []


@pytest.mark.filterwarnings("ignore::fsm_mediator.DefinitionWarning")  # of the bug that returns no plain data
def test_table_of_bugs_is_fresh():
    """The page lists every bug, and what finds it; UPDATE_DOCS=1 writes the table anew."""
    page = PAGE.read_text(encoding="utf-8")
    table = table_of_bugs()
    if os.environ.get("UPDATE_DOCS"):
        PAGE.write_text(TABLE.sub(lambda _: table, page), encoding="utf-8")
        page = PAGE.read_text(encoding="utf-8")
    found = TABLE.search(page)

    assert found is not None
    assert found.group() == table


def table_of_bugs() -> str:
    """A row for each bug: what the step does wrong, which fault shows it, which promise it breaks."""
    lines = ["| the step | the fault that shows it | the promises that it breaks |", "|---|---|---|"]
    for bug, settings in BUGS.items():
        assert getattr(fake_services, bug.__name__) is bug
        with pytest.raises(SagaBrokenError) as caught:
            check_saga(shop(bug, careful="strict" in settings), ORDER, **settings)
        try:
            promises = ""
            check_promises(shop(bug), ORDER)
        except PromiseBrokenError as error:
            promises = ", ".join(f"`{verdict.promise}`" for verdict in error.report.broken)
        how = "".join(f" (`{name}={value}`)" for name, value in settings.items())
        told = (bug.__doc__ or "").strip().rstrip(".")
        lines.append(f"| {told} | `{caught.value.report.broken[0].id}`{how} | {promises or 'none'} |")
    return "\n".join(lines) + "\n"
