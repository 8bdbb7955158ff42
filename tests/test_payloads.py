"""What goes into a journal comes back as its type, or is refused before it can do harm."""

from __future__ import annotations

import dataclasses
import datetime as dt
import math
from typing import TypedDict

import attrs
import msgspec
import pydantic
import pytest

from fsm_mediator import (
    DefinitionError,
    MemoryJournal,
    PayloadError,
    ResultRefusedError,
    Saga,
    SagaFailedError,
    Signal,
    SQLiteJournal,
    step,
)
from fsm_mediator.journal.codec import Codec
from tests.drivers import ONCE


@attrs.frozen
class AsAttrs:
    amount: int
    when: dt.datetime


@dataclasses.dataclass(frozen=True)
class AsDataclass:
    amount: int
    when: dt.datetime


class AsStruct(msgspec.Struct, frozen=True):
    amount: int
    when: dt.datetime


class AsDict(TypedDict):
    amount: int
    when: dt.datetime


WHEN = dt.datetime(2026, 1, 2, tzinfo=dt.UTC)


@pytest.mark.parametrize("kind", [AsAttrs, AsDataclass, AsStruct, AsDict])
def test_plain_data_comes_back_as_its_type(drive, tmp_path, kind):
    """Payload and results are seen as their annotated types, in this process and in the next."""
    seen = []

    @step
    def quote(order):
        seen.append(order)
        return kind(amount=2, when=WHEN)

    quote.execute.__annotations__["return"] = kind

    @step
    def book(order, context):
        seen.append(context.results["quote"])

    saga = Saga("typed", [quote, book], payload=kind)
    mediator = drive(saga, journal=SQLiteJournal(tmp_path / "sagas.db"))
    mediator.run("typed", kind(amount=1, when=WHEN), saga_id="one")

    assert seen == [kind(amount=1, when=WHEN), kind(amount=2, when=WHEN)]
    again = drive(saga, journal=SQLiteJournal(tmp_path / "sagas.db")).outcome("one")
    assert again.results["quote"] == kind(amount=2, when=WHEN)


class Aliased(pydantic.BaseModel, frozen=True):
    """A model with an alias of each kind."""

    user: str = pydantic.Field(alias="userName")
    card: str | None = pydantic.Field(None, validation_alias="cardToken")
    kind: str = pydantic.Field("web", serialization_alias="orderKind")


class Money:
    """A type that only a hook can convert."""


def test_copy_of_a_value_that_can_no_longer_be_converted_is_refused_by_name():
    """Each attempt gets copies of accepted values. The error says which value could not be copied, and why."""

    def to_plain(value: object) -> object:
        raise ValueError("no rate today")

    @step(name="a")
    def convert(order: object) -> Money:
        return Money()

    codec = Codec(types=(to_plain, lambda type, plain: Money()))
    saga = Saga("s", [convert], payload=Money)

    with pytest.raises(PayloadError, match="the payload of saga 's' cannot be journaled: no rate today"):
        codec.payload(saga, Money())
    with pytest.raises(PayloadError, match="the result of step 'a' cannot be journaled: no rate today"):
        codec.result(saga.part("a"), Money())


def test_copies_are_new_objects():
    """A step that changes its payload or a result changes no other step's."""
    codec = Codec()
    saga = Saga("s", [step(name="a")(lambda order: None)])
    given = {"items": [1, None]}

    for copy in (codec.payload(saga, given), codec.result(saga.part("a"), given)):
        assert copy == given
        assert copy["items"] is not given["items"]
    assert codec.payload(saga, None) is codec.result(saga.part("a"), None) is None


@pytest.mark.parametrize("given", [{"userName": "ann", "cardToken": "t"}, {"user": "ann", "card": "t"}])
def test_model_with_aliases_is_kept_by_its_names(given):
    """It is taken by names and by aliases, and comes back equal; what is kept has its names."""
    codec = Codec()
    saga = Saga("s", [step(name="a")(lambda order: None)], payload=Aliased)
    whole = Aliased.model_validate({"userName": "ann", "cardToken": "t"})

    assert codec.accept_payload(saga, given) == codec.accept_payload(saga, whole) == codec.payload(saga, whole) == whole
    assert msgspec.json.decode(codec.to_json(whole)) == {"user": "ann", "card": "t", "kind": "web"}


