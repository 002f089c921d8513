"""A page of headings, sentences and tables, as Markdown and as HTML."""

from __future__ import annotations

import base64
from dataclasses import dataclass

from jinja2 import Environment, PackageLoader, StrictUndefined


@dataclass(frozen=True)
class Table:
    """Cells are text; all columns but the first are numbers."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Section:
    """``heading`` is empty for none. Each block is text or a table."""

    heading: str
    blocks: tuple[str | Table, ...]


@dataclass(frozen=True)
class Page:
    title: str
    sections: tuple[Section, ...]

    def markdown(self) -> str:
        """Return Markdown without wrapped lines: a paragraph is a line."""
        parts = [f"# {self.title}"]
        for section in self.sections:
            parts += [f"## {section.heading}"] if section.heading else []
            parts += [block if isinstance(block, str) else _markdown(block) for block in section.blocks]
        return "\n\n".join(parts) + "\n"

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
    environment.filters["data_uri"] = data_uri
    environment.filters["film_uri"] = lambda film: data_uri(film, "mp4", "video")
    environment.tests["text"] = lambda block: isinstance(block, str)
    return environment


def _markdown(table: Table) -> str:
    def line(cells: tuple[str, ...]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    rule = ("---", *["---:"] * (len(table.columns) - 1))
    return "\n".join([line(table.columns), line(rule), *map(line, table.rows)])
