"""The pictures: where tokens lie in an image, and what is marked."""

import numpy as np
import pairs
import pytest
import tiny
import torch
from drawn import assert_drawn_where_it_lies
from PIL import Image

from hf_zspa import cli
from hf_zspa.checkpoints.convert import convert_checkpoint
from hf_zspa.loading import question_inputs
from hf_zspa.visualize.panels import (
    CORE,
    DIVERSITY,
    comparison,
    enlarged,
    heat_map,
    kept_tokens,
    patch_box,
    picture,
)
from hf_zspa.visualize.selection import explain
from hf_zspa.visualize.token_grid import View, token_views

pytestmark = pytest.mark.oldest_and_newest


@pytest.fixture(scope="module", params=tiny.FAMILIES)
def pair(request, base_checkpoint):
    return pairs.load(request.param, base_checkpoint(request.param))


@pytest.fixture
def view():
    """Four by six tokens over a picture of noise, numbered from 10."""
    return View("", tiny.random_image(60, 40), torch.arange(10, 34).view(4, 6))


def cells(view: View, panel: Image.Image):
    """Each token's number and the pixels `(height, width, 3)` of its patch in a panel of the view."""
    for row, column in np.ndindex(*view.tokens.shape):
        yield int(view.tokens[row, column]), np.asarray(panel.crop(patch_box(view, panel.size, row, column)))


def test_a_token_depends_on_the_pixels_where_it_is_drawn(pair):
    assert_drawn_where_it_lies(pair, (150, 90))


def test_every_token_but_the_newlines_has_one_place(pair):
    image = tiny.random_image(150, 90)
    inputs = question_inputs(pair.model, pair.processor, image, "what is this?")
    count = len(explain(pair.model, inputs).scores)
    views = token_views(pair.model, pair.processor, inputs, image, count)
    placed = torch.cat([view.tokens.flatten() for view in views])
    newlines = len(views[1].tokens) if pair.family == "llava_next" else 0
    assert len(placed) == len(placed.unique()) == count - newlines


def test_the_explanation_is_what_the_model_keeps(pair):
    inputs = question_inputs(pair.model, pair.processor, tiny.random_image(150, 90), "which shape is red?")
    for ratios in ({}, {"keep_ratio": 0.2, "core_ratio": 0.0}, {"keep_ratio": 0.5, "core_ratio": 1.0}):
        kept = pair.model.select_visual_tokens(**inputs, **{f"zspa_{name}": ratio for name, ratio in ratios.items()})
        assert torch.equal(explain(pair.model, inputs, **ratios).kept, kept[0])


def test_the_figures_are_drawn_for_every_family(pair):
    image = tiny.random_image(150, 90)
    inputs = question_inputs(pair.model, pair.processor, image, "which shape is red?")
    selection = explain(pair.model, inputs)
    views = token_views(pair.model, pair.processor, inputs, image, len(selection.scores))
    figure = picture(views, selection, "which shape is red?", ["a note"])
    panels = sum(enlarged(view).height for view in views)
    assert figure.width > 3 * enlarged(views[0]).width and figure.height > panels
    assert comparison(views, {"one": selection, "two": selection}, "?").width < figure.width


def test_exactly_the_kept_patches_are_as_in_the_image(view):
    panel = kept_tokens(view, core=torch.tensor([12]), diversity=torch.tensor([10, 33]))
    for (token, marked), (_, original) in zip(cells(view, panel), cells(view, enlarged(view)), strict=True):
        inside = (slice(15, -15), slice(15, -15))
        assert np.array_equal(marked[inside], original[inside]) == (token in (10, 12, 33))
        if token not in (10, 12, 33):
            assert np.ptp(marked, axis=-1).max() == 0, "a dropped patch is grey"


def test_frames_tell_core_from_diversity(view):
    panel = kept_tokens(view, core=torch.tensor([12]), diversity=torch.tensor([10, 33]))
    frames = {token: tuple(int(c) for c in cell[0, 0]) for token, cell in cells(view, panel)}
    assert [token for token, colour in frames.items() if colour == CORE] == [12]
    assert [token for token, colour in frames.items() if colour == DIVERSITY] == [10, 33]


