"""What the curves of a training show, by the method that learnt. The numbers are those of ``alignment.log.StepLog``."""

from __future__ import annotations

from ipa_core.config import AlignmentConfig

_LOSS = {
    "ipa": "-log sigmoid(x); ln 2 = 0.693 before the first step",
    "sft": "e_theta",
    "dpo": "-log sigmoid(x of the better - x of the worse); ln 2 = 0.693 before the first step",
    "kto": "-|a| log sigmoid(sign(a) x), a: the score less its clip's mean",
    "awm": "-a times the clipped likelihood ratio exp(x), a: the score less its clip's mean",
    "nft": "DiffusionNFT's loss; 0 before the first step",
}
_TIME = {"paper": "(1 - t)^2", "flat": "the mean of (1 - t)^2", "sampler": "the density of the sampler's steps"}


def about_curves(config: AlignmentConfig) -> dict[str, str]:
    """Return the names of the curves in the order of the report, with a line about each."""
    videos = "preferred and other videos" if config.learns_from_losers else "the preferred videos"
    likelier = "; above 0: they became likelier" if not config.learns_from_losers else ""
    anchored = " + the anchor" if config.anchor else ""
    return {
        "loss": _LOSS[config.method] + anchored,
        "model_error": "e_theta, hand-weighted error of the model that is trained",
        "reference_error": "e_ref, the same of the frozen model",
        "gap": f"e_ref - e_theta, mean of {videos}{likelier}",
        "logit": f"x = beta/2 w gap, w: {_TIME[config.time_weight]}; a share of what beta lets it learn",
        "weight": "factor of the gradient of e_theta; near 0: saturated",
        "drift": "distance to the frozen model's velocity, as a share of its length",
        "grad_norm": "gradient norm before clipping",
    }
