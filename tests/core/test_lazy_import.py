"""What is quick to ask for imports nothing that is slow to import."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import tiny

import hf_zspa
from hf_zspa.checkpoints.convert import convert_checkpoint
from hf_zspa.scenes import CHECKPOINT

SLOW = ("torch", "transformers", "huggingface_hub", "numpy", "PIL")
COMMANDS = ("demo", "convert", "inspect", "verify", "push", "visualize", "eval", "bench", "tune", "app")


def ran(program: str, *arguments: str) -> tuple[list[str], str]:
    """Those of `SLOW` that a program has imported when it ends, and what it says on stderr."""
    watched = f"import atexit, sys\natexit.register(lambda: print([m for m in {SLOW} if m in sys.modules]))\n"
    done = subprocess.run(
        [sys.executable, "-c", watched + program, *arguments], capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    assert "Traceback" not in done.stderr, done.stderr
    return eval(done.stdout.splitlines()[-1]), done.stderr


def imported_by(program: str, *arguments: str) -> list[str]:
    return ran(program, *arguments)[0]


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [(), ("--help",), ("--version",), ("inspcet",), ("inspect", "--jsno"), ("eval", "x", "--limit", "many")]
    + [(command, "--help") for command in COMMANDS],
)
def test_help_and_typing_errors_wait_for_no_import(arguments):
    assert imported_by("from hf_zspa.cli import main; main()", *arguments) == []


@pytest.mark.slow
def test_importing_the_package_imports_what_is_used_of_it_when_it_is_used():
    assert imported_by("import hf_zspa, hf_zspa.vllm; hf_zspa.__version__; dir(hf_zspa)") == []
    assert "torch" in imported_by("from hf_zspa import select_tokens")


def test_every_public_name_is_there_and_says_what_it_takes_and_gives():
    assert set(hf_zspa.__all__) <= set(dir(hf_zspa))
    public = {name: getattr(hf_zspa, name) for name in hf_zspa.__all__}
    for name in (name for name in public if name.endswith("_checkpoint")):
        doc = public[name].__doc__
        assert all(section in doc for section in ("Args:", "Returns:", "Raises:")), name


def test_a_name_that_there_is_not_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'select_token'"):
        hf_zspa.select_token  # noqa: B018


WRONG = {  # and the option, or the name, that is wrong
    "convert base out --preset nothing.json": "nothing.json", "convert nothing out": "nothing",
    "inspect nothing": "nothing", "verify nothing": "nothing", "upgrade nothing": "nothing",
    "demo --method wieghted": "--method", "demo -o .": ". is a folder", "demo --keep-ratio 7": "--keep-ratio",
    "visualize CHECKPOINT --image nothing.png --prompt what? -o o.png": "nothing.png",
    "visualize CHECKPOINT --image a.png --prompt what? -o o.png --keep-ratio 7": "--keep-ratio",
    "visualize CHECKPOINT --image a.png --prompt what? -o o.txt": "o.txt",
    "eval CHECKPOINT --tasks pope --keep-ratio 7": "keep ratio", "eval CHECKPOINT --tasks pope --methods zpsa": "zpsa",
    "eval CHECKPOINT --tasks pope --dtype float": "--dtype", "eval CHECKPOINT --tasks pope -o a.png": "--output",
    "eval nothing --tasks pope": "nothing", "bench CHECKPOINT --pairs nothing": "nothing",
    "bench CHECKPOINT --keep-ratio 7": "--keep-ratio", "bench CHECKPOINT -o a.png": "--output",
    "bench CHECKPOINT --dtype float": "--dtype", "bench nothing": "nothing",
    "tune CHECKPOINT --questions nothing": "nothing", "tune CHECKPOINT --questions rows --methods zpsa": "--methods",
    "tune CHECKPOINT --questions rows --keep-ratio 7": "--keep-ratio",
    "tune CHECKPOINT --questions rows --agreement 0.9": "--agreement",
    "tune CHECKPOINT --questions many --agreement 0.05 -o a.png": "--output",
    "tune nothing --questions many --agreement 0.05": "nothing", "push CHECKPOINT name --dry-run": "'name'",
    "push CHECKPOINT a/b --picture nothing.png": "nothing.png", "app nothing": "nothing",
    "app --dtype float": "--dtype", "app CHECKPOINT --space a.png": "a.png",
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a picture, rows about it, and rows about sixty."""
    folder = tmp_path_factory.mktemp("given")
    for n in range(60):
        tiny.random_image(8, 8, n).save(folder / f"{n}.png")
    (folder / "0.png").rename(folder / "a.png")
    rows = [json.dumps({"image": f"{n or 'a'}.png", "prompt": "what?"}) for n in range(60)]
    (folder / "rows").write_text(rows[0])
    (folder / "many").write_text("\n".join(rows))
    convert_checkpoint(CHECKPOINT, folder / "CHECKPOINT")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("line", WRONG)
def test_what_is_wrong_is_said_before_torch_is_imported(monkeypatch, folder, line):
    monkeypatch.chdir(folder)
    monkeypatch.setenv("PYTHONPATH", str(Path(hf_zspa.__file__).parents[1]))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    before = set(folder.iterdir())
    imported, said = ran("from hf_zspa.cli import main; main()", *line.split())
    assert WRONG[line] in said and not {"torch", "transformers"} & {*imported}, (imported, said)
    assert set(folder.iterdir()) == before
