"""The differences between two shapes, part by part, as text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from fsm_mediator.definition.shape import PartShape, Shape


def differences(old: Shape, new: Shape) -> Iterator[str]:
    """A text for each difference between *old* and *new*, including the differences in branches."""
    yield from changes(old, new, {part.path: part.path for part in old.parts})
    for part in new.parts:
        was = old.part(part.path)
        before = {} if was is None else dict(was.branches)
        for name, branch in part.branches:
            if name in before:
                within = f"in the branch {name!r} of {part.path!r}"
                yield from (f"{within} {change}" for change in differences(before[name], branch))


def changes(old: Shape, new: Shape, paths: Mapping[str, str]) -> Iterator[str]:
    """A text for each difference between *old* and *new*, without the differences in branches.

    *paths*: for the path of each part of *old*, the path of the same part in *new*.
    """
    after = {part.path: part for part in new.parts}
    before = {paths[part.path]: part for part in old.parts}
    for path, part in before.items():
        if path not in after:
            yield f"{path!r} is gone"
        elif part.path != path:
            yield f"{part.path!r} is now called {path!r}"
    for number, part in enumerate(new.parts):
        if part.path not in before:
            place = f"after {new.parts[number - 1].path!r}" if number else "at the beginning"
            yield f"{part.path!r} is new, {place}"
    kept = [path for path in before if path in after]
    order = [path for path in after if path in before]
    if kept != order:
        moved = [repr(path) for path, other in zip(kept, order, strict=True) if path != other]
        yield f"{', '.join(moved)} are in another order: {', '.join(after)}"
    for path in kept:
        yield from _changes_of(path, before[path], after[path])


def _changes_of(path: str, was: PartShape, now: PartShape) -> Iterator[str]:
    if was.kind is not now.kind:
        yield other_kind(path, was, now)
        return
    for name, gained, lost in (
        ("compensatable", "can now be compensated", "can no longer be compensated"),
        ("probed", "now has a probe", "no longer has a probe"),
        ("pivot", "is now the pivot", "is no longer the pivot"),
        ("repeatable", "may now be repeated in doubt", "may no longer be repeated in doubt"),
    ):
        if getattr(was, name) != getattr(now, name):
            yield f"{path!r} {gained if getattr(now, name) else lost}"
    before, after = dict(was.branches), dict(now.branches)
    yield from (f"the branch {name!r} of {path!r} is gone" for name in before.keys() - after.keys())
    yield from (f"the branch {name!r} of {path!r} is new" for name in after.keys() - before.keys())


def other_kind(path: str, was: PartShape, now: PartShape) -> str:
    """A text about the kind of the part at *path*: the kind that it had, and its new kind."""
    return f"{path!r} was a {was.kind.value} and is now a {now.kind.value}"
