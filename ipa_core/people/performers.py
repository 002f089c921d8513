"""The rendered people: build and colours. Six fixed ones play in the demo. The small model is trained on strangers,
each drawn from a seed."""

from __future__ import annotations

import colorsys
from dataclasses import dataclass
from typing import Final

import numpy as np

Colour = tuple[float, float, float]
"""sRGB, each channel in [0, 1]."""
PROMPT: Final = "A person gestures with both hands."
"""Prompt of all rendered clips. Only the reference image shows how a person looks."""


@dataclass(frozen=True)
class Performer:
    """A rendered adult. Clothes keep away from skin hues, so that nobody looks undressed at 96 pixels."""

    name: str
    gender: float
    """anny's phenotype in [0, 1]: 0 male, 1 female. Age, muscle and weight are in [0, 1] too."""
    age: float
    """At least 0.67, a young adult."""
    muscle: float
    weight: float
    skin: Colour
    hair: Colour
    nape_hair: bool
    """Whether hair covers the nape too."""
    shirt: Colour
    backdrop: tuple[Colour, Colour]
    """Colours of the backdrop at the top left and the bottom right."""

    def __post_init__(self) -> None:
        if self.age < 0.67:
            raise ValueError(f"performers are adults: age must be at least 0.67, got {self.age}")


PERFORMERS: Final[tuple[Performer, ...]] = (
    Performer(
        name="ada",
        gender=0.95,
        age=0.70,
        muscle=0.45,
        weight=0.45,
        skin=(0.90, 0.74, 0.65),
        hair=(0.13, 0.09, 0.08),
        nape_hair=True,
        shirt=(0.05, 0.50, 0.50),
        backdrop=((0.80, 0.82, 0.84), (0.58, 0.62, 0.68)),
    ),
    Performer(
        name="bela",
        gender=0.05,
        age=0.85,
        muscle=0.50,
        weight=0.55,
        skin=(0.86, 0.66, 0.55),
        hair=(0.58, 0.57, 0.56),
        nape_hair=False,
        shirt=(0.12, 0.18, 0.45),
        backdrop=((0.62, 0.74, 0.70), (0.40, 0.52, 0.50)),
    ),
    Performer(
        name="chidi",
        gender=0.05,
        age=0.72,
        muscle=0.60,
        weight=0.45,
        skin=(0.43, 0.28, 0.20),
        hair=(0.05, 0.045, 0.04),
        nape_hair=False,
        shirt=(0.88, 0.90, 0.93),
        backdrop=((0.45, 0.56, 0.72), (0.27, 0.34, 0.50)),
    ),
    Performer(
        name="dora",
        gender=0.90,
        age=0.75,
        muscle=0.40,
        weight=0.55,
        skin=(0.93, 0.79, 0.71),
        hair=(0.66, 0.54, 0.33),
        nape_hair=True,
        shirt=(0.36, 0.16, 0.50),
        backdrop=((0.56, 0.62, 0.56), (0.30, 0.38, 0.34)),
    ),
    Performer(
        name="emre",
        gender=0.10,
        age=0.69,
        muscle=0.55,
        weight=0.40,
        skin=(0.78, 0.58, 0.45),
        hair=(0.24, 0.15, 0.10),
        nape_hair=False,
        shirt=(0.10, 0.42, 0.16),
        backdrop=((0.76, 0.76, 0.84), (0.50, 0.50, 0.64)),
    ),
    Performer(
        name="fay",
        gender=0.85,
        age=0.68,
        muscle=0.45,
        weight=0.45,
        skin=(0.60, 0.41, 0.29),
        hair=(0.07, 0.06, 0.06),
        nape_hair=False,
        shirt=(0.62, 0.65, 0.70),
        backdrop=((0.34, 0.40, 0.46), (0.18, 0.22, 0.28)),
    ),
)


def performer_named(name: str) -> Performer:
    """Return one of the six. Raises ``KeyError`` for any other name."""
    for performer in PERFORMERS:
        if performer.name == name:
            return performer
    raise KeyError(f"no performer is called {name!r}; there are {', '.join(p.name for p in PERFORMERS)}")


def random_performer(seed: int) -> Performer:
    """Return a stranger who follows from the seed."""
    rng = np.random.default_rng([seed, 6])
    tone = rng.uniform()
    skin = _between((0.94, 0.80, 0.72), (0.28, 0.18, 0.13), tone)
    hair = _between((0.05, 0.04, 0.04), (0.70, 0.58, 0.40), rng.uniform() ** 2)
    while True:
        # The shirt's hue differs from skin, or it is bright or dark enough not to look like skin.
        shirt = colorsys.hsv_to_rgb(rng.uniform(0.2, 0.9), rng.uniform(0.0, 0.8), rng.uniform(0.1, 0.95))
        if max(abs(one - other) for one, other in zip(shirt, skin, strict=True)) > 0.2:
            break
    light = colorsys.hsv_to_rgb(rng.uniform(), rng.uniform(0, 0.5), rng.uniform(0.3, 0.95))
    return Performer(
        name=f"person {seed}",
        gender=rng.uniform(),
        age=rng.uniform(0.67, 0.9),
        muscle=rng.uniform(0.35, 0.65),
        weight=rng.uniform(0.35, 0.65),
        skin=skin,
        hair=hair,
        nape_hair=bool(rng.integers(2)),
        shirt=shirt,
        backdrop=(light, _between(light, (0.1, 0.1, 0.12), rng.uniform(0.1, 0.6))),
    )


def _between(first: Colour, last: Colour, share: float) -> Colour:
    red, green, blue = ((1 - share) * one + share * other for one, other in zip(first, last, strict=True))
    return red, green, blue
