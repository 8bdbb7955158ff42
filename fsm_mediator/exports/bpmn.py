"""BPMN 2.0: the steps of a saga as a process with a diagram. The positions are those of the diagram ``steps``.

A step becomes a service task. If it can be undone, a compensation task is attached. A signal becomes a message event,
and a sleep a timer event. A group forks and joins at gateways. A group over items becomes a multi-instance task.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import Final

from fsm_mediator.definition.saga import Saga, check_is_saga
from fsm_mediator.diagram.flow import Flow, StepBox, flow_picture
from fsm_mediator.diagram.layout.geometry import Box
from fsm_mediator.diagram.layout.steps import steps_layout
from fsm_mediator.diagram.text import clean, digest_of
from fsm_mediator.machine.parts import Kind
from fsm_mediator.states import PENDING, SUCCEEDED

MODEL: Final = "http://www.omg.org/spec/BPMN/20100524/MODEL"
_DI: Final = "http://www.omg.org/spec/BPMN/20100524/DI"
_DC: Final = "http://www.omg.org/spec/DD/20100524/DC"
_DD: Final = "http://www.omg.org/spec/DD/20100524/DI"
_WIDER: Final = 1.9
_HIGHER: Final = 4.0
"""The factors by which the width and the height of the diagram ``steps`` are stretched.

