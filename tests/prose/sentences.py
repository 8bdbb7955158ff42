"""Sentences, taken out of Markdown pages and Python modules. No rule is here."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import attrs
from markdown_it import MarkdownIt
from markdown_it.token import Token

PARAGRAPH, ITEM, CELL, HEADING, DOCSTRING, COMMENT, MESSAGE = (
    *("paragraph", "item", "cell", "heading"),
    *("docstring", "comment", "message"),
)
CODE = "\ue000"
"""Stands for a piece of code within a text, so that no rule reads it and no full stop in it ends a sentence."""

ABBREVIATIONS = re.compile(r"(?:\b(?:e\.g|i\.e|vs|cf|no|approx|Dr|St)|\b[A-Z]|\.\.)\.$")
ENDS = re.compile(r"[.!?][)\"'*]*(?=\s+[\"'(*]*[A-Z\d" + CODE + r"])")
MARKS = re.compile(r"(?:noqa|type:|pragma|fmt:|mypy:|!)")
SECTION = re.compile(r"^(?:Args|Arguments|Attributes|Returns|Raises|Yields|Note|Example|Examples|Source|Warns):\s*$")
ENTRY = re.compile(r"^\s{2,}\*{0,2}[\w.]+(?: \([^)]*\))?: +(?=\S)")


@attrs.frozen
class Sentence:
    """A sentence as it is written, where it begins, and what kind of text it is part of.

    Attributes:
        line: The line of the file in which its paragraph, docstring or comment begins.
        text: The sentence, with pieces of code in backticks.
    """

    line: int
    kind: str
    text: str

    @property
    def plain(self) -> str:
        """The sentence with every piece of code replaced by one mark."""
        return re.sub(r"`[^`]*`", CODE, self.text)


def sentences(path: Path) -> list[Sentence]:
    """The sentences of a page or of a module."""
    text = path.read_text(encoding="utf-8")
    return list(of_page(text) if path.suffix == ".md" else of_module(text))


def split(line: int, kind: str, text: str) -> Iterator[Sentence]:
    """The sentences of a text whose pieces of code are in backticks."""
    codes = iter(re.findall(r"`[^`]*`", text))
    masked = " ".join(re.sub(r"`[^`]*`", CODE, text).split())
    begin = 0
    for end in [*(found.end() for found in ENDS.finditer(masked)), len(masked)]:
        piece = masked[begin:end].strip()
        if end < len(masked) and ABBREVIATIONS.search(piece):
            continue
        begin = end
        if piece:
            yield Sentence(line, kind, re.sub(CODE, lambda _: next(codes), piece))


def of_page(text: str) -> Iterator[Sentence]:
    """The sentences of a Markdown page, without code blocks and without what comments mark as generated."""
    kinds = [PARAGRAPH]
    generated = False
    for token in MarkdownIt("commonmark").enable("table").parse(text):
        kind = {"th": CELL, "td": CELL, "heading": HEADING, "list_item": ITEM}.get(
            re.sub(r"_(?:open|close)$", "", token.type)
        )
        if token.type == "html_block" and token.content.startswith("<!--"):
            generated = not generated
        elif kind is not None:
            kinds = kinds[:-1] if token.nesting < 0 else [*kinds, kind]
        elif token.type == "inline" and not generated:
            yield from split(token.map[0] + 1 if token.map else 0, kinds[-1], "".join(_spans(token)))


def _spans(token: Token) -> Iterator[str]:
    """The words of a line of Markdown: text, the texts of links and pictures, and code in backticks."""
    for child in token.children or ():
        if child.type == "code_inline":
            yield f"`{child.content}`"
        elif child.type in ("softbreak", "hardbreak"):
            yield " "
        elif child.type in ("text", "image"):
            yield child.content


def of_module(text: str) -> Iterator[Sentence]:
    """The sentences of a module's docstrings, comments, messages of errors and helps of options."""
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield from of_docstring(node.lineno, node.value.value)
        elif isinstance(node, ast.Raise) and node.exc is not None:
            yield from _messages(node.exc)
        elif isinstance(node, ast.keyword) and node.arg == "help":
            yield from _messages(node.value)
        elif isinstance(node, ast.FunctionDef) and node.name == "__str__":
            yield from (found for each in node.body[1:] for found in _messages(each))
    yield from of_comments(text)


def of_docstring(line: int, text: str) -> Iterator[Sentence]:
    """The sentences of a docstring in Google's style, without its code blocks."""
    paragraph: list[str] = []
    in_code = False
    for row in [*text.expandtabs().splitlines(), ""]:
        entry = ENTRY.match(row) or re.match(r"^\s*[-*] ", row)
        ends = not row.strip() or entry is not None or SECTION.match(row.strip()) is not None
        if ends and paragraph:
            joined = " ".join(paragraph)
            in_code = joined.endswith("::")
            yield from split(line, DOCSTRING, re.sub(r"``?([^`]+)``?", r"`\1`", joined))
            paragraph = []
        if row.strip() and not row.startswith(" ") and not row.startswith(">>>"):
            in_code = False
        if not row.strip() or SECTION.match(row.strip()) or in_code or re.match(r"\s*(?:>>>|\.\.\.|\.\. )", row):
            continue
        paragraph.append(row[entry.end() :].strip() if entry else row.strip())


def of_comments(text: str) -> Iterator[Sentence]:
    """The sentences of comments; neighbouring lines that hold nothing else are one text."""
    block: list[str] = []
    first = last = 0
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type != tokenize.COMMENT:
            continue
        words = token.string.lstrip("#").strip()
        if MARKS.match(words):
            words = words.partition(" - ")[2] if words.startswith("noqa") else ""
        alone = not token.line[: token.start[1]].strip()
        if block and not (alone and token.start[0] == last + 1):
            yield from split(first, COMMENT, " ".join(block))
            block = []
        first, last = first if block else token.start[0], token.start[0] if alone else 0
        block.append(words)
    yield from split(first, COMMENT, " ".join(block))


def _messages(node: ast.AST) -> Iterator[Sentence]:
    """The texts within an expression that is raised or is the text of an error: those of three words or more."""
    parts = {id(part) for each in ast.walk(node) if isinstance(each, ast.JoinedStr) for part in ast.walk(each)} - {
        id(each) for each in ast.walk(node) if isinstance(each, ast.JoinedStr)
    }
    for each in ast.walk(node):
        if id(each) in parts:
            continue
        if isinstance(each, ast.JoinedStr):
            text = "".join(str(part.value) if isinstance(part, ast.Constant) else "`x`" for part in each.values)
        elif isinstance(each, ast.Constant) and isinstance(each.value, str):
            text = each.value
        else:
            continue
        if len(text.split()) >= 3:
            yield from split(each.lineno, MESSAGE, text)
