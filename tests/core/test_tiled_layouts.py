"""Where the tiles of an image lie, against what cuts it: the functions of the stock processors."""

import pytest
import torchvision_operators  # noqa: F401  lets torchvision be imported later
from hypothesis import given
from hypothesis import strategies as st
from transformers import Idefics3ImageProcessor, SmolVLMImageProcessor
from transformers.models.cohere2_vision import image_processing_cohere2_vision as cohere2
from transformers.models.got_ocr2 import image_processing_got_ocr2 as got_ocr2

from hf_zspa.checkpoints.families import FAMILIES

TILE, SIDE = 512, 16
VISION = {"image_size": TILE, "patch_size": 16}
sides = st.integers(1, 4000)


def placed(family: str, height: int, width: int, down: int, across: int):
    """Rows and columns of the grid over the tiles where a processor makes of an image `down` rows of `across` tiles;
    one over the whole image where it makes one."""
    tiles = down * across + (down * across > 1)
    layout = FAMILIES[family].layout({"vision_config": VISION}, (height, width, tiles * SIDE**2))
    assert layout.count == tiles * SIDE**2
    assert sorted(t for grid in layout.grids for row in grid.rows for t in row) == list(range(layout.count))
    rows = layout.grids[-1].rows
    return len(rows) // SIDE, len(rows[0]) // SIDE


@given(height=sides, width=sides, most=st.integers(1, 12))
@pytest.mark.parametrize("family", ["internvl", "aya_vision"])
def test_tiles_of_the_nearest_ratio(family, height, width, most):
    across, down = got_ocr2.get_optimal_tiled_canvas((height, width), (TILE, TILE), 1, most)
    assert placed(family, height, width, down, across) == (down, across)


@given(height=sides, width=sides, most=st.integers(1, 12))
def test_tiles_of_the_nearest_size(height, width, most):
    across, down = (int(n) for n in cohere2.get_optimal_tiled_canvas((height, width), (TILE, TILE), 1, most))
    assert placed("cohere2_vision", height, width, down, across) == (down, across)


@given(height=sides, width=sides, longest=st.integers(1, 5))
@pytest.mark.parametrize(
    ("family", "processor"), [("smolvlm", SmolVLMImageProcessor), ("idefics3", Idefics3ImageProcessor)]
)
def test_tiles_along_the_longer_side(family, processor, height, width, longest):
    sizes = {"size": {"longest_edge": longest * TILE}, "max_image_size": {"longest_edge": TILE}}
    _, down, across = processor(**sizes).get_number_of_image_patches(height, width, sizes)
    assert placed(family, height, width, max(1, down), max(1, across)) == (max(1, down), max(1, across))


@pytest.mark.parametrize(
    ("family", "vision", "expected"),
    [
        ("internvl", {"image_size": [448, 448], "patch_size": [14, 14]},
         [("448 × 448 pixels", 256), ("1344 × 896 pixels", 1792)]),
        ("aya_vision", {"image_size": 364, "patch_size": 14}, [("364 × 364 pixels", 169), ("1092 × 728 pixels", 1183)]),
        ("smolvlm", {"image_size": 512, "patch_size": 32},
         [("2048 × 2048 pixels", 1088), ("2048 × 1536 pixels", 832)]),
    ],
)  # fmt: skip
def test_examples(family, vision, expected):
    assert FAMILIES[family].examples({"vision_config": vision}) == expected
    assert FAMILIES[family].examples({}) == FAMILIES[family].examples({"vision_config": {"image_size": "a"}}) == []


def test_a_small_image_of_lfm2_vl_keeps_its_shape_and_a_large_one_has_tiles_before_it():
    layout = FAMILIES["lfm2_vl"].layout
    assert [len(grid.rows) for grid in layout({}, (12, 20)).grids] == [6]
    large = layout({}, [(32, 32)] * 6 + [(24, 36)])
    whole, tiles = large.grids
    assert large.count == 6 * 256 + 12 * 18
    assert (len(whole.rows), len(whole.rows[0]), whole.rows[0][0]) == (12, 18, 6 * 256)
    assert (len(tiles.rows), len(tiles.rows[0])) == (2 * 16, 3 * 16)
    assert FAMILIES["lfm2_vl"].examples({}) == [("512 × 512 pixels", 256), ("1024 × 1024 pixels", 1280)]
