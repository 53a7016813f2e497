"""`hf-zspa demo`, on the checkpoint that ships inside the package."""

import json

import pytest
from PIL import Image

from hf_zspa import cli
from hf_zspa.checkpoints.convert import convert_checkpoint
from hf_zspa.checkpoints.resolve import checkpoint_folder
from hf_zspa.checkpoints.shipped import SHIPPED
from hf_zspa.scenes import EXAMPLES
from hf_zspa.visualize.demo import EXAMPLE, demo

pytestmark = pytest.mark.oldest_and_newest


def run(monkeypatch, *arguments):
    """Runs `hf-zspa demo` and returns its exit status."""
    monkeypatch.setattr("sys.argv", ["hf-zspa", "demo", *map(str, arguments)])
    try:
        cli.main()
    except SystemExit as end:
        return end.code or 0
    return 0


def test_the_demo_prints_both_answers_and_writes_the_picture(monkeypatch, capsys, tmp_path):
    assert run(monkeypatch, "--output", tmp_path / "zspa-demo.png") == 0
    out = capsys.readouterr().out
    assert "144 (100%)" in out and "14 (10%)" in out and "zspa-demo.png" in out
    assert "right answer" in out
    assert Image.open(tmp_path / "zspa-demo.png").width > 3 * 480


def test_all_tokens_answer_the_shown_example_right(tmp_path):
    everything = demo(tmp_path / "demo.png").unpruned
    examples = json.loads((EXAMPLES / "examples.json").read_text("utf-8"))
    assert everything.text == next(e["answer"] for e in examples if e["kind"] == EXAMPLE)


def test_the_demo_takes_an_image_a_question_and_ratios(tmp_path):
    image = EXAMPLES / "chart.png"
    done = demo(tmp_path / "demo.png", image, "What color is the shortest bar?", keep_ratio=0.5, core_ratio=0.4)
    assert done.pruned.text and done.pruned.tokens == 72


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--image", "absent.png", "--prompt", "what colour is the star?"], "no image file absent.png"),
        (["--image", EXAMPLES / "chart.png"], "add --prompt"),
        (["--prompt", "how many zebras are there?"], "without 'how', 'many', 'zebras', 'are'"),
        (["--keep-ratio", "0"], "--keep-ratio is 0, but"),
        (["--image", EXAMPLES, "--prompt", "what?"], "is a folder, but must be an image file"),
    ],
)
def test_bad_input_gives_one_line_and_a_failing_status(monkeypatch, capsys, arguments, words):
    assert run(monkeypatch, *arguments) == 1
    error = capsys.readouterr().err
    assert words in error and len(error.strip().splitlines()) == 1


@pytest.mark.parametrize(("name", "base"), SHIPPED.items())
def test_a_shipped_checkpoint_is_what_the_converter_makes_of_its_base(tmp_path, name, base):
    made = convert_checkpoint(base, tmp_path / name)
    files = {path.name: path.read_bytes() for path in checkpoint_folder(name).iterdir()}
    assert files == {path.name: path.read_bytes() for path in made.iterdir()}


def test_an_empty_prompt_is_refused(tmp_path):
    from hf_zspa.visualize.demo import demo

    with pytest.raises(ValueError, match="--prompt is empty"):
        demo(tmp_path / "out.png", prompt=" ")