def hook(value: object) -> object:
    """A hook that knows complex numbers, and does not know ranges."""
    if isinstance(value, range):
        raise NotImplementedError
    if isinstance(value, complex):
        return [value.real, value.imag]
    raise ValueError("the hook is broken")


@pytest.mark.parametrize(
    ("types", "value", "words"),
    [
        (None, range(3), "encoding objects of type range is unsupported. Plain data can be"),
        (
            (hook, lambda kind, plain: plain),
            range(3),
            "encoding objects of type range is unsupported. Plain data can be",
        ),
        ((hook, lambda kind, plain: plain), slice(3), "the hook is broken. Plain data can be"),
    ],
)
def test_value_that_no_hook_converts_is_named(types, value, words):
    """The error says which type it is, or what the hook raised."""
    codec = Codec(types=types)
    for encode in (codec.encode, codec.json):
        with pytest.raises(PayloadError, match=f"the value cannot be journaled: {words}"):
            encode({"deep": [value]}, "the value")
    if types is not None:
        assert codec.encode(1 + 2j, "the value") == b"[1.0,2.0]"


@pytest.mark.filterwarnings("ignore::fsm_mediator.DefinitionWarning")
@pytest.mark.parametrize("kind", ["encoded", "sqlite"])
def test_steps_see_what_was_journaled_crash_or_no_crash(drive, tmp_path, kind):
    """A tuple becomes a list for the next step at once, not only after a crash."""
    seen = []

    @step
    def first(order):
        return (1, 2)

    @step
    def second(order, context):
        seen.append((order, context.results["first"]))

    journal = SQLiteJournal(tmp_path / "sagas.db") if kind == "sqlite" else MemoryJournal(encode=True)
    drive(Saga("seen", [first, second]), journal=journal).run("seen", {"a": (3,)}, saga_id="s")

    assert seen == [({"a": [3]}, [1, 2])]


NAMES = frozenset({"new", "gift", "urgent", "blue", "red", "green", "old", "black"})


@pytest.mark.filterwarnings("ignore::fsm_mediator.DefinitionWarning")
@pytest.mark.parametrize("accept", ["payload", "signal"])
def test_sets_are_accepted_in_an_order_that_every_process_agrees_on(accept):
    """The same start from another process has the same text; the order of a dict stays, and what has no order stays."""
    codec = Codec()
    saga = Saga("s", [step(name="a")(lambda order: None), Signal("go")])
    value = {"z": set(NAMES), "a": [NAMES, 7], "b": 1}
    mixed = {1, "a"}

    def accepted(each):
        return codec.accept_payload(saga, each) if accept == "payload" else codec.accept_signal(saga.part("go"), each)

    assert list(accepted(value).items()) == [("z", sorted(NAMES)), ("a", [sorted(NAMES), 7]), ("b", 1)]
    assert sorted(accepted(mixed), key=str) == [1, "a"]
    assert accepted([1, "a", None]) == [1, "a", None]


@pytest.mark.parametrize("payload", [object(), {1, object()}, math.nan, {"x": lambda: None}])
def test_a_payload_that_cannot_be_kept_starts_nothing(drive, tmp_path, payload):
    """What cannot be encoded is refused before the first step, and no execution is left behind."""
    called = []
    saga = Saga(
        "refused",
        [step(name="a")(lambda order: called.append(1))],
        payload=float if isinstance(payload, float) else None,
    )
    mediator = drive(saga, journal=SQLiteJournal(tmp_path / "sagas.db"))

    with pytest.raises(PayloadError):
        mediator.run("refused", payload, saga_id="s")

    assert called == []
    assert mediator.executions() == []


def test_a_payload_too_large_names_the_limit(drive, tmp_path):
    """More than 1 MiB is refused, with the name of the setting that allows more; with it, it passes."""
    saga = Saga("large", [step(name="a")(lambda order: None)])
    large = "x" * (1024 * 1024)

    with pytest.raises(PayloadError, match=r"journal=SQLiteJournal\(path, max_value_bytes=\.\.\.\)"):
        drive(saga, journal=SQLiteJournal(tmp_path / "sagas.db")).run("large", large)

    roomy = SQLiteJournal(tmp_path / "roomy.db", max_value_bytes=4 * 1024 * 1024)
    assert drive(saga, journal=roomy).run("large", large).succeeded


