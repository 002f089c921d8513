"""The promotion rule: when a challenger replaces the champion."""

from __future__ import annotations

from ipa_core.config import RoundsConfig
from ipa_core.evaluation.comparison import Comparison, MetricComparison
from ipa_core.records import Ruling


def promotion_rule(
    comparison: Comparison, config: RoundsConfig, *, earlier: int = 0, against_base: Comparison | None = None
) -> Ruling:
    """Return whether to promote the challenger (``aligned``) over ``base`` (the champion, or else the base model).

    All of these must hold on the held-out clips, with the same clips and seeds for both:

    - at least ``config.min_clips`` clips have a hand score;
    - the 95 % interval of the challenger's win rate in hand score, over pairs and bootstrapped over clips, lies above
      one half. A tie is half a win, so equal models have one half;
    - an equal model would do as well with a chance of at most alpha / (k (k + 1)), by Wilcoxon's signed-rank test of
      the clips' differences in hand score. k counts the challengers: ``earlier`` ones of this base model were judged
      before. All chances together sum up to alpha, so luck promotes no equal model however many are tried;
    - PSNR and SSIM of the whole picture and the sharpness of the hands, means over the pairs, fall by no more than the
      margins. A comparison of an earlier version has no sharpness; it is judged without. Where every clip animates
      another person than its driving video shows, there is nothing to compare with; the reason says so.
    - with a champion, the same margins hold ``against_base``, and half of the pairs with the base are won: a chain of
      champions does not lose piece by piece what the base model had.

    The win rate leaves out pairs with a video without hand score; PSNR and SSIM do not. The driving video determines
    whether hands can be scored, so both models lose the same pairs. A video that shows nothing counts as 0.
    """
    hands, psnr, ssim = (_metric(comparison, name) for name in ("hand_score", "psnr", "ssim"))
    interval, blur = hands.win_rate_interval, _sharpness_drop(comparison)
    p_value, p_limit = _p_value(comparison), config.alpha / ((earlier + 1) * (earlier + 2))
    refusal = (
        _too_few(hands, config)
        or _not_won(hands)
        or _may_be_luck(p_value, p_limit, earlier, config)
        or _picture_worse(comparison, config)
        or _worse_than_base(against_base, config)
    )
    return Ruling(
        promote=refusal is None,
        reason=refusal
        or f"{_won(hands)}; {_picture(psnr, ssim)}{_sharpness(blur)}{_spent(p_value, p_limit, earlier, config)}",
        clips=hands.clips,
        pairs=hands.pairs,
        win_rate=hands.win_rate,
        win_rate_low=interval.low if interval else None,
        win_rate_high=interval.high if interval else None,
        psnr_difference=psnr.difference,
        ssim_difference=ssim.difference,
        sharpness_drop=blur,
        challenger=earlier + 1,
        p_value=p_value,
        p_limit=round(p_limit, 6),
    )


def _too_few(hands: MetricComparison, config: RoundsConfig) -> str | None:
    if hands.clips >= config.min_clips:
        return None
    return f"held-out clips with hand scores to compare: {hands.clips}; rounds.min_clips asks for {config.min_clips}"


def _not_won(hands: MetricComparison) -> str | None:
    if hands.win_rate_interval is None:
        return hands.no_interval
    return None if hands.win_rate_interval.low > 0.5 else f"{_won(hands)}, which does not lie above one half"


def _won(hands: MetricComparison) -> str:
    interval = hands.win_rate_interval
    assert interval is not None
    return f"wins {hands.win_rate:.0%} of {hands.pairs} pairs, 95 % interval {interval.low:.0%} to {interval.high:.0%}"


def _p_value(comparison: Comparison) -> float | None:
    differences = [change.difference for change in comparison.by_clip]
    if len(differences) < 2:
        return None
    if not any(differences):
        return 1.0
    from scipy.stats import wilcoxon  # It takes a second to import.

    return round(float(wilcoxon(differences, zero_method="zsplit", alternative="greater").pvalue), 6)


def _may_be_luck(p_value: float | None, limit: float, earlier: int, config: RoundsConfig) -> str | None:
    if config.alpha == 1 or p_value is None or p_value <= limit:
        return None
    return (
        f"an equal model does as well with a chance of {p_value:.2g}; as challenger {earlier + 1} of its base model it "
        f"may spend {limit:.2g} of rounds.alpha = {config.alpha:g}"
    )


def _spent(p_value: float | None, limit: float, earlier: int, config: RoundsConfig) -> str:
    return "" if config.alpha == 1 else f"; challenger {earlier + 1}, chance of luck {p_value:.2g} of {limit:.2g}"


def _picture_worse(comparison: Comparison, config: RoundsConfig, than: str = "") -> str | None:
    psnr, ssim = (_metric(comparison, name) for name in ("psnr", "ssim"))
    if psnr.difference is None or ssim.difference is None:
        return None
    if -psnr.difference > config.max_psnr_drop:
        return f"PSNR falls by {-psnr.difference:.2f} dB{than}, rounds.max_psnr_drop allows {config.max_psnr_drop:g}"
    if -ssim.difference > config.max_ssim_drop:
        return f"SSIM falls by {-ssim.difference:.3f}{than}, rounds.max_ssim_drop allows {config.max_ssim_drop:g}"
    blur = _sharpness_drop(comparison)
    if blur is not None and blur > config.max_sharpness_drop:
        allowed = f"rounds.max_sharpness_drop allows {config.max_sharpness_drop:.0%}"
        return f"hands lose {blur:.0%} of their sharpness{than}, {allowed}"
    return None


def _worse_than_base(comparison: Comparison | None, config: RoundsConfig) -> str | None:
    if comparison is None or not comparison.pairs:
        return None
    hands = _metric(comparison, "hand_score")
    if hands.win_rate is not None and hands.win_rate < 0.5:
        return f"wins only {hands.win_rate:.0%} of {hands.pairs} pairs with the base model"
    return _picture_worse(comparison, config, " against the base model")


def _picture(psnr: MetricComparison, ssim: MetricComparison) -> str:
    if psnr.difference is None or ssim.difference is None:
        return "the picture was not judged, because no clip has a true video"
    return f"PSNR {psnr.difference:+.2f} dB, SSIM {ssim.difference:+.3f}"


def _sharpness_drop(comparison: Comparison) -> float | None:
    hands = next((metric for metric in comparison.metrics if metric.name == "sharpness_hand"), None)
    if hands is None or not hands.base or hands.difference is None:
        return None
    return round(-hands.difference / hands.base, 6)


def _sharpness(drop: float | None) -> str:
    return "" if drop is None else f", sharpness of hands {-drop:+.0%}"


def _metric(comparison: Comparison, name: str) -> MetricComparison:
    return next(metric for metric in comparison.metrics if metric.name == name)
