"""States, paths and ids are taken apart by `states` and `ids`, however deep sagas and branches are nested."""

from __future__ import annotations

import pytest

from fsm_mediator.ids import branch_id, branch_name, group_of, parent_of, place_of, root_of
from fsm_mediator.states import is_within, name_of, outer_path, path_within, scopes_of, split_name


@pytest.mark.parametrize(
    ("path", "outer", "name", "scopes"),
    [
        ("pack", "", "pack", ()),
        ("shipping.pack", "shipping", "pack", ("shipping",)),
        ("order.shipping.pack", "order.shipping", "pack", ("order", "order.shipping")),
    ],
)
def test_path_has_a_name_and_the_sagas_around_it(path, outer, name, scopes):
    """A part's path names the nested sagas around it, the outermost first, then the part."""
    assert (outer_path(path), name_of(path), scopes_of(path)) == (outer, name, scopes)
    assert scopes_of(path.removesuffix(name)) == scopes  # a scope, as `Part.scope` holds it


def test_path_within_a_saga_is_found_by_whole_names():
    """A saga whose name only begins alike holds nothing of the other."""
    assert is_within("ship.pack.weigh", "ship")
    assert path_within("ship.pack.weigh", "ship") == "pack.weigh"
    assert split_name("pack.weigh") == ("pack", "weigh")
    assert not is_within("shipping.pack", "ship")
    assert not is_within("ship", "ship")


@pytest.mark.parametrize("parent", ["o-1", "o.1", "o-1/outer.left"])
def test_branch_id_is_taken_apart_as_it_was_built(parent):
    """The parent, the group and the name come back, whatever dots are in them."""
    built = branch_id(parent, "shipping.fan", "north")

    assert place_of(built) == "shipping.fan.north"
    assert (parent_of(built), group_of(built), branch_name(built)) == (parent, "shipping.fan", "north")
    assert group_of(place_of(built)) == "shipping.fan"
    assert root_of(built) == parent.split("/")[0]


def test_id_of_a_whole_has_no_parent_and_no_place():
    """An execution that is no branch is its own whole, also where its id holds dots."""
    assert (parent_of("o.1"), place_of("o.1"), root_of("o.1")) == ("", "o.1", "o.1")