@pytest.mark.parametrize("result", [object(), "x" * (1024 * 1024)])
def test_a_result_that_cannot_be_kept_is_compensated(drive, tmp_path, result):
    """The step took effect, so it is compensated like any that may have; it is not executed again."""
    done = []

    @step
    def a(order):
        done.append("a")
        return result

    @a.compensation
    def undo_a(order, context):
        done.append("undo a")
        assert context.in_doubt

    mediator = drive(Saga("odd", [a]), journal=SQLiteJournal(tmp_path / "sagas.db"))

    with pytest.raises(SagaFailedError) as failed:
        mediator.run("odd")

    assert done == ["a", "undo a"]
    assert isinstance(failed.value.__cause__, ResultRefusedError)


def test_a_result_of_another_type_than_annotated_is_compensated(drive, tmp_path):
    """An annotation is a promise that the next step relies on."""
    done = []

    @step(retry=ONCE)
    def a(order) -> int:
        return "seven"  # type: ignore[return-value]

    @a.compensation
    def undo_a(order):
        done.append("undo a")

    with pytest.raises(SagaFailedError, match="int"):
        drive(Saga("wrong", [a]), journal=SQLiteJournal(tmp_path / "sagas.db")).run("wrong")
    assert done == ["undo a"]


def test_a_type_that_no_journal_can_give_back_is_refused_at_definition(drive, tmp_path):
    """A saga that could not be recovered is not accepted by a durable mediator; in memory it may run."""

    class Opaque:
        pass

    @step
    def a(order):
        return None

    a.execute.__annotations__["return"] = Opaque
    saga = Saga("opaque", [a])

    with pytest.raises(DefinitionError, match="Opaque"):
        drive(saga, journal=SQLiteJournal(tmp_path / "sagas.db"))
    assert drive(saga).run("opaque").succeeded


def test_errors_are_kept_as_type_message_and_traceback(drive, tmp_path):
    """Days later, in another process, one still sees what went wrong and where."""

    @step(retry=ONCE)
    def a(order):
        raise KeyError("no such sku")

    saga = Saga("failing", [a])
    drive(saga, journal=SQLiteJournal(tmp_path / "sagas.db")).run("failing", saga_id="s", check=False)

    error = drive(saga, journal=SQLiteJournal(tmp_path / "sagas.db")).outcome("s").history[-1].error

    assert (error.type, error.message) == ("KeyError", "'no such sku'")
    assert "test_payloads.py" in error.traceback


@attrs.frozen
class Approval:
    """A value that is longer when it is decoded, because of a default value."""

    by: str
    note: str = "-" * 100


def test_signal_of_another_type_is_refused_with_what_is_wrong(drive):
    """The message names the signal, its type, and what is wrong with the value, each once."""
    mediator = drive(
        Saga("s", [Signal("go", payload=bool), Signal("ok", payload=Approval)]),
        journal=MemoryJournal(encode=True, max_value_bytes=80),
    )
    mediator.run("s", saga_id="o-1", check=False)

    with pytest.raises(PayloadError) as wrong:
        mediator.signal("o-1", "go", "yes")
    with pytest.raises(PayloadError) as large:
        mediator.signal("o-1", "ok", {"by": "ann"})

    assert str(wrong.value) == "signal 'go' takes a bool: Expected `bool`, got `str`"
    assert str(large.value).startswith(
        "signal 'ok' takes a Approval: the value of signal 'ok' takes 122 bytes as JSON, more than the limit of 80"
    )


def test_result_of_another_type_is_named_with_its_execution_and_record(drive):
    """After a deploy changed what a step returns, the error says which result of which execution cannot be read."""
    journal = MemoryJournal(encode=True)

    def saga(returns):
        def charge(order):
            return "receipt"

        charge.__annotations__["return"] = returns
        return Saga("s", [step(charge), Signal("ok")])

    drive(saga(str), journal=journal).run("s", saga_id="o-1", check=False)

    with pytest.raises(PayloadError, match=r"^execution 'o-1', record 2: the result of 'charge' does not come back"):
        drive(saga(int), journal=journal).outcome("o-1")
