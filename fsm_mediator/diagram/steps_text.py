"""The steps view as text: a Mermaid flowchart, or a table in Markdown."""

from __future__ import annotations

from collections.abc import Iterator

from fsm_mediator.diagram.dot import MOST_PEN
from fsm_mediator.diagram.flow import Flow, FlowBranch, FlowPicture, StepBox
from fsm_mediator.diagram.layout.step_sizes import DOWN, is_collapsed, is_frame, note_of, shown_mark, small_print
from fsm_mediator.diagram.mermaid import chart_head, chart_label, frame_style
from fsm_mediator.diagram.picture import EdgeKind
from fsm_mediator.diagram.steps_dot import SIGNS, paint_of
from fsm_mediator.diagram.table import markdown_table
from fsm_mediator.diagram.themes import Theme
from fsm_mediator.machine.parts import Kind
from fsm_mediator.states import FAILED, PENDING, SUCCEEDED, name_of, scopes_of


def steps_mermaid(picture: FlowPicture, theme: Theme, direction: str) -> tuple[str, int]:
    """The text of a Mermaid flowchart that shows *picture*, and the number of its lines between boxes."""
    chart = _Chart(picture, theme, direction)
    return chart.text(), len(chart.links)


class _Chart:
    def __init__(self, picture: FlowPicture, theme: Theme, direction: str) -> None:
        self.picture, self.theme = picture, theme
        self.direction = "TB" if direction == DOWN else "LR"
        ends = [each for half in picture.halves for each in _ends(half)]
        self.names = {
            name: f"n{number}" for number, name in enumerate([*ends, *(box.id for box in picture.all_nodes())])
        }
        self.styles: list[str] = []
        self.lines: list[str] = []
        self.links: list[str] = []

    def text(self) -> str:
        """The text of the whole chart."""
        head = chart_head(self.picture, self.direction)
        for number, half in enumerate(self.picture.halves):
            if self.picture.beside is not None:
                self._subgraph(f"half{number}", " · ".join([half.heading, *half.subheading]), "  ")
            self._half(half)
            self.lines += ["  end"] if self.picture.beside is not None else []
        return "\n".join([*head, *self.lines, *self.styles, *self.links, ""])

    def _half(self, picture: FlowPicture) -> None:
        theme, prefix = self.theme, picture.flow.prefix
        words = {PENDING: '(("#8203;"))', SUCCEEDED: '(["✓ succeeded"])', FAILED: '(["✗ failed"])'}
        for name in _ends(picture):
            end, (line, ground) = name.removeprefix(prefix), theme.nodes[name.removeprefix(prefix)]
            self.lines.append(f"  {self.names[name]}{words[end]}")
            self.styles.append(f"  style {self.names[name]} fill:{ground},stroke:{line},color:{line}")
        self._flow(picture.flow, "  ", "")

    def _flow(self, flow: Flow, indent: str, group: str) -> None:
        scopes: tuple[str, ...] = ()
        for box in flow.boxes:
            around = scopes_of(box.scope)
            same = sum(scope in scopes for scope in around)
            self.lines += [f"{indent}end"] * (len(scopes) - same)
            for scope in around[same:]:
                self._subgraph(f"s{len(self.styles)}x", name_of(scope), indent)
            scopes = around
            self._box(box, indent)
        self.lines += [f"{indent}end"] * len(scopes)
        known = {box.id for box in flow.boxes}
        for line in flow.lines:
            source, target = line.source, line.target
            if group and not ({source, target} <= known):
                continue  # the lines into a branch and out of it are drawn by `_branch`
            arrow = "-.->" if line.back else "-->"
            colour = self.theme.edges[EdgeKind.BACKWARD if line.back else EdgeKind.FORWARD]
            self._line(f"{self.names[source]} {arrow} {self.names[target]}", colour, line.reached, line.share)

    def _line(self, words: str, colour: str, reached: bool | None, share: float | None = None) -> None:
        self.lines.append(f"  {words}")
        pen = ",stroke-width:1px" if reached is False else ",stroke-width:3px" if reached else ""
        if share is not None:
            pen = f",stroke-width:{max(1.0, MOST_PEN * share):.1f}px"
        colour = self.theme.pale if reached is False else colour
        self.links.append(f"  linkStyle {len(self.links)} stroke:{colour}{pen}")

    def _subgraph(self, name: str, words: str, indent: str) -> None:
        self.lines.append(f'{indent}subgraph {name}["{chart_label(words)}"]')
        self.styles.append(f"  style {name} {frame_style(self.theme)}")

    def _box(self, box: StepBox, indent: str) -> None:
        name = self.names[box.id]
        if is_frame(box):
            words = " · ".join(filter(None, [box.title, *box.notes, note_of(box)]))
            self._subgraph(name, words, indent)
            self.lines.append(f'{indent}{name}f{{"#8203;"}}' if box.kind is Kind.CHOICE else f'{indent}{name}f["‖"]')
            for branch in box.branches:
                self._branch(name, branch, indent)
            self.lines.append(f"{indent}end")
            return
        mark, note = shown_mark(box).mark or box.mark, note_of(box)
        lines = [f"<b>{chart_label(box.title)}</b>", *(chart_label(each) for each in small_print(box))]
        if note:
            lines.append(f"<i>{chart_label((SIGNS.get(mark.state, '') if mark else '') + note)}</i>")
        before, after = ("[/", "/]") if box.kind in (Kind.SIGNAL, Kind.SLEEP) else ("(", ")")
        before, after = ("[[", "]]") if is_collapsed(box) else (before, after)
        self.lines.append(f'{indent}{name}{before}"{"<br/>".join(lines)}"{after}')
        line, ground = paint_of(box, self.theme)
        pen = ",stroke-width:4px" if box.pivot else ",stroke-dasharray:5 3" if box.rest else ""
        self.styles.append(f"  style {name} fill:{ground},stroke:{line},color:{self.theme.ink}{pen}")

    def _branch(self, group: str, branch: FlowBranch, indent: str) -> None:
        self._flow(branch.flow, indent + "  ", group)
        first = self.names[branch.flow.boxes[0].id]
        reached = None if branch.mark is None else branch.mark.note != ""
        label = "" if branch.flow.boxes[0].rest else f'|"{chart_label(branch.name)}"|'
        words = f"{group}f -->{label} {first}"
        share = next((line.share for line in branch.flow.forward if line.target == branch.flow.boxes[0].id), None)
        self._line(words, self.theme.edges[EdgeKind.FORWARD], reached, share)


