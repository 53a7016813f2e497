"""`hf-zspa convert` and `hf-zspa inspect`: one line for bad input, and an exit status that means something."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest
import tiny

from hf_zspa import cli

WEIGHTED = Path(__file__).parents[2] / "configs/weighted.json"

pytestmark = pytest.mark.oldest_and_newest


@pytest.fixture
def hf_zspa(monkeypatch, capsys):
    """Runs the command line in this process and returns its exit status, stdout and stderr."""

    def run(*arguments):
        monkeypatch.setattr("sys.argv", ["hf-zspa", *map(str, arguments)])
        with pytest.raises(SystemExit) as exit_:
            cli.main()
        return exit_.value.code or 0, *capsys.readouterr()

    return run


def test_convert_takes_a_preset_and_lets_options_go_before_it(hf_zspa, base_checkpoint, tmp_path):
    tiny.write_json(tmp_path / "preset.json", {"description": "", "zspa_keep_ratio": 0.3, "zspa_core_ratio": 0.4})
    arguments = ("--preset", tmp_path / "preset.json", "--keep-ratio", 0.5, "--pooling", "max")
    status, output, _ = hf_zspa("convert", base_checkpoint("llava"), tmp_path / "out", *arguments)
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert status == 0 and str(tmp_path / "out") in output
    found = [config[f"zspa_{name}"] for name in ("keep_ratio", "core_ratio", "pooling", "prompt_scope")]
    assert found == [0.5, 0.4, "max", "query"]


def test_a_preset_may_have_what_its_method_does_not_read(hf_zspa, base_checkpoint, tmp_path):
    tiny.write_json(tmp_path / "preset.json", {"zspa_method": "mmtok", "zspa_core_ratio": 0.4})
    arguments = ("--preset", tmp_path / "preset.json", "--centre")
    assert hf_zspa("convert", base_checkpoint("llava"), tmp_path / "out", *arguments)[0] == 0
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert [config[f"zspa_{name}"] for name in ("method", "core_ratio", "centre")] == ["mmtok", 0.4, True]


def test_inspect_prints_what_the_checkpoint_will_do(hf_zspa, base_checkpoint, tmp_path):
    hf_zspa("convert", base_checkpoint("llava"), tmp_path / "out", "--position-ids", "compact")
    status, output, _ = hf_zspa("inspect", tmp_path / "out")
    assert status == 0
    facts = ("llava", "0.1", "0.2", "mean", "query", "compact", "'USER:'", "'ASSISTANT:'", "kept", "of the installed")
    for words in facts:
        assert words in output
    assert "model.safetensors" not in output


def test_inspect_lists_files_where_they_are_asked_for(hf_zspa, base_checkpoint, tmp_path):
    hf_zspa("convert", base_checkpoint("llava"), tmp_path / "out")
    assert "model.safetensors" in hf_zspa("inspect", tmp_path / "out", "--files")[1]
    assert "files" not in json.loads(hf_zspa("inspect", tmp_path / "out", "--json")[1])
    (file,) = (f for f in json.loads(hf_zspa("inspect", tmp_path / "out", "--json", "--files")[1])["files"]
               if f["name"] == "config.json")  # fmt: skip
    content = (tmp_path / "out" / "config.json").read_bytes()
    assert (file["size"], file["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())


def test_inspect_says_whose_code_it_is_and_where_the_question_plays_no_part(hf_zspa, base_checkpoint, tmp_path):
    hf_zspa("convert", base_checkpoint("llava"), tmp_path / "out", "--core-ratio", 0.05)
    (tmp_path / "out" / "zspa_prompt.py").write_text("")
    output = " ".join(hf_zspa("inspect", tmp_path / "out")[1].split())
    assert "not as installed: hf-zspa verify says how" in output
    assert "of any size: 6 of 64 tokens kept, 0 by relevance: the question plays no part" in output
    assert "none of hf_zspa" in hf_zspa("inspect", base_checkpoint("llava"))[1]


def test_convert_makes_the_folders_above_and_leaves_none_behind(hf_zspa, base_checkpoint, tmp_path, monkeypatch):
    assert hf_zspa("convert", base_checkpoint("llava"), tmp_path / "a" / "b" / "c")[0] == 0
    assert (tmp_path / "a" / "b" / "c" / "config.json").is_file()
    (tmp_path / "file").write_text("")
    status, _, errors = hf_zspa("convert", base_checkpoint("llava"), tmp_path / "file" / "c")
    assert status == 1 and f"{tmp_path / 'file'} is a file" in errors
    monkeypatch.setattr("hf_zspa.checkpoints.write.transfer", lambda *_: (_ for _ in ()).throw(OSError(28, "full")))
    status, _, errors = hf_zspa("convert", base_checkpoint("llava"), tmp_path / "d" / "e" / "f")
    assert status == 1 and "was not made" in errors and not (tmp_path / "d").exists()


def quantized_base(base, folder, quantization, entry="quantization_config", part=None):
    """A copy of a base whose `config.json`, or that part of it, says how its weights are quantized."""
    shutil.copytree(base, folder)
    config = json.loads((folder / "config.json").read_text())
    (config[part] if part else config)[entry] = quantization
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize(
    ("quantization", "said", "where"),
    [
        ({"quant_method": "awq", "bits": 4}, "awq", {}),
        ({"quant_method": "gptq"}, "gptq", {}),
        ({"quant_method": "fp8"}, "fp8", {"part": "text_config"}),
        ({"quant_method": "compressed-tensors"}, "compressed-tensors", {"entry": "compression_config"}),
        ({"quant_method": "bitsandbytes", "load_in_8bit": True}, "bitsandbytes, 8 bit", {}),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, None, {}),
    ],
)
def test_a_quantized_base_is_converted_and_what_was_not_run_is_said(
    hf_zspa, base_checkpoint, tmp_path, quantization, said, where
):
    """Of these only 4 bit: tests/models/test_surroundings.py. Weights are copied whatever is in them."""
    base = quantized_base(base_checkpoint("llava"), tmp_path / "base", quantization, **where)
    status, output, _ = hf_zspa("convert", base, tmp_path / "out")
    assert status == 0
    for text in (output, (tmp_path / "out" / "README.md").read_text()):
        assert ("weights are quantized (" in text) == (said is not None)
        assert said is None or f"weights are quantized ({said})" in text


@pytest.mark.parametrize("quantization", ["awq", [], 4])
def test_what_says_nothing_of_how_weights_are_quantized_is_refused(hf_zspa, base_checkpoint, tmp_path, quantization):
    base = quantized_base(base_checkpoint("llava"), tmp_path / "base", quantization)
    status, _, errors = hf_zspa("convert", base, tmp_path / "out")
    assert status == 1 and errors.count("\n") == 1 and not (tmp_path / "out").exists()
    assert f"the config.json of {base} says {json.dumps(quantization)} of quantization, but must have" in errors


def test_who_converts_is_told_of_documents_and_of_tune(hf_zspa, base_checkpoint, tmp_path):
    _, output, _ = hf_zspa("convert", base_checkpoint("llava"), tmp_path / "out")
    for text in (output, " ".join((tmp_path / "out" / "README.md").read_text().split())):
        assert "dense text lose most" in text and "hf-zspa tune" in text
    assert "tune" not in hf_zspa("convert", base_checkpoint("llava"), tmp_path / "all", "--keep-ratio", "1")[1]


def test_inspect_speaks_json(hf_zspa, base_checkpoint):
    status, output, _ = hf_zspa("inspect", base_checkpoint("qwen2_5_vl"), "--json")
    info = json.loads(output)
    assert status == 0 and info["model_type"] == "qwen2_5_vl" and info["converted"] is False
    assert "<|im_start|>user\n" in info["turn_starts"] and info["turn_ends"] == ["<|im_end|>"]


@pytest.mark.parametrize(
    "arguments, words",
    [
        (("--keep-ratio", "2"), "--keep-ratio is 2, but must be a number in (0, 1]"),
        (("--pooling", "median"), "'mean' or 'max' or 'none'"),
        (("--preset", "nowhere.json"), "nowhere.json"),
        (("--revision", "main"), "has no meaning for the folder"),
        (
            ("--method", "weighted", "--core-ratio", "0.3"),
            "--core-ratio is not read by the method 'weighted', which reads --keep-ratio, --relevance-weight, "
            "--pooling, --centre\n",
        ),
        (("--relevance-weight", "0.5"), "--relevance-weight is not read by the method 'zspa'"),
        (
            ("--method", "mmtok", "--pooling", "max"),
            "--pooling is not read by the method 'mmtok', which reads --keep-ratio, --centre\n",
        ),
        (("--preset", WEIGHTED, "--core-ratio", "0.3"), "--core-ratio is not read by the method 'weighted'"),
    ],
)
def test_bad_input_is_one_line_and_exit_status_1(hf_zspa, base_checkpoint, tmp_path, arguments, words):
    status, output, errors = hf_zspa("convert", base_checkpoint("llava"), tmp_path / "out", *arguments)
    assert (status, output, errors.count("\n")) == (1, "", 1) and words in errors
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("arguments", [("convert",), ("convert", "base", "out", "--keep-ratio", "much"), ("nothing",)])
def test_wrong_usage_is_exit_status_2(hf_zspa, arguments):
    assert hf_zspa(*arguments)[0] == 2


@pytest.mark.parametrize("command", ["convert", "inspect"])
def test_every_command_explains_itself(hf_zspa, command):
    status, output, _ = hf_zspa(command, "--help")
    assert status == 0 and "Usage" in output
