"""What an engine cannot do is refused by name, with the next move, and nothing that is asked of it is ignored."""

from __future__ import annotations

import asyncio
import inspect
from pathlib import Path
from typing import Any, cast

import pytest

from fsm_mediator import AsyncMediator, Mediator, MemoryJournal, PayloadError, RefusedError, Saga, step
from fsm_mediator.engines.mediator import EngineMediator
from fsm_mediator.engines.projection import Projection
from fsm_mediator.engines.refusals import SETTINGS, Refusals
from fsm_mediator.engines.replay import Turns

PAGE = (Path(__file__).parent.parent / "docs" / "engines.md").read_text(encoding="utf-8")


@step
def act(payload: Any) -> None:
    """Do nothing."""


SAGA = Saga("any", [act])


class Cards(EngineMediator):
    """An engine that accepts everything, and does nothing."""

    engine = "Cards"

    async def _open(self, opening: dict[str, Any]) -> bool:
        return True


def members(of: type) -> dict[str, Any]:
    """The public members of a class."""
    return {name: inspect.getattr_static(of, name) for name in dir(of) if not name.startswith("_")}


REFUSED = sorted(name for name in members(Refusals) if name != "engine")


def test_every_verb_of_a_mediator_is_there_or_refused():
    """A verb that `AsyncMediator` gets is one more line in the table of refusals, or a method for engines."""
    assert set(members(AsyncMediator)) - set(members(EngineMediator)) == {"journal", "settings"}
    for name, member in members(AsyncMediator).items():
        if name in REFUSED or not inspect.isfunction(member):
            continue
        taken = inspect.signature(getattr(EngineMediator, name)).parameters
        assert set(inspect.signature(member).parameters) <= set(taken), name


@pytest.mark.parametrize("verb", REFUSED)
def test_refusal_names_verb_and_next_move_whatever_the_arguments(verb):
    """With the arguments that a `Mediator` takes, it is refused when it is called."""
    mediator = Cards(SAGA)
    for arguments in ((), ("o-1",)):
        with pytest.raises(RefusedError, match=rf"^Cards has no '{verb}': \w.*"):
            getattr(mediator, verb)(*arguments, reason="why")
    with pytest.raises(RefusedError, match=verb):
        getattr(EngineMediator, verb)()


@pytest.mark.parametrize("setting", sorted(SETTINGS))
def test_setting_that_engines_do_not_have_is_refused(setting):
    """Each setting of `AsyncMediator` is one of the turns', or refused by name."""
    with pytest.raises(RefusedError, match=f"^Cards has no '{setting}': "):
        cast("Any", Cards)(SAGA, **{setting: None})


def test_every_setting_of_a_mediator_is_known_here():
    """No setting of a mediator ends in a TypeError about an unknown argument."""
    asked = set(inspect.signature(AsyncMediator.__init__).parameters) - {"self", "sagas"}
    known = set(inspect.signature(Turns.__init__).parameters) | set(SETTINGS)
    assert {name for name in asked - known if not name.startswith("_")} == set()


@pytest.mark.parametrize("verb", ["run", "start"])
def test_attributes_are_refused_and_nothing_begins(verb):
    """They would be lost. No attributes at all are none."""
    mediator = Cards(SAGA)
    with pytest.raises(RefusedError, match=r"has no 'attributes': use `fsm-mediator attributes .* on the journal"):
        asyncio.run(getattr(mediator, verb)("any", attributes={"tenant": "acme"}))
    with pytest.raises(PayloadError, match="attribute"):
        asyncio.run(getattr(mediator, verb)("any", attributes={"a b": 1}))
    assert asyncio.run(mediator.start("any", saga_id="o-1", attributes={})) == "o-1"


def test_attribute_error_says_where_the_journal_is():
    """`hasattr` answers, and the message has the next move."""
    mediator: Any = Cards(SAGA)
    assert not hasattr(mediator, "journal")
    with pytest.raises(AttributeError, match=r"Cards has no 'journal': .*projection"):
        mediator.journal  # noqa: B018
    with pytest.raises(AttributeError, match=r"^Cards has no 'settlings'$"):
        mediator.settlings  # noqa: B018


def test_mediator_of_an_engine_is_entered_and_closed_as_any():
    """An app that opens and closes its mediator does the same on an engine."""

    async def body() -> None:
        async with Cards(SAGA) as mediator:
            assert await mediator.start("any", saga_id="o-1") == "o-1"
        await mediator.close(grace=1.0)

    asyncio.run(body())


def test_hold_of_what_an_engine_drives_is_refused_on_its_journal():
    """The journal of a projection would keep it, and the engine would never read it."""
    turns, journal = Turns(SAGA), MemoryJournal(encode=True)
    opening = turns.opening("any", None, "o-1")
    rows = asyncio.run(turns.turn(opening, [], {}))["rows"]
    Projection(journal).follow(turns, opening, rows)
    with Mediator(SAGA, journal=journal) as mediator:
        with pytest.raises(RefusedError, match=r"driven by the engine temporal, which reads no holds.* cancel o-1"):
            mediator.hold("o-1", reason="why")
        assert journal.notes("o-1") == []
        assert mediator.set_attributes("o-1", {"tenant": "acme"}) == {"tenant": "acme"}


def test_page_names_every_verb_and_setting():
    """The table of docs/engines.md has a line for whatever is refused."""
    table = PAGE[PAGE.index("## What an engine has") :]
    assert [name for name in REFUSED if f"`{name}`" not in table] == []
    assert [name for name in SETTINGS if f"`{name}=`" not in table] == []