def _ends(picture: FlowPicture) -> list[str]:
    """The ids of the start, of the end ``succeeded`` and, if the saga can fail, of the end ``failed``."""
    ends = [PENDING, SUCCEEDED, *([FAILED] if picture.flow.fails else [])]
    return [picture.flow.prefix + end for end in ends]


def steps_table(picture: FlowPicture) -> str:
    """A Markdown table with a row for each step, in the order of execution.

    The steps of a branch come after their group. Their numbers show the level: ``2a.1`` is the first step of the first
    branch of step 2.
    """
    head = ["#", "step", "what", "undone by", "attempts"]
    if picture.is_run:
        head += ["state", "errors"]
    if picture.numbers is None:
        return markdown_table(head, _rows(picture.flow, "", picture.is_run))
    tables = []
    for half in picture.halves:
        tables += [" · ".join([half.heading, *half.subheading]), ""] if picture.beside is not None else []
        tables.append(markdown_table([*head, picture.numbers[0]], _rows(half.flow, "", False)))
    return "\n".join(tables)


def _rows(flow: Flow, number: str, is_run: bool) -> Iterator[list[str]]:
    for place, box in enumerate(flow.boxes, 1):
        mine = f"{number}{place}"
        what = ", ".join([*(["pivot"] if box.pivot else []), *(box.notes or [str(box.kind)])])
        undo = "" if box.undo is None else box.undo or "its compensation"
        attempts = "no limit" if box.attempts is None else str(box.attempts) if box.kind is Kind.STEP else ""
        row = [mine, box.scope + box.title, what, undo, attempts]
        if is_run:
            mark = box.mark
            row += [mark.note or str(mark.state), "; ".join(mark.errors)] if mark is not None else ["", ""]
        if box.numbers is not None:
            row.append(box.numbers)
        yield row
        for letter, branch in zip("abcdefghijklmnopqrstuvwxyz" * 40, box.branches, strict=False):
            yield from _rows(branch.flow, f"{mine}{letter}.", is_run)
