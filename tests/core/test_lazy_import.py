"""What is quick to ask for imports nothing that is slow to import."""

import subprocess
import sys

import pytest

import hf_zspa

SLOW = ("torch", "transformers", "huggingface_hub", "numpy", "PIL")
COMMANDS = ("demo", "convert", "inspect", "verify", "push", "visualize", "eval", "bench", "tune", "app")


def imported_by(program: str, *arguments: str) -> list[str]:
    """Those of `SLOW` that a program has imported when it ends."""
    watched = f"import atexit, sys\natexit.register(lambda: print([m for m in {SLOW} if m in sys.modules]))\n"
    done = subprocess.run(
        [sys.executable, "-c", watched + program, *arguments], capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    assert "Traceback" not in done.stderr, done.stderr
    return eval(done.stdout.splitlines()[-1])


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
