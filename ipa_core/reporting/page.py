"""A page of headings, sentences, tables and charts, as Markdown and as HTML."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

CONTENT_SECURITY_POLICY: Final = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; media-src data:; base-uri 'none'; form-action 'none'"
)
"""Of pages that are one file: no script runs, and nothing is loaded or sent, wherever the file is opened."""


@dataclass(frozen=True)
class Table:
    """Cells are text; all columns but the first are numbers."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Chart:
    """An SVG. The Markdown shows the file ``name`` beside it, the HTML holds it."""

    name: str
    about: str
    svg: bytes


Block = str | Table | Chart


@dataclass(frozen=True)
class Section:
    """``heading`` is empty for none."""

    heading: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Page:
    title: str
    sections: tuple[Section, ...]

    def markdown(self) -> str:
        """Return Markdown without wrapped lines: a paragraph is a line."""
        parts = [f"# {self.title}"]
        for section in self.sections:
            parts += [f"## {section.heading}"] if section.heading else []
            parts += map(_markdown, section.blocks)
        return "\n\n".join(parts) + "\n"

    def charts(self) -> dict[str, bytes]:
        """Return the files that the Markdown shows, by name."""
        blocks = [block for section in self.sections for block in section.blocks]
        return {block.name: block.svg for block in blocks if isinstance(block, Chart)}

    def html(self) -> str:
        """Return one file that needs no network and no script; any text is escaped."""
        return templates().get_template("page.html.j2").render(page=self)


def data_uri(data: bytes, kind: str = "jpeg", what: str = "image") -> str:
    return f"data:{what}/{kind};base64," + base64.b64encode(data).decode()


def templates() -> Environment:
    """Return the templates of the HTML pages: text is escaped, and a name that a page lacks is an error."""
    environment = Environment(
        loader=PackageLoader("ipa_core.reporting", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["content_security_policy"] = CONTENT_SECURITY_POLICY
    environment.filters["data_uri"] = data_uri
    environment.filters["film_uri"] = lambda film: data_uri(film, "mp4", "video")
    environment.filters["stacked"] = _stacked
    environment.tests["text"] = lambda block: isinstance(block, str)
    environment.tests["chart"] = lambda block: isinstance(block, Chart)
    return environment


def _stacked(cell: str) -> Markup:
    """Put the interval of a number below it, and so the second part of a column's name: a line each is narrower."""
    for mark, kept in ((" (", "("), (": ", "")):
        first, found, rest = cell.partition(mark)
        if found:
            return Markup('{}<span class="below">{}</span>').format(first, kept + rest)
    return escape(cell)


def _markdown(block: Block) -> str:
    match block:
        case Table():
            return _markdown_table(block)
        case Chart():
            return f"![{block.about}]({block.name})"
        case _:
            return block


def _cell(text: str) -> str:
    """A name of a person or file stays text, in its own cell."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def _markdown_table(table: Table) -> str:
    def line(cells: tuple[str, ...]) -> str:
        return "| " + " | ".join(_cell(cell) for cell in cells) + " |"

    rule = ("---", *["---:"] * (len(table.columns) - 1))
    return "\n".join([line(table.columns), line(rule), *map(line, table.rows)])
