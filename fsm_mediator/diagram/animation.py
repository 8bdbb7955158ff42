"""Animation: one SVG that shows the frames of a run, one after the other.

An element that looks the same in all frames is in the SVG only once. Any other element is in the SVG once for each of
its looks, and CSS shows the look of the current frame. The SVG shows the last frame if the reader's system asks for
less motion, or if the program that shows the SVG does not support CSS.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import Final

STEP: Final = 0.9
"""The number of seconds for which each frame is shown."""

HOLD: Final = 3.0
"""The number of seconds for which the last frame is shown, in addition to `STEP`."""

_ELEMENT: Final = re.compile(r"^<!-- .* -->\n", re.MULTILINE)
_DIGEST: Final = re.compile(r' data-dot="[^"]*"')
_ID: Final = re.compile(r'<g id="([^"]*)"')


def animated_svg(frames: Sequence[str], digest: str) -> str:
    """Join the SVGs of a run's frames into one animated SVG.

    All frames have the same elements; only the looks of the elements differ. *digest* is the digest of the DOT texts of
    all frames. It is written into the SVG.
    """
    parts = [_parts(frame) for frame in frames]
    head, _, tail = parts[-1]
    heads = [each[0].splitlines(keepends=True) for each in parts]
    length = len(frames)
    ends = [STEP * (number + 1) for number in range(length)]
    ends[-1] += HOLD
    styles = _Styles(
        hashlib.sha256("".join(frames).encode()).hexdigest()[:8], [end / ends[-1] for end in ends], ends[-1]
    )
    body = [head]
    if all(len(lines) == len(heads[-1]) for lines in heads):
        lines_in_turn = zip(*heads, strict=True)
        body = [styles.either(forms) if forms[-1].startswith("<text") else forms[-1] for forms in lines_in_turn]
    body += (styles.either([each[1].get(name, "") for each in parts]) for name in parts[-1][1])
    text = _DIGEST.sub(f' data-dot="{digest}"', "".join(body) + tail, count=1)
    return text.replace("\n<g ", f"\n{styles.sheet()}\n<g ", 1)


def _parts(svg: str) -> tuple[str, dict[str, str], str]:
    """Split an SVG into the text before its elements, the text of each element by id, and the text after them."""
    head, *elements = _ELEMENT.split(svg)
    last, end, tail = elements[-1].rpartition("</g>\n</svg>")
    elements[-1] = last
    named = {}
    for number, element in enumerate(elements):
        found = _ID.search(element)
        named[found.group(1) if found else f"?{number}"] = element
    return head, named, end + tail


class _Styles:
    """The CSS of an animated SVG. Elements that are visible in the same frames share one animation.

    *prefix* makes the names of the animations unique on a page. The whole animation takes *seconds*. The time at which
    each frame ends is in *ends*, as a share of this duration.
    """

    def __init__(self, prefix: str, ends: Sequence[float], seconds: float) -> None:
        self.prefix = f"fsm{prefix}"
        self.ends = ends
        self.seconds = seconds
        self.names: dict[tuple[bool, ...], str] = {}

    def either(self, forms: Sequence[str]) -> str:
        """The SVG of an element with all of its looks. Each look is visible only in the frames that have it.

        *forms* has the SVG of the element in each frame.
        """
        different = dict.fromkeys(form for form in forms if form)
        if len(different) == 1 and all(forms):
            return forms[-1]
        shown = []
        for form in different:
            seen = tuple(each == form for each in forms)
            name = self.names.setdefault(seen, f"{self.prefix}-{len(self.names)}")
            hidden = "" if seen[-1] else ' visibility="hidden"'
            unnamed = form if seen[-1] else _ID.sub("<g", form, count=1)
            shown.append(f'<g class="{name}"{hidden}>{unnamed.rstrip()}</g>\n')
        return "".join(shown)

    def sheet(self) -> str:
        """The ``<style>`` element with all animations."""
        rules = []
        for seen, name in self.names.items():
            steps = [f"0%{{visibility:{_seen(seen[0])}}}"]
            steps += (
                f"{self.ends[number - 1] * 100:.3f}%{{visibility:{_seen(seen[number])}}}"
                for number in range(1, len(seen))
                if seen[number] != seen[number - 1]
            )
            rules.append(f"@keyframes {name}{{{''.join(steps)}}}")
            rules.append(f".{name}{{animation:{name} {self.seconds:g}s step-end infinite}}")
        still = ",".join(f".{name}" for name in self.names.values())
        if still:
            rules.append(f"@media (prefers-reduced-motion:reduce){{{still}{{animation:none}}}}")
        return f"<style>{''.join(rules)}</style>"


def _seen(seen: bool) -> str:
    return "visible" if seen else "hidden"
