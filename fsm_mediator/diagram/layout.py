"""Layout: where the nodes of a picture stand, and by which way its edges go; its children's machines below it."""

from __future__ import annotations

from fsm_mediator.diagram.geometry import Band, Box, Frame, Label, Layout, Route
from fsm_mediator.diagram.lanes import Lanes
from fsm_mediator.diagram.phases import Phases
from fsm_mediator.diagram.picture import OVERVIEW, Cluster, Picture

BETWEEN = 46.0
"""Between a machine and its children's."""


def layout_of(picture: Picture) -> Layout:
    """Where everything in *picture* is; the routes are those of `Picture.all_edges`."""
    layout = Phases(picture).layout() if picture.view == OVERVIEW else Lanes(picture).layout()
    for child in picture.children:
        _put_below(layout, layout_of(child), Cluster(path=child.prefix, label=child.heading))
    return layout


def _put_below(layout: Layout, child: Layout, cluster: Cluster) -> None:
    top = layout.height + BETWEEN
    layout.texts.update(child.texts)
    layout.boxes.update((name, _moved(box, top)) for name, box in child.boxes.items())
    for route in child.routes:
        label = route.label and Label(route.label.lines, route.label.x, route.label.y + top)
        layout.routes.append(Route([(x, y + top) for x, y in route.points], label, route.own))
    layout.bands += [Band(_moved(band.box, top), band.label, band.back) for band in child.bands]
    layout.frames.append(Frame(cluster, Box(-22, top - 20, child.width + 44, child.height + 28)))
    layout.frames += [Frame(frame.cluster, _moved(frame.box, top)) for frame in child.frames]
    layout.width = max(layout.width, child.width)
    layout.height = top + child.height + 8


def _moved(box: Box, down: float) -> Box:
    return box._replace(top=box.top + down)
