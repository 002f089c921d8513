from __future__ import annotations

from html.parser import HTMLParser

import numpy as np
import pytest

from ipa_core.evaluation import compare
from ipa_core.records import Decision, Ruling
from ipa_core.reporting.charts import Curve
from ipa_core.reporting.reasons import count_by_reason
from ipa_core.reporting.report import (
    FILM_LIMIT,
    ROW_LIMIT,
    SHEET_LIMIT,
    STRIP_LIMIT,
    Sheet,
    clip_lines,
    render_results,
    sheets_to_show,
    strips_to_show,
)
from ipa_core.reporting.run_record import DroppedInput, render_report
from ipa_core.reporting.sheets import encode_jpeg, film
from tests.evaluation.material import candidate_line, paired, report_data, result, run_record, smooth_video

VOID = {"meta", "img", "br", "line", "polyline", "rect", "link", "input", "hr"}
PICTURE = encode_jpeg(np.zeros((8, 8, 3), np.uint8))
SHEET = Sheet(clip="waving.mp4, 0:05", caption="0.41 -> 0.62", reference=PICTURE, rows=(PICTURE,) * 3)


def rendered(**changed: object) -> str:
    return render_report(run_record(), render_results(report_data(**changed)))


class Page(HTMLParser):
    """What a page holds; fails on tags that are not closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.text = ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attributes if name in ("src", "href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def page() -> Page:
    video = smooth_video()
    sheet = SHEET.model_copy(update={"film": film((video, video, video), 8)})
    lines = (candidate_line(0, True, PICTURE), candidate_line(1, False, PICTURE))
    return Page(rendered(sheets=(sheet,), candidates=lines))


def test_the_summary_comes_first(page: Page) -> None:
    text = page.text[page.text.index("Implicit Preference Alignment") :]
    assert text.index("Hands, aligned against base: better") < text.index("Before and after")


def test_it_says_that_the_score_is_a_proxy(page: Page) -> None:
    assert "The hand score is a proxy: the same hand detector chose" in page.text


@pytest.mark.parametrize(
    "part",
    [
        "waving.mp4, 0:05",
        "PSNR-Hand (dB)",
        "FVD ↓",
        "not computed: no extractor configured",
        "strict: one good in every frame",
        "score 0.900 is below the threshold 0.950",
        "phone.mp4",
        "no pictures in the file",
        "-log sigmoid of the gap.",
        "frames: 9",
        "ab" * 32,
    ],
)
def test_it_shows(page: Page, part: str) -> None:
    assert part in page.text


def test_nothing_is_loaded_from_outside(page: Page) -> None:
    assert {address.partition(":")[0] for address in page.addresses if not address.startswith("#")} == {"data"}
    assert "script" not in page.tags


def test_names_from_outside_are_escaped() -> None:
    evil = "<script>alert(1)</script>.mp4"
    drawn = Curve(name='"><script>', about=evil, steps=(0, 1), values=(0.0, 1.0))
    base, aligned = paired(1, gain=0.1)
    results = report_data(
        candidates=(candidate_line(0, True, PICTURE, clip=f'"{evil}'),),
        sheets=(SHEET.model_copy(update={"clip": f'"{evil}', "caption": evil}),),
        curves=(drawn,),
        clips=clip_lines(base, aligned, {base[0].clip_id: evil}),
    )
    dropped = (DroppedInput(source=evil, window=evil, stage="clips", reason=evil),)
    record = run_record(name=evil, config=evil, state="failed", error=evil, dropped=dropped)
    text = render_report(record, render_results(results))
    assert "script" not in Page(text).tags
    assert evil in Page(text).text


def test_a_run_without_comparison_says_why() -> None:
    page = Page(rendered(comparison=None, no_comparison="no clip is held out", curves=()))
    assert "No comparison: no clip is held out" in page.text


def ruling(promote: bool, reason: str) -> Ruling:
    numbers = dict.fromkeys(("win_rate", "win_rate_low", "win_rate_high", "psnr_difference", "ssim_difference"), 0.5)
    return Ruling(promote=promote, reason=reason, clips=12, pairs=24, **numbers)


def test_a_ruling_on_the_base_model_is_told_in_the_summary() -> None:
    page = Page(rendered(ruling=ruling(True, "wins 88% of 24 pairs")))
    words = " ".join(page.text.split())
    assert "By the rule, promoted over the base model: wins 88% of 24 pairs." in words


def test_a_ruling_on_the_champion_shows_the_comparison_with_it() -> None:
    against = compare(*paired(12, gain=-0.1), bootstrap=100, against="the champion")
    page = Page(rendered(ruling=ruling(False, "PSNR falls by 0.80 dB"), champion=against))
    words = " ".join(page.text.split())
    assert "By the rule, not promoted over the champion: PSNR falls by 0.80 dB." in words
    assert against.sentence.startswith("Hands, aligned against the champion: worse") and against.sentence in words


def test_without_a_ruling_there_is_no_promotion(page: Page) -> None:
    assert "promoted" not in page.text


def test_one_clip_shows_the_reason_instead_of_an_interval() -> None:
    page = Page(rendered(comparison=compare(*paired(1, gain=0.1), bootstrap=10)))
    assert "an interval needs two clips" in page.text


def test_the_same_data_gives_the_same_bytes() -> None:
    assert rendered() == rendered()


def test_a_large_run_stays_small() -> None:
    lines = tuple(candidate_line(number, number < 100, PICTURE) for number in range(6000))
    dropped = tuple(
        DroppedInput(source=f"{number}.mp4", window="", stage="poses", reason=f"person of {number} pixels")
        for number in range(3000)
    )
    results = render_results(report_data(candidates=lines, sheets=(SHEET,) * 30))
    text = render_report(run_record(dropped=dropped), results)
    assert len(text) < 3_000_000
    assert text.count("data:image/jpeg") == 4 * SHEET_LIMIT + STRIP_LIMIT
    assert text.count("person of ") == ROW_LIMIT + 1
    assert "5,900" in text  # candidates not kept, counted by reason
    assert "3,000" in text  # dropped inputs, counted by reason


def test_reasons_that_differ_in_numbers_are_one() -> None:
    reasons = ["score 0.1 is below 0.5", "score 0.25 is below 0.5", "unscorable"]
    assert count_by_reason(reasons) == [("score … is below …", 2), ("unscorable", 1)]


def test_reasons_that_name_clips_are_counted_together() -> None:
    reasons = [f"its motion is 0.0{number} from that of clip 3fa91bc0de{number}45678-00{number}" for number in (1, 2)]
    assert count_by_reason(reasons) == [("its motion is … from that of clip …", 2)]


def test_sheets_reach_from_the_largest_gain_to_the_largest_loss() -> None:
    base = [result(f"{number:02d}", 0, "base", 0.5) for number in range(40)]
    aligned = [result(f"{number:02d}", 0, "aligned", 0.5 + (number - 20) / 100) for number in range(40)]
    chosen = sheets_to_show(base, aligned)
    assert len(chosen) == SHEET_LIMIT
    assert (chosen[0], chosen[-1]) == (("39", 0), ("00", 0))


def test_strips_are_half_kept_half_not() -> None:
    decisions = [
        Decision(clip_id=f"{number:03d}", seed=0, score=number / 100, kept=number >= 50, reason="")
        for number in range(100)
    ]
    chosen = {clip for clip, _ in strips_to_show(decisions)}
    assert len(chosen) == STRIP_LIMIT
    assert {"099", "050", "049", "000"} <= chosen


def test_a_candidate_shows_what_was_lowest_in_its_worst_frames() -> None:
    page = rendered(candidates=(candidate_line(0, kept=True),))
    assert "fingers 0.250, pck 0.750" in page


def test_films_beyond_the_limit_are_left_out() -> None:
    large = SHEET.model_copy(update={"film": bytes(FILM_LIMIT // 2)})
    assert rendered(sheets=(large,) * 3).count("<video") == 2


def test_a_clips_line_has_the_means_of_its_pairs() -> None:
    base = [result("a", seed, "base", score, psnr=20.0) for seed, score in ((1, 0.2), (2, 0.4), (3, None))]
    aligned = [result("a", seed, "aligned", 0.5, psnr=21.0) for seed in (1, 2, 3)]
    [line] = clip_lines(base, aligned, {"a": "waving.mp4"})
    assert (line.clip, line.pairs, line.values["psnr"]) == ("waving.mp4", 3, (20.0, 21.0))
    assert line.values["hand_score"] == pytest.approx((0.3, 0.5))
    assert line.difference("hand_score") == pytest.approx(0.2)


def test_clips_come_from_the_largest_gain_to_the_largest_loss() -> None:
    base = [result(clip, 1, "base", 0.5) for clip in "abc"]
    aligned = [result(clip, 1, "aligned", score) for clip, score in (("a", 0.4), ("b", None), ("c", 0.6))]
    assert [line.clip for line in clip_lines(base, aligned, dict(zip("abc", "abc", strict=True)))] == ["c", "b", "a"]
