"""What the embedded models are asked about: scenes of one size, scenes of varied sizes, and photographs."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from .photo import GRID as PHOTO_GRID
from .photo import draw_photo
from .photo_questions import PHOTO_KINDS
from .questions import KINDS, Asker
from .scene import GRID, SPLITS, Scene, draw_scene, varied_grid


@dataclass(frozen=True)
class Domain:
    """Pictures and the questions about them.

    Attributes:
        grid: rows and columns of cells of the picture of a seed.
        draw: the picture of a seed in a split; of a grid, where pictures vary in size.
        kinds: what is asked about them.
        unseen_kinds: kinds that can be about a combination of colour and shape that training never showed.
    """

    name: str
    grid: Callable[..., tuple[int, int]] = field(repr=False)
    draw: Callable[[int, str, tuple[int, int]], Scene] = field(repr=False)
    kinds: Mapping[str, Asker] = field(repr=False)
    unseen_kinds: tuple[str, ...]

    def scene(self, seed: int, split: str = "train") -> Scene:
        return self.draw(seed, split, self.grid(SPLITS[split], seed))


# Signs, bars and words have no shape.
_UNSEEN_KINDS = ("existence", "attribute", "relation", "extreme")
SCENES = Domain("scenes", lambda *_: (GRID, GRID), draw_scene, KINDS, _UNSEEN_KINDS)
VARIED_SCENES = Domain("varied", varied_grid, draw_scene, KINDS, _UNSEEN_KINDS)
PHOTOGRAPHS = Domain(
    "photo",
    lambda *_: (PHOTO_GRID, PHOTO_GRID),
    lambda seed, split, _: draw_photo(seed, split),
    PHOTO_KINDS,
    ("attribute", "exclusion", "extreme"),
)
DOMAINS = {domain.name: domain for domain in (SCENES, VARIED_SCENES, PHOTOGRAPHS)}
