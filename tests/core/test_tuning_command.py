"""`hf-zspa tune` on the small model: what it writes, and what it refuses."""

import json
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import pytest
from PIL import Image

from hf_zspa.checkpoints.convert import convert_checkpoint
from hf_zspa.cli import main
from hf_zspa.scenes import CHECKPOINT
from hf_zspa.scenes.heldout import scene_questions
from hf_zspa.tuning.apply import apply, check_target


@pytest.fixture
def tuned(tmp_path, monkeypatch, capsys):
    """Converts the small LLaVA, tunes it on rows about as many scenes, and returns its folder, status and output."""

    def tune(*arguments, rows=60, keep=0.1):
        convert_checkpoint(CHECKPOINT, folder := tmp_path / "scenes", force=True, zspa_keep_ratio=keep)
        lines = []
        for seed in range(rows):
            scene, (question, *_) = scene_questions(seed)
            Image.fromarray(scene.image).save(tmp_path / f"{seed}.png")
            lines.append(json.dumps({"image": f"{seed}.png", "prompt": question.text}))
        (tmp_path / "mine.jsonl").write_text("\n".join(lines))
        given = ["tune", folder, "--questions", tmp_path / "mine.jsonl", "-o", tmp_path / "out", *arguments]
        monkeypatch.setattr("sys.argv", ["hf-zspa", *map(str, given)])
        with pytest.raises(SystemExit) as end:
            main()
        return folder, end.value.code, capsys.readouterr()

    return tune


@pytest.mark.slow
def test_what_is_chosen_is_written_into_the_checkpoint_and_its_card_and_measured_rows_are_not_measured_again(
    tuned, tmp_path, monkeypatch
):
    folder, status, said = tuned("--agreement", "0.6", "--keep-ratio", "0.1,0.25", "--apply", keep=0.5)
    assert status == 0, said.err
    assert "6 of 60 rows" in said.err and f"wrote the settings into {folder / 'config.json'}" in said.out
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    chosen = results["chosen"]
    assert chosen["zspa_keep_ratio"] == 0.1 and f"keep ratio {chosen['zspa_keep_ratio']:g} is the smallest" in said.out
    config = json.loads((folder / "config.json").read_text())
    assert {name: config[name] for name in chosen} == chosen
    line = next(line for line in (folder / "README.md").read_text().splitlines() if line.startswith("Tuned with"))
    (judged,) = [each for each in results["judged"] if each["keep_ratio"] == 0.1]
    assert f"{judged['stay']} of {judged['rows']} answers" in line and "with 60 rows" in line

    monkeypatch.setattr("hf_zspa.tuning.rows.Asked", None)  # the fields that are tried are no part of what is kept
    _, status, said = tuned("--agreement", "0.6", "--keep-ratio", "0.1,0.25", "--apply")
    assert status == 0 and f"nothing had to change in {folder / 'config.json'}" in said.out
    assert "wrote a line about them into its card" in said.out and "wrote the settings" not in said.out
    _, status, said = tuned("--agreement", "0.6", "--keep-ratio", "0.1,0.25", "--json")
    assert status == 0 and json.loads(said.out)["chosen"] == chosen


def test_one_that_is_stopped_at_its_first_row_leaves_no_folder(tuned, tmp_path, monkeypatch):
    monkeypatch.setattr("hf_zspa.tuning.rows.question_inputs", Mock(side_effect=KeyboardInterrupt))
    assert tuned("--agreement", "0.6")[1] == 130
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_where_nothing_reaches_the_aim_no_pruning_is_the_answer_and_nothing_is_applied(tuned):
    folder, status, said = tuned("--agreement", "0.9", "--keep-ratio", "0.02", "--apply")
    assert status == 1 and "keep ratio 1.0, no pruning, is the honest answer" in said.out
    assert json.loads((folder / "config.json").read_text())["zspa_keep_ratio"] == 0.1
    assert "Tuned with" not in (folder / "README.md").read_text()


@pytest.mark.parametrize(
    "arguments, message",
    [
        (
            ["--agreement", "0.98"],
            "--agreement 0.98 needs 149 pictures to judge on, so 297 in all, and these rows are about 60",
        ),
        (["--agreement", "98"], "--agreement is 98, but must be between 0 and 1"),
        (["--keep-ratio", "0.1,1"], "--keep-ratio is 1, but must be numbers between 0 and 1"),
        (["--keep-ratio", "some"], "--keep-ratio is 'some', but must be numbers separated by commas"),
        (["--questions", "nowhere.jsonl"], "there is no file nowhere.jsonl"),
        (["--methods", "zspa,wieghted"], "--methods has 'wieghted', but must be some of zspa, weighted, dpp, mmtok"),
        (["--dtype", "int8"], "--dtype is 'int8'"),
    ],
)
def test_a_request_that_makes_no_sense_ends_in_a_line_that_names_it(tuned, tmp_path, arguments, message):
    _, status, said = tuned(*arguments)
    assert status == 1 and message in said.err and said.err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_pictures_and_not_their_names_are_counted_before_anything_is_loaded(tuned, tmp_path, monkeypatch):
    monkeypatch.setattr("hf_zspa.loading.load_zspa", None)
    lines = []
    for number in range(60):
        Image.new("RGB", (20, 20), (number // 2, 0, 0)).save(tmp_path / f"same-{number}.png")
        lines.append(json.dumps({"image": f"same-{number}.png", "prompt": "what?"}))
    (tmp_path / "same.jsonl").write_text("\n".join(lines))
    _, status, said = tuned("--questions", tmp_path / "same.jsonl", "--agreement", "0.9")
    assert status == 1 and "--agreement 0.9 needs 29 pictures to judge on" in said.err
    assert "these rows are about 30:" in said.err


def test_a_card_that_cannot_be_read_is_told_first_and_one_that_cannot_be_written_leaves_the_config(
    tmp_path, monkeypatch
):
    convert_checkpoint(CHECKPOINT, folder := tmp_path / "scenes", force=True)
    config, card = (folder / "config.json").read_bytes(), (folder / "README.md").read_bytes()
    tuning = SimpleNamespace(
        fields={"zspa_keep_ratio": 0.25}, chosen=SimpleNamespace(stay=30, rows=30, bound=0.9), agreement=0.9,
        shared=False, measured=SimpleNamespace(tokens=range(60)),
    )  # fmt: skip
    written = []

    def fails_at_the_card(self, *given):
        written.append(self.name)
        if "README.md" in self.name:
            raise OSError(28, "No space left on device")
        return chmod(self, *given)

    chmod = Path.chmod
    with monkeypatch.context() as patch:
        patch.setattr(Path, "chmod", fails_at_the_card)
        with pytest.raises(OSError, match="No space left"):
            apply(folder, tuning)
    assert len(written) == 2
    assert ((folder / "config.json").read_bytes(), (folder / "README.md").read_bytes()) == (config, card)
    assert apply(check_target(str(folder)), tuning)
    assert json.loads((folder / "config.json").read_text())["zspa_keep_ratio"] == 0.25
    (folder / "README.md").write_bytes(b"\xff")
    with pytest.raises(ValueError, match=r"README.md is not UTF-8"):
        check_target(str(folder))


def test_what_is_chosen_is_not_written_into_a_base():
    with pytest.raises(ValueError, match=r"--apply writes into a zspa checkpoint, and .* is a base: convert it"):
        check_target(str(CHECKPOINT))