The additional height is for the compensation below each box.
"""

_SMALL: Final = 36.0


def to_bpmn(saga: Saga) -> str:
    """The steps of *saga* as a BPMN 2.0 process in XML, with the positions of its boxes and lines.

    BPMN has no element for a pivot. The process's documentation element names the pivot and the steps after it.

    Raises:
        DefinitionError: *saga* is not a `Saga`.
    """
    check_is_saga("to_bpmn()", saga)
    for prefix, uri in (("bpmn", MODEL), ("bpmndi", _DI), ("dc", _DC), ("di", _DD)):
        ET.register_namespace(prefix, uri)
    return _Process(saga).text()


class _Process:
    def __init__(self, saga: Saga) -> None:
        self.picture = flow_picture(saga, None, about=())
        self.layout = steps_layout(self.picture)
        self.root = ET.Element(f"{{{MODEL}}}definitions", targetNamespace="urn:fsm-mediator")
        self.process = ET.SubElement(
            self.root, f"{{{MODEL}}}process", id=_id(saga.name, "process"), name=saga.name, isExecutable="false"
        )
        self.places: dict[str, Box] = {}
        self.lines: dict[str, tuple[str, str, float]] = {}
        routes = [route for route in self.layout.routes if not route.edge.back and len(route.points) == 6]
        self.turns = {(each.edge.source, each.edge.target): each.points[2][1] * _HIGHER for each in routes}

    def text(self) -> str:
        """The text of the whole BPMN file."""
        self._element("documentation").text = clean(self.picture.alt)
        for tag, state in (("startEvent", PENDING), ("endEvent", SUCCEEDED)):
            self._placed(tag, state, state, self.layout.boxes[state], small=True)
        self._flow(self.picture.flow, _id(PENDING), _id(SUCCEEDED))
        plane = ET.SubElement(ET.SubElement(self.root, f"{{{_DI}}}BPMNDiagram", id="diagram"), f"{{{_DI}}}BPMNPlane")
        plane.attrib.update(id="plane", bpmnElement=self.process.attrib["id"])
        for name, box in self.places.items():
            shape = ET.SubElement(plane, f"{{{_DI}}}BPMNShape", id=f"{name}_shape", bpmnElement=name)
            sizes = dict(zip(("x", "y", "width", "height"), (f"{each:.0f}" for each in box), strict=True))
            ET.SubElement(shape, f"{{{_DC}}}Bounds", sizes)
        for name, (source, target, turn) in self.lines.items():
            edge = ET.SubElement(plane, f"{{{_DI}}}BPMNEdge", id=f"{name}_edge", bpmnElement=name)
            for x, y in _points(self.places[source], self.places[target], turn):
                ET.SubElement(edge, f"{{{_DD}}}waypoint", x=f"{x:.0f}", y=f"{y:.0f}")
        ET.indent(self.root)
        return ET.tostring(self.root, encoding="unicode", xml_declaration=True) + "\n"

    def _element(self, tag: str, **attributes: str) -> ET.Element:
        return ET.SubElement(self.process, f"{{{MODEL}}}{tag}", attributes)

    def _placed(self, tag: str, name: str, title: str, box: Box, *, small: bool = False, **more: str) -> ET.Element:
        """Add the BPMN element for *box*, and return the element.

        The position of the element is stored in `places`. The BPMN diagram is the diagram ``steps``, stretched.
        """
        wide, high = (_SMALL, _SMALL) if small else (box.width * _WIDER, box.height * _WIDER)
        self.places[_id(name)] = Box(box.x * _WIDER - wide / 2, box.y * _HIGHER - high / 2, wide, high)
        return self._element(tag, id=_id(name), name=title, **more)

    def _line(self, source: str, target: str, turn: float = 0, tag: str = "sequenceFlow", **more: str) -> None:
        name = _id(source, target, "line")
        self._element(tag, id=name, sourceRef=source, targetRef=target, **more)
        self.lines[name] = (source, target, turn)

    def _flow(self, flow: Flow, first: str, last: str) -> None:
        """Add the boxes of *flow*, and the lines between them, from the element *first* to the element *last*."""
        enter, leave = {flow.prefix + SUCCEEDED: last}, {flow.prefix + PENDING: first}
        for box in flow.boxes:
            enter[box.id], leave[box.id] = self._group(box) if box.branches and not box.each else self._task(box)
        for line in flow.forward:
            self._line(leave[line.source], enter[line.target], self.turns.get((line.source, line.target), 0))

    def _group(self, box: StepBox) -> tuple[str, str]:
        """Add a group or a choice: two gateways, and the branches between them. Returns the ids of the gateways."""
        tag = "exclusiveGateway" if box.kind is Kind.CHOICE else "parallelGateway"
        fork, join = [each.box for each in self.layout.shapes if each.step == box.id and each.kind == "fork"]
        names = box.id, box.id + "/joined"
        for name, bar in zip(names, (fork, join), strict=True):
            self._placed(tag, name, box.title if name == box.id else "", bar, small=True)
        for branch in box.branches:
            self._flow(branch.flow, _id(names[0]), _id(names[1]))
        return _id(names[0]), _id(names[1])

    def _task(self, box: StepBox) -> tuple[str, str]:
        """Add a step, a wait or a group over items, and the task of its compensation.

        Returns two ids, as `_group` does. Both are the id of the element for *box*.
        """
        area, name = self.layout.boxes[box.id], _id(box.id)
        title = f"{box.title}: {', '.join(box.notes)}" if box.notes else box.title
        waits = {Kind.SIGNAL: "messageEventDefinition", Kind.SLEEP: "timerEventDefinition"}
        if box.kind in waits:
            event = self._placed("intermediateCatchEvent", box.id, title, area, small=True)
            ET.SubElement(event, f"{{{MODEL}}}{waits[box.kind]}", id=f"{name}_event")
            return name, name
        task = self._placed("serviceTask", box.id, title, area)
        if box.each:
            loop = f"{{{MODEL}}}multiInstanceLoopCharacteristics"
            ET.SubElement(task, loop, id=f"{name}_each", isSequential="false")
        if box.undo is not None:
            undo, undone = box.id + "/undo", box.id + "/undone"
            self._placed("serviceTask", undo, box.undo or f"undo {box.title}", area, isForCompensation="true")
            caught = self._placed("boundaryEvent", undone, "", area, small=True, attachedToRef=name)
            ET.SubElement(caught, f"{{{MODEL}}}compensateEventDefinition", id=f"{_id(undone)}_event")
            place = self.places[name]
            self.places[_id(undo)] = Box(place.left + 30, place.bottom + 34, place.width - 30, place.height * 0.8)
            self.places[_id(undone)] = Box(place.left + 4, place.bottom - _SMALL / 2, _SMALL, _SMALL)
            self._line(_id(undone), _id(undo), tag="association", associationDirection="One")
        return name, name


def _points(source: Box, target: Box, turn: float) -> list[tuple[float, float]]:
    """The points of the line from *source* to *target*.

    A line leads to the right, to a row below (with its horizontal part at *turn*), or down to a compensation.
    """
    start, end = (source.right, source.y), (target.left, target.y)
    if source.left < target.left < source.right:
        return [(source.x, source.bottom), (source.x, target.y), end]
    if turn:
        right, left = source.right + 12, target.left - 12
        return [start, (right, source.y), (right, turn), (left, turn), (left, target.y), end]
    bend = source.right + 12 if source.width == _SMALL else target.left - 12
    return [start, (bend, source.y), (bend, target.y), end] if source.y != target.y else [start, end]


def _id(*names: str) -> str:
    """The XML id of an element. *names*, such as the path of its part, identify the element in the process."""
    return f"n{digest_of(chr(0).join(names))}"
