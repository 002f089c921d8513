"""What early rejection costs and saves on the demo's model: `ipa score preview` on configs/demo.yaml, with other shifts
and first passes of few steps. Writes the tables into a page.

    OMP_NUM_THREADS=1 python benchmarks/early_rejection.py --store /tmp/early --output docs/early-rejection.md
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from flows.engine.components import components
from flows.experiments.score_preview import Calibration, calibrate, tables, verdict
from ipa_core.config_file import load_config

ROOT = Path(__file__).resolve().parent.parent
CLIPS, CANDIDATES, SHIFTS, FEW_STEPS = 8, 8, (16.0, 5.0), (4, 6)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--store", type=Path, required=True, help="its candidates are kept here")
    parser.add_argument("--output", type=Path, help="Markdown; default: printed")
    parser.add_argument("--clips", type=int, default=CLIPS)
    options = parser.parse_args()
    here = [f"execution.store={options.store.resolve()}", "execution.gpus=1", "execution.workers=1"]
    config = load_config(ROOT / "configs" / "demo.yaml", here)
    started = time.perf_counter()
    found = calibrate(config, components(), options.clips, CANDIDATES, shifts=SHIFTS, few_steps=FEW_STEPS)
    print(f"{time.perf_counter() - started:.0f} s", file=sys.stderr)
    text = page(found)
    if options.output:
        options.output.write_text(text)
    print(text)


def page(found: Calibration) -> str:
    parts = [(ABOUT.format(clips=found.clips, candidates=found.per_clip))]
    for caption, align, head, rows in tables(found):
        line = "|".join("---:" if side == "r" else "---" for side in align)
        cells = "\n".join(f"| {' | '.join(row)} |" for row in rows)
        parts.append(f"{caption}.\n\n| {' | '.join(head)} |\n|{line}|\n{cells}\n")
    return "\n".join([*parts, "\n".join(verdict(found))]) + "\n"


ABOUT = """# Early rejection

"""

if __name__ == "__main__":
    main()
