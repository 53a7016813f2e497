"""`hf-zspa bench` as it is typed."""

import json
import re
from dataclasses import replace
from unittest.mock import Mock

import pytest
from PIL import Image
from rich.console import Console
from tiny_shapes import tiny_model

from hf_zspa.bench import command
from hf_zspa.bench.command import read_pairs
from hf_zspa.bench.measure import METHODS, Settings
from hf_zspa.cli import main


@pytest.mark.slow
def test_bench_on_the_embedded_checkpoint(tmp_path, monkeypatch, capsys):
    arguments = ["embedded", "--limit", "1", "--seconds", "0.1", "--new-tokens", "2", "--table", "3"]
    monkeypatch.setattr("sys.argv", ["hf-zspa", "bench", *arguments, "-o", str(tmp_path / "out")])
    with pytest.raises(SystemExit) as stop:
        main()
    out, err = capsys.readouterr()
    assert "question 1 is answered by every method\n" in err  # where there is no terminal for a progress bar
    assert re.search(r"the first of 3 rounds or more took \d+\.\d s; fewer --methods take less", err)
    assert stop.value.code == 0, err
    assert "\n| average end to end (ms) |" in out  # whole rows, where there is no terminal to draw a table on
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert [row["method"] for row in results["rows"]] == list(METHODS)
    assert "| method |" in (tmp_path / "out" / "results.md").read_text()
    assert (tmp_path / "out" / "table-3.md").read_text().strip() in out


@pytest.mark.parametrize(
    "arguments, message",
    [
        ([], "give a checkpoint or --shape, one of llava-1.5-7b"),
        (["embedded", "--shape", "llava-1.5-7b-small"], "give a checkpoint or --shape, not both"),
        (["embedded", "--methods", ""], "--methods has none, but must be of original, zspa"),
        (["embedded", "--methods", "zspa,limit,zspa"], "--methods is zspa,limit,zspa, but must name each method once"),
        (["embedded", "--data", "."], "--data has the questions of --task: name that as well"),
        (["embedded", "--attention", "foo"], "--attention is 'foo', which transformers cannot use here"),
        (["--shape", "llava-1.5-7b-small", "--attention", "flash_attention_2"], "--attention is 'flash_attention_2'"),
        (
            ["--shape", "llava-1.5-7b-small", "--patches", "8x8"],
            "--patches is for qwen2-vl-7b, qwen2.5-vl-7b",
        ),
        (
            ["--shape", "qwen3-vl-8b-small", "--frames", "8"],
            "--frames is 8, but qwen3-vl-8b-small has no videos here: qwen2-vl-7b and qwen2.5-vl-7b have",
        ),
        (["embedded", "--methods", "zspa,vtw"], "--methods has vtw, but must be of original, zspa, relevance"),
        (["--shape", "llava-2"], "--shape is 'llava-2', but must be one of llava-1.5-7b"),
        (["embedded", "--table", "1"], "--table is 1, but must be 3"),
        (["embedded", "--dtype", "int8"], "--dtype is 'int8'"),
        (["embedded", "--keep-ratio", "0"], "--keep-ratio is 0"),
        (["embedded", "--device", "gpu0"], "--device is 'gpu0', but must be such as cpu or cuda:0"),
        *(
            (["embedded", "--seconds", seconds], f"--seconds is {seconds}, but must be a number above 0")
            for seconds in ("-3", "0", "nan", "inf")
        ),
        (["embedded", "--keep-ratio", "nan"], "--keep-ratio is nan"),
        (["embedded", "--core-ratio", "nan"], "--core-ratio is nan"),
        (["embedded", "--batch", "2"], "--batch, --images, --frames and --patches are for --shape"),
        (["embedded", "--output", __file__], "is a file: give a folder"),
        (["embedded", "--output", "/proc/out"], "--output /proc/out cannot be made"),
        (["embedded", "--pairs", "nowhere.jsonl"], "there is no file nowhere.jsonl"),
        (["embedded", "--methods", "zspa,fastv"], "--methods has fastv, but must be of original, zspa"),
        (["--shape", "qwen2.5-vl-7b-small", "--patches", "7x8"], "--patches is '7x8', but must be two even numbers"),
        (["--shape", "llava-1.5-7b-small", "--pairs", "a.jsonl"], "leave out --pairs, --task, --data and --limit"),
    ],
)
def test_bad_input_is_named_and_leaves_nothing(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["hf-zspa", "bench", *arguments])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 1 and message in " ".join(capsys.readouterr().err.split())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("checkpoint", ["embedded", "embedded-qwen"])
def test_pictures_are_resized(tmp_path, monkeypatch, capsys, checkpoint):
    """To the largest square within 14 of 144 tokens: by averages, or by a smaller picture."""
    arguments = f"{checkpoint} --limit 1 --seconds 0.1 --new-tokens 2 --methods original,resized,tome".split()
    monkeypatch.setattr("sys.argv", ["hf-zspa", "bench", *arguments, "-o", str(tmp_path / "out")])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 0, capsys.readouterr().err
    rows = {row["method"]: row for row in json.loads((tmp_path / "out" / "results.json").read_text())["rows"]}
    assert rows["resized"]["samples"][0]["kept"] == 9 and rows["tome"]["samples"][0]["kept"] == 14
    assert (rows["resized"]["selection"] is None) == (checkpoint == "embedded-qwen")


