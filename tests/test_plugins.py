"""Steps of other distributions: found by name, as they are installed in real life."""

from __future__ import annotations

import sys
from pathlib import Path
from textwrap import dedent

import pytest

from fsm_mediator import DefinitionError, Mediator, Retry, Saga, Step, load_step, registered_steps

MODULE = """
from fsm_mediator import Retry, Saga, Step, step


class ChargeStep(Step):
    def __init__(self, currency="EUR", *, limit=100):
        self.currency, self.limit = currency, limit

    def execute(self, order):
        return f"{order} {self.currency} of {self.limit}"


@step(retry=Retry(attempts=7))
def notify(order):
    return "told"


shipping = Saga("shipping", [notify])


def make_charge(**settings):
    return ChargeStep("USD").with_(**settings)


def make_nothing():
    return None


def fails():
    raise RuntimeError("no service")


number = 3
"""

ENTRY_POINTS = """
[fsm_mediator.steps]
billing.charge = {module}.steps:ChargeStep
billing.make = {module}.steps:make_charge
billing.notify = {module}.steps:notify
shipping = {module}.steps:shipping
broken.module = {module}.nowhere:ChargeStep
broken.name = {module}.steps:Missing
broken.number = {module}.steps:number
broken.made = {module}.steps:make_nothing
broken.making = {module}.steps:fails

[another.group]
elsewhere = {module}.steps:ChargeStep
"""


def install(site: Path, name: str, module: str, entry_points: str = ENTRY_POINTS) -> None:
    """Put a distribution into *site*, as an installer does: a package, and a dist-info that tells of it."""
    package = site / module
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "steps.py").write_text(dedent(MODULE))
    info = site / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(entry_points.format(module=module))


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A folder of installed distributions, one of which registers steps."""
    monkeypatch.syspath_prepend(tmp_path)
    install(tmp_path, "acme-billing", "acme_billing")
    yield tmp_path
    for name in [name for name in sys.modules if name.startswith(("acme_billing", "rival_billing"))]:
        del sys.modules[name]


def test_step_class_is_found_by_name_and_given_its_settings(site):
    """A participant can be put into a saga from configuration: its name, and what its constructor takes."""
    plain, given = load_step("billing.charge"), load_step("billing.charge", "CHF", limit=5)

    with Mediator(Saga("shop", [plain, given.named("again")])) as mediator:
        results = mediator.run("shop", 3).results
    assert results == {"charge": "3 EUR of 100", "again": "3 CHF of 5"}


def test_ready_made_step_and_saga_are_found_as_they_are(site):
    """A step or a saga that is ready made comes as it is, every time the same."""
    notify, shipping = load_step("billing.notify"), load_step("shipping")

    assert isinstance(notify, Step)
    assert notify.retry == Retry(attempts=7)
    assert load_step("billing.notify") is notify
    assert isinstance(shipping, Saga)
    assert [part.path for part in Saga("shop", [shipping]).parts] == ["shipping.notify"]


def test_anything_callable_may_make_the_step(site):
    """A function that makes a step serves as well as a class."""
    made = load_step("billing.make", timeout=4.0)

    assert isinstance(made, Step)
    assert made.timeout == 4.0


def test_nothing_is_imported_before_it_is_asked_for(site):
    """Listing what is registered imports no participant."""
    names = registered_steps()

    assert {"billing.charge", "shipping"} <= set(names)
    assert names == sorted(set(names))
    assert "elsewhere" not in names
    assert "acme_billing" not in sys.modules


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        (
            "billing.refund",
            {},
            ["no installed distribution", "'billing.refund'", "fsm_mediator.steps", "billing.make"],
        ),
        ("elsewhere", {}, ["no installed distribution", "'elsewhere'"]),
        ("broken.module", {}, ["'broken.module'", "cannot be loaded", "acme_billing.nowhere:ChargeStep", "No module"]),
        ("broken.name", {}, ["'broken.name'", "cannot be loaded", "Missing"]),
        ("broken.number", {}, ["'broken.number'", "is 3", "acme_billing.steps:number", "not a step"]),
        ("broken.made", {}, ["'acme_billing.steps:make_nothing'", "'broken.made'", "made None"]),
        ("broken.making", {}, ["'broken.making'", "could not be made", "no service"]),
        ("billing.charge", {"amount": 3}, ["'billing.charge'", "could not be made", "amount"]),
        ("billing.make", {"timeout": -1}, ["'billing.make'", "could not be made", "greater than 0"]),
        ("billing.notify", {"limit": 3}, ["'billing.notify'", "ready made", "takes no arguments"]),
    ],
)
def test_step_that_cannot_be_had_is_a_mistake_in_the_definition(site, name, arguments, said):
    """A wrong name, a broken package, a wrong argument: I am told which entry point it was and why."""
    with pytest.raises(DefinitionError) as caught:
        load_step(name, **arguments)

    assert [part for part in said if part not in str(caught.value)] == [], str(caught.value)


def test_cause_of_a_broken_import_is_kept(site):
    """The traceback shows what went wrong inside the other package."""
    with pytest.raises(DefinitionError) as caught:
        load_step("broken.module")

    assert isinstance(caught.value.__cause__, ModuleNotFoundError)


def test_two_distributions_with_one_name_are_told_apart(site):
    """I am not given one of two steps by chance: both are named, and one must go."""
    install(site / "more", "rival-billing", "rival_billing")
    sys.path.insert(0, str(site / "more"))
    try:
        with pytest.raises(DefinitionError, match=r"more than one distribution registers a step 'billing.charge'") as e:
            load_step("billing.charge")
    finally:
        sys.path.remove(str(site / "more"))

    assert "acme_billing.steps:ChargeStep (acme-billing)" in str(e.value)
    assert "rival_billing.steps:ChargeStep (rival-billing)" in str(e.value)


def test_one_distribution_found_twice_is_one(site):
    """A package that is installed twice on the path (editable and not, say) is no ambiguity."""
    install(site / "again", "acme-billing", "acme_billing")
    sys.path.append(str(site / "again"))
    try:
        assert isinstance(load_step("billing.charge"), Step)
    finally:
        sys.path.remove(str(site / "again"))
