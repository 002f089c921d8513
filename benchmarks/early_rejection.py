"""What early rejection costs and saves on the demo's model: `ipa score preview` on configs/demo.yaml, with other shifts
and first passes of few steps. Writes the tables into a page.

    OMP_NUM_THREADS=1 python benchmarks/early_rejection.py --store /tmp/early --output docs/early-rejection.md
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from flows.engine.components import components
from flows.experiments.preview_tables import tables, verdict
from flows.experiments.score_preview import LORA_STEPS, Calibration, calibrate
from ipa_core.config import CandidatesConfig, EarlyConfig, LoraFile, ModelConfig
from ipa_core.config_file import load_config

ROOT = Path(__file__).resolve().parent.parent
CLIPS, CANDIDATES, SHIFTS, FEW_STEPS = 8, 8, (5.0, 16.0), (2, 4)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--store", type=Path, required=True, help="its candidates are kept here")
    parser.add_argument("--output", type=Path, help="Markdown; default: printed")
    parser.add_argument("--clips", type=int, default=CLIPS)
    parser.add_argument("--candidates", type=int, default=CANDIDATES)
    parser.add_argument("--shifts", type=float, nargs="*", default=SHIFTS)
    parser.add_argument("--steps", type=int, nargs="*", default=FEW_STEPS, help="of first passes")
    parser.add_argument("--guidance", type=float, nargs="*", default=(), help="noise levels at which it goes off")
    parser.add_argument("--lora", type=Path, help="a step-distilled one")
    parser.add_argument("--lora-steps", type=int, default=LORA_STEPS)
    parser.add_argument(
        "--set", nargs="*", default=[], help="changes of the config, such as candidates.guidance_scale=2"
    )
    options = parser.parse_args()
    here = [f"execution.store={options.store.resolve()}", "execution.gpus=1", "execution.workers=1"]
    config = load_config(ROOT / "configs" / "demo.yaml", [*here, *options.set])
    started = time.perf_counter()
    found = calibrate(
        config,
        components(),
        options.clips,
        options.candidates,
        shifts=options.shifts,
        few_steps=options.steps,
        unguided=config.candidates.guidance_scale > 1,
        guidance_until=options.guidance,
        lora=None if options.lora is None else LoraFile(path=str(options.lora)),
        lora_steps=options.lora_steps,
    )
    print(f"{time.perf_counter() - started:.0f} s", file=sys.stderr)
    text = page(found)
    if options.output:
        options.output.write_text(text)
    print(text)


def page(found: Calibration) -> str:
    parts = [ABOUT, _markdown(*_formula()), MEASURED.format(clips=found.clips, candidates=found.per_clip)]
    parts += [_markdown(*table) for table in tables(found)]
    return "\n".join([*parts, "\n".join(verdict(found))]) + "\n"


def _markdown(caption: str, align: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    line = "|".join("---:" if side == "r" else "---" for side in align)
    cells = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    return f"{caption}.\n\n| {' | '.join(head)} |\n|{line}|\n{cells}\n"


def _formula() -> tuple[str, str, Sequence[str], Sequence[Sequence[str]]]:
    """Return the share of the steps that is computed, by setting and levels."""
    levels = ((0.9,), (0.8,), (0.7,), (0.6,), (0.9, 0.7))
    rows = []
    for steps, shift in ((12, 3.0), (50, 5.0), (50, 16.0)):
        of_levels = [
            CandidatesConfig(
                model=ModelConfig(path="any"), per_clip=CANDIDATES, steps=steps, shift=shift, early=EarlyConfig(at=at)
            )
            for at in levels
        ]
        shares = [f"{one.early_share:.2f} ({one.steps_to(at[0])})" for one, at in zip(of_levels, levels, strict=True)]
        rows.append((f"{steps} steps, shift {shift:g}", *shares))
    head = ("sampler", *(" and ".join(map(str, at)) for at in levels))
    caption = f"Share of the steps that is computed with K = {CANDIDATES}, by `at` (the steps until the first level)"
    return caption, "lrrrrr", head, rows


ABOUT = """# Early rejection

`candidates.early` stops candidates whose previews have bad hands. At a noise level t (1 is noise) the model's velocity
predicts the clean latents, z - t v. They are decoded and scored by the hand score. The better half of a clip goes on
from where it is; its videos are those of a full generation.

```yaml
candidates:
  per_clip: 8
  early:
    at: [0.9, 0.7]  # noise levels; eight candidates become four, and then two
    keep: 0.5       # share that goes on at each level
    least: 0.02     # a clip whose best preview scores less is given up; 0: no rule
```

- All candidates of a clip are one seed group, because they are compared; `candidates.group` is refused. Another
  `per_clip` generates all of them again.
- These settings, the hand score's settings and its files are in the key of such candidates. Without `early` no key
  changes. The evaluation stops nothing.
- A preview costs its decoding and its score, which the tables leave out. Its step is paid anyway.
- The report lists each stopped candidate with t, its preview's score and its place. `ipa status RUN` and `ipa yield`
  count them. `ipa review` names them beside the clip's finished candidates. `ipa plan` prices the steps that remain.
- A clip in which no driving hand can be scored (`scores.min_hand_size`) gets no candidates, with or without `early`.
  Poses that an older version found don't tell; `ipa run CONFIG --refresh poses` measures them.

`ipa score preview CONFIG --clips 8` measures the tables below on your model. It finishes all candidates once and
replays every setting on them. The noise level decides how much a preview tells, so the saving depends on `shift`.
The last table compares the ways to spend half of the cost: `--shift 5`, `--steps 4` (a first pass from the same noise),
`--unguided`, `--guidance-until 0.9`, and `--lora steps.safetensors --lora-steps 4` (a step-distilled LoRA: off-policy).
"""
MEASURED = """## Measured on the demo's small model

`python benchmarks/early_rejection.py` on {clips} training clips, {candidates} candidates of each. This model has no
guidance to switch off.
"""

if __name__ == "__main__":
    main()
