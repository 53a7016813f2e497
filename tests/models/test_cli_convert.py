"""`hf-zspa convert` and `hf-zspa inspect`: one line for bad input, and an exit status that means something."""

import json

import pytest
import tiny

from hf_zspa import cli


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


def test_inspect_prints_what_the_checkpoint_will_do(hf_zspa, base_checkpoint, tmp_path):
    hf_zspa("convert", base_checkpoint("llava"), tmp_path / "out", "--position-ids", "compact")
    status, output, _ = hf_zspa("inspect", tmp_path / "out")
    assert status == 0
    for words in ("llava", "0.1", "0.2", "mean", "query", "compact", "'USER:'", "'ASSISTANT:'", "model.safetensors"):
        assert words in output


def test_inspect_speaks_json(hf_zspa, base_checkpoint):
    status, output, _ = hf_zspa("inspect", base_checkpoint("qwen2_5_vl"), "--json")
    info = json.loads(output)
    assert status == 0 and info["model_type"] == "qwen2_5_vl" and info["converted"] is False
    assert "<|im_start|>user\n" in info["turn_starts"] and info["turn_ends"] == ["<|im_end|>"]


@pytest.mark.parametrize(
    "arguments, words",
    [
        (("--keep-ratio", "2"), "zspa_keep_ratio is 2.0, but must be a number in (0, 1]"),
        (("--pooling", "median"), "'mean' or 'max' or 'none'"),
        (("--preset", "nowhere.json"), "nowhere.json"),
        (("--revision", "main"), "has no meaning for the folder"),
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
