"""Pictures and prompts that cannot be used, in every command that takes them: one line that says which."""

import json
from unittest.mock import Mock

import pytest
import tiny
from bad_pictures import PICTURE, PICTURES
from PIL import Image

from hf_zspa import cli
from hf_zspa.checkpoints.convert import convert_checkpoint
from hf_zspa.models.given import open_image
from hf_zspa.scenes import CHECKPOINT, EXAMPLES


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return convert_checkpoint(CHECKPOINT, tmp_path_factory.mktemp("zspa") / "scenes")


@pytest.fixture
def fails(monkeypatch, capsys, tmp_path):
    """Runs a command line that must end in one line on stderr, and returns that; nothing new may be in the folder."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        before = set(tmp_path.iterdir())
        monkeypatch.setattr("sys.argv", ["hf-zspa", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            cli.main()
        out, err = capsys.readouterr()
        assert (end.value.code, out, err.count("\n")) == (1, "", 1), err
        assert set(tmp_path.iterdir()) == before
        return err

    return run


PROMPTS = {
    "empty": (" ", "is empty: ask something"),
    "no Unicode": ("what\udcff?", "is 'what\\udcff?', which is not valid UTF-8"),
    "placeholder": ("what is <image> ?", "<image> in it, which stands for what is seen: leave it out"),
}


def arguments_for(command, checkpoint, tmp_path, picture=PICTURE, prompt="what?"):
    """A command line that asks this about this picture."""
    if command == "bench":
        pairs = tmp_path / "pairs.jsonl"
        pairs.write_text(json.dumps({"image": str(picture), "question": prompt}))
        return "bench", checkpoint, "--pairs", pairs, "-o", "out", "--seconds", 0.1
    asked = ("--image", picture, "--prompt", prompt, "-o", "out.png")
    return ("demo", *asked) if command == "demo" else ("visualize", checkpoint, *asked)


@pytest.mark.parametrize("kind", PICTURES)
@pytest.mark.parametrize("command", ["visualize", "demo", "bench"])
def test_a_picture_that_cannot_be_used(fails, checkpoint, tmp_path, command, kind):
    content, words = PICTURES[kind]
    (tmp_path / "bad.png").write_bytes(content)
    said = fails(*arguments_for(command, checkpoint, tmp_path, picture=tmp_path / "bad.png"))
    assert "bad.png" in said and words in said


@pytest.mark.parametrize("kind", PICTURES)
def test_a_picture_for_a_card_that_cannot_be_used(fails, checkpoint, tmp_path, kind):
    (tmp_path / "bad.png").write_bytes(PICTURES[kind][0])
    assert "bad.png" in fails("push", checkpoint, "org/name", "--dry-run", "--picture", tmp_path / "bad.png")


@pytest.mark.parametrize("kind", PROMPTS)
@pytest.mark.parametrize("command", ["visualize", "demo", "bench"])
def test_a_prompt_that_cannot_be_used(fails, checkpoint, tmp_path, command, kind):
    prompt, words = PROMPTS[kind]
    assert words in fails(*arguments_for(command, checkpoint, tmp_path, prompt=prompt))


def test_pairs_that_are_not_utf_8(fails, checkpoint, tmp_path):
    (tmp_path / "pairs.jsonl").write_bytes(b'{"image": "a.png", "question": "what\xff"}')
    assert "pairs.jsonl is not valid UTF-8" in fails("bench", checkpoint, "--pairs", "pairs.jsonl", "-o", "out")


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("broken")])
def test_whatever_pillow_raises_names_the_picture(monkeypatch, error):
    monkeypatch.setattr(Image.Image, "convert", lambda *_: (_ for _ in ()).throw(error))
    with pytest.raises(ValueError, match=r"relation\.png is "):
        open_image(PICTURE)


@pytest.mark.parametrize("entry, value", [("patch_size", 0), ("patch_size", "14"), ("num_attention_heads", 0)])
def test_a_config_that_no_model_can_be_built_of(fails, tmp_path, entry, value):
    folder = convert_checkpoint(CHECKPOINT, tmp_path / "odd")
    config = json.loads((folder / "config.json").read_text())
    config["vision_config"][entry] = value
    (folder / "config.json").write_text(json.dumps(config))
    assert "odd/config.json (" in fails(*arguments_for("visualize", folder, tmp_path))


ASKED = ("--image", PICTURE, "--prompt", "what?", "-o", "out.png")
MORE = {  # what each command that takes a checkpoint needs behind it
    "convert": ("out",), "inspect": (), "verify": (), "upgrade": (), "bench": (), "visualize": ASKED,
    "push": ("org/name", "--dry-run"), "tune": ("--questions", "many.jsonl", "--agreement", "0.05"),
}  # fmt: skip


@pytest.mark.parametrize("command", MORE)
def test_a_file_is_no_checkpoint(fails, tmp_path, command):
    tiny.random_image(8, 8).save(tmp_path / "a.png")
    pictures = [str(EXAMPLES / name) for name in ("relation.png", "attribute.png")] * 30
    rows = [json.dumps({"image": picture, "prompt": f"what is {n} ?"}) for n, picture in enumerate(pictures)]
    (tmp_path / "many.jsonl").write_text("\n".join(rows))
    assert "a.png is a file, but must be the folder of a checkpoint" in fails(command, "a.png", *MORE[command])


def test_ctrl_c_is_one_line(monkeypatch, capsys, tmp_path):
    interrupt = Mock(side_effect=KeyboardInterrupt)
    monkeypatch.setattr("hf_zspa.checkpoints.inspect.inspect_checkpoint", interrupt)
    monkeypatch.setattr("sys.argv", ["hf-zspa", "inspect", str(tmp_path)])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 130 and capsys.readouterr().err.strip() == "hf-zspa: interrupted"
