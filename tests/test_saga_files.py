"""Sagas from TOML and YAML files: what they make, what is wrong in them and in which line, and their schema."""

from __future__ import annotations

import json
import sys
from textwrap import dedent

import jsonschema
import pytest
import yaml

from fsm_mediator import DefinitionError, Mediator, MissingExtraError, Retry, load_saga
from fsm_mediator.saga_files import saga_file_schema
from tests.test_plugins import install

TOML = """
# an order
name = "order"
version = "2"
deadline = 3600
retry = { attempts = 4 }

[[parts]]
step = "billing.charge"
arguments = { currency = "CHF", limit = 7 }
name = "charge"
timeout = 5
compensation_retry = { attempts = "unlimited" }

[[parts]]
signal = "approved"
timeout = 86_400

[[parts]]
parallel = "both"
branches = [
    { step = "billing.notify" },
    { sleep = "cool_down", seconds = 0.01 },
]

[[parts]]
step = "shipping"
"""

YAML = """
# an order
name: order
version: "2"
deadline: 3600
retry: {attempts: 4}
parts:
  - step: billing.charge
    arguments: {currency: CHF, limit: 7}
    name: charge
    timeout: 5
    compensation_retry: {attempts: unlimited}
  - signal: approved
    timeout: 86400
  - parallel: both
    branches:
      - step: billing.notify
      - {sleep: cool_down, seconds: 0.01}
  - step: shipping
"""


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Writes a saga file, where a distribution registers steps."""
    monkeypatch.syspath_prepend(tmp_path)
    install(tmp_path, "acme-billing", "acme_billing")

    def put(name, text):
        path = tmp_path / name
        path.write_text(dedent(text), encoding="utf-8")
        return path

    yield put
    for name in [name for name in sys.modules if name.startswith("acme_billing")]:
        del sys.modules[name]


@pytest.mark.parametrize(("name", "text"), [("order.toml", TOML), ("order.yaml", YAML)])
def test_saga_of_a_file_runs(write, name, text):
    """A file makes the saga that it describes, with all settings; both formats make the same."""
    saga = load_saga(write(name, text), payload=int)

    assert (saga.name, saga.version, saga.deadline, saga.payload) == ("order", "2", 3600, int)
    assert [part.path for part in saga.parts] == ["charge", "approved", "both", "shipping.notify"]
    charge, approved = saga.parts[:2]
    assert (charge.timeout, charge.retry.attempts, charge.compensation_retry.attempts) == (5, 4, None)
    assert approved.subject.timeout == 86_400
    with Mediator(saga) as mediator:
        mediator.start("order", 3, saga_id="o-1")
        mediator.signal("o-1", "approved", True)
        results = mediator.wait("o-1").results
    assert results["charge"] == "3 CHF of 7"
    assert results["both"]["notify"] == "told"


def test_both_formats_make_the_same_machine(write):
    """The format of the file leaves no trace in the saga."""
    assert load_saga(write("a.toml", TOML)).fingerprint == load_saga(write("b.yml", YAML)).fingerprint


SLIPS = [
    ('name = "order"', 'nam = "order"', "name: order", "nam: order", 3, "did you mean 'name'?"),
    ("deadline = 3600", 'deadline = "1h"', "deadline: 3600", "deadline: 1h", 5, "must be a number, not '1h'"),
    ("timeout = 5", "timeout = true", "timeout: 5", "timeout: true", (12, 11), "must be a number, not True"),
    ("timeout = 5", "timout = 5", "timeout: 5", "timout: 5", (12, 11), "did you mean 'timeout'?"),
    ("timeout = 5", "timeout = -5", "timeout: 5", "timeout: -5", (8, 8), "timeout"),
    ('"unlimited"', '"often"', "unlimited", "often", (13, 12), "a whole number or 'unlimited', not 'often'"),
    ("attempts = 4", "attempts = 0", "attempts: 4", "attempts: 0", 6, "at least 1"),
    ('step = "shipping"', 'step = "shiping"', "step: shipping", "step: shiping", (26, 19), "no installed distribution"),
    (
        'step = "shipping"',
        'stop = "x"',
        "step: shipping",
        "stop: x",
        (26, 19),
        "exactly one of step, signal, sleep",
    ),
    (", seconds = 0.01", "", ", seconds: 0.01", "", (21, 18), "'seconds' is missing"),
    ('name = "order"', 'name = "a b"', "name: order", "name: a b", 3, "a b"),
]


@pytest.mark.parametrize("slip", SLIPS, ids=lambda slip: slip[5])
@pytest.mark.parametrize("kind", ["toml", "yaml"])
def test_slip_is_reported_with_its_line(write, kind, slip):
    """Every mistake in a file names the file, the line and the next move."""
    first, second = slip[:2] if kind == "toml" else slip[2:4]
    line = slip[4] if isinstance(slip[4], int) else slip[4][kind == "yaml"]
    text = TOML if kind == "toml" else YAML
    assert first in text
    path = write(f"order.{kind}", text.replace(first, second, 1))

    with pytest.raises(DefinitionError) as caught:
        load_saga(path)

    assert str(caught.value).startswith(f"{path}, line {line}: ")
    assert slip[5] in str(caught.value)


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("a.toml", 'name = "a"\nparts = [\n  { step = \n', "line 3: this is not TOML"),
        ("a.toml", 'name = "a"\nname = "b"\n', "line 2: this is not TOML"),
        ("a.yaml", "name: a\nparts: [\n", "line 3: this is not YAML"),
        ("a.yaml", "name: a\nversion: '1'\nname: b\n", "line 3: 'name' is set twice; the first is in line 1"),
        ("a.yaml", "name: a\nparts: &all\n  - *all\n", "line 2: this value contains itself"),
        ("a.yaml", "name: !!python/name:os.system a\nparts: []\n", "line 1: this is not YAML"),
        ("a.yaml", "", "line 1: this must be a table"),
        ("a.yaml", "name: a\nparts: []\n", "line 2: 'parts' is empty"),
        ("a.yaml", "name: a\nparts:\n  - signal: x\n    step: y\n", "line 3: a part must have exactly one of"),
        ("a.yaml", "name: a\nparts:\n  - step: shipping\n    timeout: 3\n", "line 3: 'shipping' is a saga"),
        ("a.json", "{}", "must end in .toml, .yaml or .yml"),
    ],
)
def test_file_that_is_broken_is_reported(write, name, text, says):
    """A file that cannot be parsed, sets a key twice or has the wrong ending is refused with the line."""
    with pytest.raises(DefinitionError) as caught:
        load_saga(write(name, text))

    assert says in str(caught.value)


def test_missing_file_and_missing_library_are_reported(write, tmp_path, monkeypatch):
    """A file that is not there, and YAML without its extra, are errors of definitions that name the next move."""
    with pytest.raises(DefinitionError, match="cannot be read"):
        load_saga(tmp_path / "nowhere.toml")
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(MissingExtraError, match=r"fsm-mediator\[yaml\]"):
        load_saga(write("a.yaml", YAML))


def test_schema_takes_what_load_saga_takes(write):
    """An editor that checks a file against the schema accepts the same file and marks the same slips."""
    schema = json.loads(saga_file_schema())
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)

    assert validator.is_valid(yaml.safe_load(YAML))
    for number in (0, 1, 2, 3, 8, 9):
        assert not validator.is_valid(yaml.safe_load(YAML.replace(SLIPS[number][2], SLIPS[number][3], 1))), SLIPS[
            number
        ]


def test_schema_names_every_setting_of_a_step():
    """A setting that steps and retries gain is one of saga files too, unless it is made of Python's types."""
    from fsm_mediator.definition.checks import SETTINGS

    definitions = json.loads(saga_file_schema())["$defs"]
    of_python = {"in_doubt_on", "no_effect_on"}
    assert set(definitions["step"]["properties"]) == {*SETTINGS, "step", "name", "arguments"} - of_python
    assert set(definitions["retry"]["properties"]) == set(Retry.__struct_fields__) - {"on"}
