"""Flow-IPA with HALO (arXiv 2605.07545): train a LoRA for an animation model on preferred samples.

``halo_error`` and ``flow_ipa_loss`` are the method, ``train`` is the loop. Importing the package loads no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ipa_core.alignment.checkpoint import CheckpointSlot
    from ipa_core.alignment.data import ShardSamples, TrainingSample, prepare
    from ipa_core.alignment.flow import flow_target, interpolate
    from ipa_core.alignment.halo import halo_error
    from ipa_core.alignment.log import StepLog, TensorBoardLog
    from ipa_core.alignment.loss import FlowIPALoss, flow_ipa_loss
    from ipa_core.alignment.processes import Processes, launched
    from ipa_core.alignment.reference import ReferenceTable, reference_errors
    from ipa_core.alignment.trainer import TrainedLoRA, train
    from ipa_core.alignment.visits import epochs_of_run

_HOMES = {
    "CheckpointSlot": "checkpoint",
    "FlowIPALoss": "loss",
    "Processes": "processes",
    "ReferenceTable": "reference",
    "ShardSamples": "data",
    "StepLog": "log",
    "TensorBoardLog": "log",
    "TrainedLoRA": "trainer",
    "TrainingSample": "data",
    "epochs_of_run": "visits",
    "flow_ipa_loss": "loss",
    "flow_target": "flow",
    "halo_error": "halo",
    "interpolate": "flow",
    "launched": "processes",
    "prepare": "data",
    "reference_errors": "reference",
    "train": "trainer",
}

__all__ = [
    "CheckpointSlot",
    "FlowIPALoss",
    "Processes",
    "ReferenceTable",
    "ShardSamples",
    "StepLog",
    "TensorBoardLog",
    "TrainedLoRA",
    "TrainingSample",
    "epochs_of_run",
    "flow_ipa_loss",
    "flow_target",
    "halo_error",
    "interpolate",
    "launched",
    "prepare",
    "reference_errors",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
