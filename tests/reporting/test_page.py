"""A page as Markdown and as HTML."""

from __future__ import annotations

from ipa_core.reporting.page import Chart, Page, Section, Table

PAGE = Page("Results", (Section("Means", ("What was found.", Table(("arm", "PSNR"), (("a | b <i>", "1.0"),)))),))


def test_markdown() -> None:
    assert PAGE.markdown() == (
        "# Results\n\n## Means\n\nWhat was found.\n\n| arm | PSNR |\n| --- | ---: |\n| a \\| b &lt;i> | 1.0 |\n"
    )


def test_html_escapes_and_needs_nothing_from_elsewhere() -> None:
    html = PAGE.html()
    assert "<td>a | b &lt;i&gt;</td>" in html
    assert "<script" not in html and "http:" not in html and "https:" not in html


def test_a_chart_is_a_file_beside_the_markdown_and_part_of_the_html() -> None:
    page = Page("Results", (Section("", (Chart("arms.svg", "gains", b"<svg/>"),)),))
    assert page.markdown() == "# Results\n\n![gains](arms.svg)\n"
    assert page.charts() == {"arms.svg": b"<svg/>"}
    assert '<img alt="gains" src="data:image/svg+xml;base64,PHN2Zy8+">' in page.html()


def test_an_interval_stands_below_its_number() -> None:
    page = Page("Results", (Section("", (Table(("arm", "SSIM: wins"), (("a (b)", "+0.35 (+0.30 to <0.40)"),)),)),))
    html = page.html()
    assert "<td>a (b)</td>" in html and '<th class="n">SSIM<span class="below">wins</span></th>' in html
    assert '+0.35<span class="below">(+0.30 to &lt;0.40)</span>' in html
