"""The commands run the code of a checkpoint only where it is that of the package, or where they are told to."""

import shutil
import sys

import pytest

from hf_zspa.checkpoints.resolve import checkpoint_folder
from hf_zspa.checkpoints.shipped import SHIPPED
from hf_zspa.cli import main
from hf_zspa.scenes import CHECKPOINT, EXAMPLES

pytestmark = pytest.mark.oldest_and_newest

IMAGE = next(EXAMPLES.glob("relation*.png"))
COMMANDS = {
    "visualize": ["--image", str(IMAGE), "--prompt", "what colour is the star?", "-o", "out.png"],
    "bench": ["--limit", "1", "--seconds", "0.1", "--new-tokens", "2", "-o", "out"],
}


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["hf-zspa", *map(str, arguments)])
        try:
            main()
        except SystemExit as end:
            return end.code, *capsys.readouterr()
        return 0, *capsys.readouterr()

    return run


@pytest.mark.parametrize("command", COMMANDS)
def test_foreign_code_is_not_run_unasked(run, command, tmp_path):
    foreign = shutil.copytree(checkpoint_folder("embedded"), tmp_path / "foreign")
    with (foreign / "modeling_zspa_llava.py").open("a") as file:
        file.write(f'print("FOREIGN in {command}")\n')  # its own for each: an import is done once
    status, out, err = run(command, foreign, *COMMANDS[command])
    assert status == 1 and "FOREIGN" not in out and "is not run before it passes hf-zspa verify: modeling_zspa" in err
    assert "modeling_zspa_llava.py" in run("verify", foreign)[1]
    status, out, err = run(command, foreign, *COMMANDS[command], "--trust-remote-code")
    assert status == 0 and f"FOREIGN in {command}" in out, err


@pytest.mark.parametrize("name", SHIPPED)
def test_the_checkpoints_inside_the_package_have_names(run, name, tmp_path):
    (tmp_path / name).mkdir()  # as one that results were written to
    assert run("verify", name)[0] == run("inspect", name)[0] == run("visualize", name, *COMMANDS["visualize"])[0] == 0
    (tmp_path / name / "config.json").write_text("{}")  # which of the two is meant?
    for command in ("verify", "inspect"):
        status, _, err = run(command, name)
        assert status == 1 and f"give ./{name} for the folder, or rename it" in err


def test_a_path_is_printed_as_it_is(run, tmp_path):
    shutil.copytree(checkpoint_folder("embedded"), tmp_path / "ck[bold]")
    assert "ck[bold] has the code of hf_zspa" in run("verify", "ck[bold]")[1]
    status, out, err = run("convert", CHECKPOINT, tmp_path / "new[x]")
    assert (status, err) == (0, "") and "new[x]: load it" in out


@pytest.mark.parametrize("command", ["inspect", "verify", "bench"])
def test_a_name_that_is_nearly_one_inside_the_package_is_said(run, command):
    status, _, err = run(command, "embeded-qwen")
    assert status == 1 and "did you mean embedded-qwen, which is inside hf_zspa?" in err
    assert "did you mean" not in run(command, "org/name")[2]


def test_a_revision_stands_behind_a_hub_id(run, monkeypatch):
    for command in ("inspect", "verify"):
        status, _, err = run(command, "org/name@v1")
        assert status == 1 and "there is no folder org/name@v1, and" in err and "no Hub id" not in err
    status, _, err = run("inspect", "org/name@v1", "--revision", "v2")
    assert status == 1 and "org/name@v1 has a revision, and v2 is another: give one of the two" in err
