"""The notebook runs from its first cell to its last, in a kernel of its own, on the base inside the package."""

import json
from pathlib import Path

import nbclient
import nbformat
import pytest

from hf_zspa.scenes import CHECKPOINT

NOTEBOOK = Path(__file__).parents[2] / "docs/examples/quickstart.ipynb"
BASE = '"Qwen/Qwen2.5-VL-3B-Instruct"'


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """The cells with their outputs, after a run in an empty folder."""
    text = NOTEBOOK.read_text(encoding="utf-8")
    assert text.count(json.dumps(BASE)[1:-1]) == 1
    notebook = nbformat.reads(text.replace(json.dumps(BASE)[1:-1], json.dumps(repr(str(CHECKPOINT)))[1:-1]), 4)
    place = {"metadata": {"path": str(tmp_path_factory.mktemp("notebook"))}}
    nbclient.NotebookClient(notebook, timeout=300, resources=place).execute()
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def printed(cell) -> str:
    return "".join(output.get("text", "") + output.get("data", {}).get("text/plain", "") for output in cell.outputs)


def test_it_answers_from_fewer_tokens(ran):
    (answers,) = [printed(cell) for cell in ran if "visual tokens: " in printed(cell)]
    assert answers.splitlines() == [
        "  144 visual tokens: below", "   36 visual tokens: below", "   14 visual tokens: below",
    ]  # fmt: skip


def test_it_shows_a_picture_finds_a_setting_and_saves_a_checkpoint_that_verifies(ran):
    everything = "\n".join(map(printed, ran))
    assert "14 of 144 tokens kept" in everything and "verified: True" in everything
    assert any("image/png" in output.get("data", {}) for cell in ran for output in cell.outputs)
    assert "zspa_keep_ratio" in everything
    *files, where = printed(ran[-1]).splitlines()
    assert {"model.safetensors", "config.json"} < {line.split()[-1] for line in files}
    assert all(" bytes  " in line for line in files) and where == "to https://huggingface.co/your-name/pruned-model"


def test_it_is_committed_without_outputs():
    notebook = nbformat.read(NOTEBOOK, 4)
    nbformat.validate(notebook)
    assert not [cell for cell in notebook.cells if cell.get("outputs") or cell.get("execution_count")]
