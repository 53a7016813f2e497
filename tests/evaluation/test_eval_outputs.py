"""What `hf-zspa eval` writes and prints, as a program and as a full disk see it."""

import json
from unittest.mock import Mock

import pytest

from hf_zspa import cli, output
from hf_zspa.evaluation import command

ARGUMENTS = ("embedded", "--tasks", "zspa_scenes_extreme", "--methods", "original,zspa", "--limit", "2")


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    """Runs `hf-zspa eval` into a folder; returns its exit status, stdout and stderr."""

    def run_eval(*arguments):
        monkeypatch.setattr("sys.argv", ["hf-zspa", "eval", *ARGUMENTS, *arguments, "-o", str(tmp_path / "out")])
        with pytest.raises(SystemExit) as end:
            cli.main()
        return end.value.code or 0, *capsys.readouterr()

    return run_eval


def test_eval_speaks_json_and_says_on_stderr_what_is_done(loaded_once, run, tmp_path):
    status, out, err = run("--json")
    assert status == 0 and json.loads(out) == json.loads((tmp_path / "out" / "results.json").read_text())
    done = [line for line in err.splitlines() if " of 2: zspa_scenes_extreme-" in line]
    assert [line[:7] for line in done] == ["1 of 2:", "2 of 2:"]
    assert "cells: 2, each a task under one method" in err.split("1 of 2")[0]


def test_progress_rounds_ratios_and_file_names_do_not(loaded_once, run, tmp_path):
    status, _, err = run("--keep-ratio", str(32 / 576), "--core-ratio", "0.2", "--pooling", "mean")
    assert status == 0 and "2 of 2: zspa_scenes_extreme-zspa-keep0.0556-core0.2-mean, " in err
    assert (tmp_path / f"out/cells/zspa_scenes_extreme-zspa-keep{32 / 576!r}-core0.2-mean.json").is_file()


def test_one_that_is_stopped_before_its_first_cell_leaves_no_folder(loaded_once, run, tmp_path, monkeypatch):
    monkeypatch.setattr(command, "HfZspa", Mock(side_effect=KeyboardInterrupt))
    assert run()[0] == 130
    assert not (tmp_path / "out").exists()


def test_the_report_says_what_resized_does_to_an_image(loaded_once, run, tmp_path):
    status, *_ = run("--methods", "original,resized", "--keep-ratio", "0.25", "--json")
    text = (tmp_path / "out" / "results.md").read_text()
    assert status == 0 and "given the averages of the image's features in the largest square within" in text
    assert "| resized, keep 0.25 | 144 → 36.0 |" in text
    assert "resized" not in json.loads(run("--json", "--keep-ratio", "0.25")[1])


NAMES = ["results.json", "results.md", "results-core-ratio.png", "zspa_scenes_extreme-original.json"]


@pytest.mark.parametrize("name", NAMES)
def test_a_full_disk_leaves_what_was_there_and_is_named(loaded_once, run, tmp_path, monkeypatch, name):
    assert run("--core-ratio", "0.2,0.4")[0] == 0
    (path,) = (tmp_path / "out").rglob(name)
    before = path.read_bytes()
    if path.parent.name == "cells":
        path.rename(path.with_suffix(".away"))
    real = output.tempfile.NamedTemporaryFile

    def full(*arguments, prefix, **options):
        if prefix == f".{name}.":
            raise OSError(28, "No space left on device")
        return real(*arguments, prefix=prefix, **options)

    monkeypatch.setattr(output.tempfile, "NamedTemporaryFile", full)
    status, _, err = run("--core-ratio", "0.2,0.4")
    assert status == 1 and f"{path}: No space left on device; what was there is unchanged" in err
    if path.parent.name == "cells":
        assert not path.exists()
    else:
        assert path.read_bytes() == before


def test_a_file_is_no_checkpoint(monkeypatch, capsys, tmp_path):
    (tmp_path / "a.png").write_bytes(b"")
    monkeypatch.setattr("sys.argv", ["hf-zspa", "eval", str(tmp_path / "a.png"), "-o", str(tmp_path / "out")])
    with pytest.raises(SystemExit):
        cli.main()
    assert "a.png is a file, but must be the folder of a checkpoint" in capsys.readouterr().err