def test_the_heat_map_is_brightest_where_relevance_is_highest(view):
    scores = torch.linspace(-0.5, 0.5, 40)[torch.randperm(40, generator=torch.Generator().manual_seed(0))]
    grey = View("", Image.new("RGB", (60, 40), (90, 90, 90)), view.tokens)
    levels = {token: cell.mean() for token, cell in cells(grey, heat_map(grey, scores))}
    assert sorted(levels, key=levels.get) == sorted(levels, key=lambda token: float(scores[token]))


@pytest.mark.parametrize("size", [(20, 20), (2000, 60), (60, 2000)])
def test_patches_are_whole_pixels_whatever_the_size_of_the_image(size):
    view = View("", tiny.random_image(*size), torch.arange(7 * 9).view(7, 9))
    width, height = enlarged(view).size
    assert width % 9 == 0 and height % 7 == 0


@pytest.fixture(scope="module")
def checkpoint(base_checkpoint, tmp_path_factory):
    return convert_checkpoint(base_checkpoint("llava"), tmp_path_factory.mktemp("zspa") / "llava")


@pytest.fixture
def scene(tmp_path):
    tiny.random_image(90, 60).save(tmp_path / "scene.png")
    return tmp_path / "scene.png"


@pytest.fixture
def run(monkeypatch, capsys):
    """Runs `hf-zspa visualize` with arguments; returns its exit status, stdout and stderr."""

    def run_visualize(*arguments):
        monkeypatch.setattr("sys.argv", ["hf-zspa", "visualize", *map(str, arguments)])
        try:
            cli.main()
            status = 0
        except SystemExit as end:
            status = end.code or 0
        return status, *capsys.readouterr()

    return run_visualize


@pytest.mark.parametrize("compare", [(), ("--compare",)])
def test_the_command_writes_a_picture(run, checkpoint, scene, tmp_path, compare):
    status, out, _ = run(checkpoint, "--image", scene, "--prompt", "what?", "-o", tmp_path / "out.png", *compare)
    assert status == 0
    assert "kept 6 of 64 visual tokens" in out
    assert Image.open(tmp_path / "out.png").width > 3 * 480


def test_a_base_is_shown_as_its_conversion_would_be(run, checkpoint, base_checkpoint, scene, tmp_path):
    shown = [run(c, "--image", scene, "--prompt", "what?", "-o", tmp_path / f"{n}.png") for n, c in
             enumerate((checkpoint, base_checkpoint("llava")))]  # fmt: skip
    assert [status for status, _, _ in shown] == [0, 0] and "kept 6 of 64 visual tokens" in shown[1][1]
    assert (tmp_path / "0.png").read_bytes() == (tmp_path / "1.png").read_bytes()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"--image": "absent.png"}, "no image file absent.png"),
        ({"--image": __file__}, "not an image that can be read"),
        ({"-o": f"{__file__}/out.png"}, "test_visualize.py is a file, so that"),
        ({"-o": "out.pdq"}, "name it out.png"),
        ({"--keep-ratio": "1.5"}, "--keep-ratio is 1.5, but must be a number in (0, 1]"),
        ({"--core-ratio": "-1"}, "--core-ratio is -1, but"),
        ({"checkpoint": "./absent"}, "no folder ./absent"),
        ({"checkpoint": "."}, "is not a checkpoint: it has no config.json"),
    ],
)
def test_bad_input_gives_one_line_and_a_failing_status(run, checkpoint, scene, tmp_path, monkeypatch, change, words):
    monkeypatch.chdir(tmp_path)
    given = {"checkpoint": checkpoint, "--image": scene, "--prompt": "what?", "-o": "out.png"} | change
    status, _, err = run(given.pop("checkpoint"), *sum(given.items(), ()))
    assert status == 1
    assert words in err and len(err.strip().splitlines()) == 1
    assert not (tmp_path / "out.png").exists()
