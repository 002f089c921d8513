"""A page as Markdown and as HTML."""

from __future__ import annotations

from ipa_core.reporting.page import Page, Section, Table

PAGE = Page("Results", (Section("Means", ("What was found.", Table(("arm", "PSNR"), (("a | b <i>", "1.0"),)))),))


def test_markdown() -> None:
    assert PAGE.markdown() == (
        "# Results\n\n## Means\n\nWhat was found.\n\n| arm | PSNR |\n| --- | ---: |\n| a \\| b <i> | 1.0 |\n"
    )


def test_html_escapes_and_needs_nothing_from_elsewhere() -> None:
    html = PAGE.html()
    assert "<td>a | b &lt;i&gt;</td>" in html
    assert "<script" not in html and "http" not in html