def test_resized_needs_pictures():
    request = command.Request(Settings(), "embedded", methods=("resized",), task="mmmu_val")
    with pytest.raises(ValueError, match="resized, which needs the pictures of --pairs"):
        command.bench(request, Console())


def test_limit_is_left_out_where_a_model_has_none_and_refused_where_it_was_asked_for(monkeypatch, capsys):
    monkeypatch.setattr(command, "_model_and_questions", lambda *_: (tiny_model("paligemma-3b", monkeypatch), None))
    monkeypatch.setattr(command, "_measure", lambda request, *_: {"methods": request.methods})
    request = command.Request(Settings(), shape="paligemma-3b")
    assert command.bench(request, Console()) == {"methods": tuple(m for m in METHODS if m != "limit")}
    assert "limit is left out: generate of paligemma cannot go on from embeddings alone" in capsys.readouterr().out
    with pytest.raises(
        ValueError, match="--methods has limit, but generate of paligemma cannot go on from embeddings alone"
    ):
        command.bench(replace(request, methods=("limit", "zspa")), Console())


def test_a_method_that_averages_is_refused_of_deepstack_before_anything_is_measured(monkeypatch):
    monkeypatch.setattr(command, "_model_and_questions", lambda *_: (tiny_model("qwen3-vl-8b", monkeypatch), None))
    monkeypatch.setattr(command, "_measure", Mock(side_effect=AssertionError))
    request = command.Request(Settings(), shape="qwen3-vl-8b", methods=("original", "tome"))
    with pytest.raises(ValueError, match="'tome' averages visual tokens, and qwen3_vl has DeepStack"):
        command.bench(request, Console())


def test_what_is_interrupted_leaves_no_empty_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(command, "_measure", Mock(side_effect=KeyboardInterrupt))
    (tmp_path / "there").mkdir()
    for place in ("there", "there/new/out"):
        with pytest.raises(KeyboardInterrupt):
            command.bench(command.Request(Settings(), "embedded", output=tmp_path / place), Console())
    assert [*tmp_path.rglob("*")] == [tmp_path / "there"]


def test_an_image_that_is_missing_is_named_before_anything_is_measured(tmp_path, monkeypatch, capsys):
    Image.new("RGB", (60, 60)).save(tmp_path / "a.png")
    lines = [json.dumps({"image": name, "question": "what?"}) for name in ("a.png", "zzz.png")]
    (tmp_path / "pairs.jsonl").write_text("\n".join(lines))
    monkeypatch.setattr("hf_zspa.bench.command.load_zspa", lambda *_: pytest.fail("loaded"))
    arguments = ["embedded", "--pairs", str(tmp_path / "pairs.jsonl"), "--output", str(tmp_path / "out")]
    monkeypatch.setattr("sys.argv", ["hf-zspa", "bench", *arguments])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 1 and "zzz.png" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_there_is_no_folder_before_there_is_something_to_write(monkeypatch, tmp_path):
    def stop(*_):
        assert not (tmp_path / "out").exists()
        raise KeyboardInterrupt

    monkeypatch.setattr("hf_zspa.bench.command._measure", stop)
    monkeypatch.setattr("sys.argv", ["hf-zspa", "bench", "embedded", "-o", str(tmp_path / "out")])
    with pytest.raises(SystemExit, match="130"):
        main()
    assert not (tmp_path / "out").exists()


def test_pairs_are_read_from_json_lines(tmp_path):
    file = tmp_path / "pairs.jsonl"
    file.write_text('{"image": "a.png", "question": "what?"}\n{"image": "b.png", "question": "where?"}\n')
    assert read_pairs(file, 1) == [(tmp_path / "a.png", "what?")]
    file.write_text('\n{"image": "a.png", "question": "what?"}\n\n')
    assert len(read_pairs(file)) == 1
    file.write_text('{"image": "a.png"}\n')
    with pytest.raises(ValueError, match="line 1 of"):
        read_pairs(file)


@pytest.mark.parametrize("name, found", [("nothing", "there is no file "), ("", "is a folder, but must be a file")])
def test_what_stands_in_a_file_of_questions_is_said_where_there_is_none(tmp_path, name, found):
    with pytest.raises(
        ValueError, match=r'give JSON Lines such as {"image": "a.png", "prompt": "what is it\?"}'
    ) as error:
        read_pairs(tmp_path / name, asked="prompt")
    assert found in str(error.value)


@pytest.mark.parametrize("value", ["null", "7", "true", '["what?"]', '{"text": "what?"}'])
def test_a_question_is_a_text(tmp_path, value):
    file = tmp_path / "pairs.jsonl"
    file.write_text(f'{{"image": "a.png", "prompt": "what?"}}\n{{"image": "a.png", "prompt": {value}}}\n')
    with pytest.raises(ValueError, match=f"^the prompt in line 2 of .* is {re.escape(value)}, but must be a text"):
        read_pairs(file, asked="prompt")
