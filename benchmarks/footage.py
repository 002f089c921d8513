"""The pictures that we read of each kind of footage, against ffmpeg's. Prints the table of docs/footage.md.

    python -m benchmarks.footage [--write]

Each kind is written on the spot by ffmpeg's encoders. `unaware` is a reader that only decodes.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import av
import numpy as np

from ipa_core.video import frames
from tests.clips.kinds import FLAGS, KINDS, Kind, psnr

PAGE = Path(__file__).resolve().parent.parent / "docs" / "footage.md"
START = "| kind | against | ours | unaware reader |"


def row(kind: Kind) -> str:
    with tempfile.TemporaryDirectory() as folder:
        path, right = kind.write(Path(folder))
        ours = psnr([frame.picture for frame in frames(path)], right)
        with av.open(str(path)) as container:
            plain = [one.to_ndarray(format="rgb24", interpolation=FLAGS) for one in container.decode(video=0)]
    plain = [one for one in plain for _ in range(len(right) // len(plain))]  # A frame stands for both of its fields.
    alike = all(one.shape == other.shape for one, other in zip(plain, right, strict=True))
    unaware = _shown(psnr(plain, right)) if alike else "other sides"
    return f"| {kind.name} | {kind.against} | {_shown(ours)} | {unaware} |"


def _shown(decibels: float) -> str:
    return "equal" if np.isinf(decibels) else f"{decibels:.1f} dB"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="put the table into docs/footage.md")
    table = "\n".join([START, "|---|---|---|---|", *map(row, KINDS)]) + "\n"
    print(table, end="")
    if parser.parse_args().write:
        before, _, after = PAGE.read_text().partition(START)
        rest = after[after.index("\n\n") :] if "\n\n" in after else "\n"
        PAGE.write_text(before + table.rstrip("\n") + rest)


if __name__ == "__main__":
    main()
