"""Flow-IPA with HALO: an animation model and preferred samples -> an aligned LoRA (arXiv 2605.07545).

``halo_error`` and ``flow_ipa_loss`` are the method; ``trainer.train`` is the loop around them.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ipa_core.alignment.halo import halo_error
    from ipa_core.alignment.loss import flow_ipa_loss

__all__ = ["flow_ipa_loss", "halo_error"]


def __getattr__(name: str) -> object:
    """Import the two on first use: importing the package loads no torch."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from ipa_core.alignment import halo, loss

    return loss.flow_ipa_loss if name == "flow_ipa_loss" else halo.halo_error
