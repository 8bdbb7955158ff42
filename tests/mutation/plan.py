"""What is mutated, and which tests meet it."""

from __future__ import annotations

import collections
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

import pytest

from tests.mutation.operators import PACKAGE, ROOT

WHOLE: Final = (
    *("states.py", "machine/parts.py", "machine/table.py"),
    *("execution/branching.py", "execution/judging.py", "execution/rules.py"),
)
"""Every mutant of these is tried."""

BY_VERIFY: Final = ("machine/table.py", "execution/branching.py", "execution/judging.py", "execution/rules.py")
"""The modules of which `verify` alone has to find most mutants: the table, the rules and the branching."""

SAMPLE: Final = 300
"""So many mutants of the core and the journals are drawn."""

SEED: Final = "17"
"""By which they are drawn."""

MOST_VARIANTS: Final = 4
"""So many are run, spread evenly, of the parameter sets of a test that takes every mediator or every journal."""

LEFT_OUT: Final = frozenset(
    (
        *("test_benchmarks", "test_composition_table", "test_docs", "test_docs_testing", "test_example_names"),
        *("test_explorer", "test_exports", "test_exports_of_steps", "test_house", "test_in_apps", "test_machine_page"),
        *("test_mutants", "test_mutation", "test_notebook_pictures", "test_notebooks", "test_order_fulfilment"),
        *("test_postgres", "test_profile_sync", "test_pytest_plugin", "test_pytest_source", "test_readme"),
        *("test_render", "test_safe_examples", "test_sphinx", "test_types", "test_diagrams", "test_group_diagrams"),
        *("test_picture_choices", "test_same_view", "test_steps_view", "test_mediator_diagram", "test_cli_terminals"),
        *("test_cli_errors", "test_cli_checks", "test_cli_waits", "test_cli", "test_protocol_model"),
        *("test_under_load", "test_process_memory", "test_counterexamples", "test_group_counterexamples"),
    )
)
"""Files of which the tests look at pictures, pages, commands and processes, or at mutants themselves."""


def core_modules() -> list[str]:
    """The modules of the core and of the journals, but for PostgreSQL, whose tests need a server."""
    found = [*(PACKAGE / "mediator").glob("*.py"), *(PACKAGE / "journal").rglob("*.py")]
    names = sorted(path.relative_to(PACKAGE).as_posix() for path in found)
    return [name for name in names if not name.startswith("journal/postgres/")]


def test_files() -> list[str]:
    """The files of the tests."""
    found = sorted((ROOT / "tests").glob("test_*.py"))
    return [str(path.relative_to(ROOT)) for path in found if path.stem not in LEFT_OUT]


def few_variants(items: Iterable[pytest.Item]) -> list[pytest.Item]:
    """The tests, those on every mediator or journal with at most `MOST_VARIANTS` parameter sets."""
    by_function: dict[str, list[pytest.Item]] = collections.defaultdict(list)
    for item in items:
        on_every = {"drive", "journal"} & set(getattr(item, "fixturenames", ()))
        by_function[item.nodeid.partition("[")[0] if on_every else item.nodeid].append(item)
    return [item for variants in by_function.values() for item in spread(variants)]


def spread(variants: Sequence[pytest.Item]) -> list[pytest.Item]:
    """At most `MOST_VARIANTS` of *variants*, the first and the last among them."""
    if len(variants) <= MOST_VARIANTS:
        return list(variants)
    last = len(variants) - 1
    return [variants[round(number * last / (MOST_VARIANTS - 1))] for number in range(MOST_VARIANTS)]


def relative(path: Path) -> str:
    """*path*, from the root."""
    return path.relative_to(ROOT).as_posix()
