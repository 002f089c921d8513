"""The promotion rule: when a challenger replaces the champion."""

from __future__ import annotations

from ipa_core.config import RoundsConfig
from ipa_core.evaluation.comparison import Comparison, MetricComparison
from ipa_core.records import Ruling


def promotion_rule(comparison: Comparison, config: RoundsConfig) -> Ruling:
    """Return whether to promote the challenger (``aligned``) over ``base`` (the champion, or else the base model).

    All of these must hold on the held-out clips, with the same clips and seeds for both:

    - at least ``config.min_clips`` clips have a hand score;
    - the 95 % interval of the challenger's win rate in hand score, over pairs and bootstrapped over clips, lies above
      one half. A tie is half a win, so equal models have one half;
    - PSNR and SSIM of the whole picture and the sharpness of the hands, means over the pairs, fall by no more than the
      margins. A comparison of an earlier version has no sharpness; it is judged without.

    The win rate leaves out pairs with a video without hand score; PSNR and SSIM do not. The driving video determines
    whether hands can be scored, so both models lose the same pairs.
    """
    hands, psnr, ssim = (_metric(comparison, name) for name in ("hand_score", "psnr", "ssim"))
    interval = hands.win_rate_interval
    blur = _sharpness_drop(comparison)
    refusal = (
        _too_few(hands, config) or _not_won(hands) or _picture_worse(psnr, ssim, config) or _hands_blurred(blur, config)
    )
    return Ruling(
        promote=refusal is None,
        reason=refusal
        or f"{_won(hands)}; PSNR {psnr.difference:+.2f} dB, SSIM {ssim.difference:+.3f}{_sharpness(blur)}",
        clips=hands.clips,
        pairs=hands.pairs,
        win_rate=hands.win_rate,
        win_rate_low=interval.low if interval else None,
        win_rate_high=interval.high if interval else None,
        psnr_difference=psnr.difference,
        ssim_difference=ssim.difference,
        sharpness_drop=blur,
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


def _picture_worse(psnr: MetricComparison, ssim: MetricComparison, config: RoundsConfig) -> str | None:
    assert psnr.difference is not None and ssim.difference is not None
    if -psnr.difference > config.max_psnr_drop:
        return f"PSNR falls by {-psnr.difference:.2f} dB, rounds.max_psnr_drop allows {config.max_psnr_drop:g}"
    if -ssim.difference > config.max_ssim_drop:
        return f"SSIM falls by {-ssim.difference:.3f}, rounds.max_ssim_drop allows {config.max_ssim_drop:g}"
    return None


def _picture(psnr: MetricComparison, ssim: MetricComparison) -> str:
    return f"PSNR {psnr.difference:+.2f} dB, SSIM {ssim.difference:+.3f}"


def _sharpness_drop(comparison: Comparison) -> float | None:
    hands = next((metric for metric in comparison.metrics if metric.name == "sharpness_hand"), None)
    if hands is None or not hands.base or hands.difference is None:
        return None
    return round(-hands.difference / hands.base, 6)


def _hands_blurred(drop: float | None, config: RoundsConfig) -> str | None:
    if drop is None or drop <= config.max_sharpness_drop:
        return None
    return f"hands lose {drop:.0%} of their sharpness, rounds.max_sharpness_drop allows {config.max_sharpness_drop:.0%}"


def _sharpness(drop: float | None) -> str:
    return "" if drop is None else f", sharpness of hands {-drop:+.0%}"


def _metric(comparison: Comparison, name: str) -> MetricComparison:
    return next(metric for metric in comparison.metrics if metric.name == name)
