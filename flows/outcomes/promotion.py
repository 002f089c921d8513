"""After evaluation: register the run's adapter and apply the rule for replacing the champion."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal

from flows.engine.run import Run
from flows.engine.stage import blob
from flows.engine.summary import Promotion
from flows.engine.view import View
from flows.stages.candidates import added_loras, generator
from flows.stages.clips import named_clips
from flows.stages.evaluation import Compared, comparison, comparisons, sampled_otherwise
from flows.stages.finetune import Finetune, lora_digest
from flows.stages.people import people_of
from flows.stages.selection import Selection
from flows.stages.shards import Shards, samples_of
from flows.training.job import LORA
from ipa_core.evaluation import promotion_rule
from ipa_core.records import Ruling
from storage.registry import SHORT, Decided, Lineage, Registered, Registry, State


def promote(run: Run) -> None:
    """Register the adapter and apply the rule. Do nothing if the run made no comparison.

    The rule is applied once to the same evidence, so a repeated run changes nothing. Only a person brings a former
    champion back. Raises ``StoreError``.
    """
    compared = _compared(run.view)
    if compared is None:
        return
    registry, entry = Registry(run.store.address), _entry(run)
    registry.append(lambda state: None if state.knows(entry) else entry)
    event = registry.append(lambda state: _decide(state, entry, compared, _rule(run.view, compared, state)))
    if isinstance(event, Decided):
        decision: Literal["promoted", "refused"] = "promoted" if event.kind == "promoted" else "refused"
        run.promotion = Promotion(entry.adapter, decision, event.reason, event.against)
    else:
        reason = _why_unchanged(registry.state(), entry.adapter, compared)
        run.promotion = Promotion(entry.adapter, "unchanged", reason, compared.against)


def ruling_of(view: View) -> Ruling | None:
    """Return the ruling on this run's adapter, whatever the registry says; None without a comparison."""
    compared = _compared(view)
    return None if compared is None else _rule(view, compared, view.inputs.registry)


def _rule(view: View, compared: Compared, state: State) -> Ruling:
    own = lora_digest(view)
    assert own is not None  # It was compared.
    earlier = state.judged_before(own, view.inputs.model_weights, compared.key)
    against_base = None if compared.against is None else comparison(view)
    ruling = promotion_rule(compared.comparison, view.config.rounds, earlier=earlier, against_base=against_base)
    sampled = sampled_otherwise(view.config)
    return ruling.model_copy(update={"reason": f"{ruling.reason}; sampled {sampled}"}) if sampled else ruling


def _compared(view: View) -> Compared | None:
    """Return the comparison to rule on: with the champion, or with the base model if there is none."""
    return next(reversed(comparisons(view)), None)


def _decide(state: State, entry: Registered, compared: Compared, ruling: Ruling) -> Decided | None:
    if state.role(entry.adapter) != "challenger" or state.ruled(entry.adapter, compared.key):
        return None
    champion = state.champion(entry.lineage.model)
    current = champion == compared.against
    reason = ruling.reason
    if not current:
        now = f"champion is {champion[:SHORT]}" if champion else "there is no champion"
        reason = f"the champion changed while the run was going: now {now}; the next run compares with that"
    return Decided(
        kind="promoted" if current and ruling.promote else "refused",
        at=_now(),
        adapter=entry.adapter,
        against=compared.against,
        by="the rule",
        reason=reason,
        run=entry.run,
        evidence=compared.key if current else None,
        ruling=ruling,
    )


def _why_unchanged(state: State, adapter: str, compared: Compared) -> str:
    role = state.role(adapter)
    if role == "champion":
        return "it is the champion"
    if role == "former":
        return "it was champion before; `ipa models promote` brings it back"
    before = state.ruled(adapter, compared.key)
    assert before is not None
    return f"refused on the same evidence in run {before.run}: {before.reason}"


def _entry(run: Run) -> Registered:
    view, store = run.view, run.store
    clips = [named.clip for named in named_clips(view)]
    (trained, lora), (packed, shard), (selected, _) = (view.done(stage)[0] for stage in (Finetune, Shards, Selection))
    kept = {sample.clip_id for sample in samples_of(packed, store)}
    aligned = comparisons(view)[0].comparison.metrics
    return Registered(
        at=_now(),
        run=run.folder.run_id,
        adapter=blob(lora, LORA),
        files={name: output.digest for name, output in lora.outputs.items()},
        lineage=Lineage(
            model=trained.action.inputs["model"],
            generator=generator(view),
            loras=added_loras(view),
            scores=selected.action.inputs["scores"],
            samples=packed.action.inputs["samples"],
            shards={name: output.digest for name, output in shard.outputs.items()},
            selection=selected.action.key,
            finetune=trained.action.key,
            config=run.config.model_dump(mode="json", exclude={"execution"}),
        ),
        metrics={metric.name: metric.aligned for metric in aligned if metric.aligned is not None},
        trained_on=people_of(clip for clip in clips if clip.clip_id in kept),
        held_out=people_of(clip for clip in clips if clip.split == "held_out"),
    )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
