"""The plot of `hf-zspa tune`."""

import numpy as np
from PIL import Image

from hf_zspa.tuning.candidates import SETTINGS
from hf_zspa.tuning.report import plot
from hf_zspa.tuning.rows import Measured
from hf_zspa.tuning.tune import conclude


def test_agreement_against_keep_ratio_is_drawn(tmp_path):
    settings, ratios = list(SETTINGS), [0.1, 0.25, 0.5]
    rng = np.random.default_rng(0)
    whole = rng.random((len(ratios), len(settings), 60)) < np.array([0.6, 0.8, 0.95])[:, None, None]
    measured = Measured([str(i) for i in range(60)], [""] * 60, np.full(60, 2), whole * 2, 1.0 - whole)
    assert plot(conclude(measured, ratios, settings, 0.7), tmp_path / "plot.png")
    drawn = np.asarray(Image.open(tmp_path / "plot.png").convert("RGB"))
    for colour in ((0, 114, 178), (213, 94, 0), (0, 158, 115), (204, 121, 167)):  # a line for each of four methods
        assert (drawn == colour).all(-1).sum() > 200
