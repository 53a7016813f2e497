"""Digests of checkpoints, data and code: whatever changes a score changes them, and nothing else does."""

import ast
import shutil

import pytest
import torch
from safetensors.torch import save_file

from hf_zspa.checkpoints.resolve import checkpoint_folder
from hf_zspa.evaluation import fingerprint
from hf_zspa.evaluation.fingerprint import PACKAGE, file_digest, folder_digests, source_digests

SHAPES = {"embed": (300, 64), "layer": (128, 128), "norm": (64,), "head": (64, 300)}


@pytest.fixture
def large(monkeypatch):
    """Every file counts as a large one."""
    monkeypatch.setattr(fingerprint, "_WHOLE", 0)


def weights(path, changed=None):
    tensors = {name: torch.arange(torch.tensor(shape).prod(), dtype=torch.float32).reshape(shape)
               for name, shape in SHAPES.items()}  # fmt: skip
    if changed:
        tensors[changed] += 1
    save_file(tensors, path)
    return file_digest(path)


@pytest.mark.parametrize("changed", SHAPES)
def test_a_change_to_any_tensor_of_a_large_file_shows(tmp_path, large, changed):
    before = weights(tmp_path / "a.safetensors")
    assert weights(tmp_path / "b.safetensors") == before
    assert weights(tmp_path / "b.safetensors", changed) != before


def test_the_rows_that_a_vocabulary_gained_show(tmp_path, large):
    tensors = {"embed": torch.zeros(4000, 64)}
    save_file(tensors, tmp_path / "a.safetensors")
    tensors["embed"][-1] = 1
    save_file(tensors, tmp_path / "b.safetensors")
    assert file_digest(tmp_path / "a.safetensors") != file_digest(tmp_path / "b.safetensors")


def test_names_and_shapes_show(tmp_path, large):
    for name, tensors in (("a", {"x": torch.zeros(8)}), ("b", {"y": torch.zeros(8)}), ("c", {"x": torch.zeros(2, 4)})):
        save_file(tensors, tmp_path / f"{name}.safetensors")
    assert len({file_digest(path) for path in tmp_path.iterdir()}) == 3


@pytest.mark.parametrize("place", [0, 1_500_000, 2_999_999])
def test_other_large_files_are_looked_at_from_end_to_end(tmp_path, large, place):
    content = bytearray(3_000_000)
    (tmp_path / "a.parquet").write_bytes(content)
    content[place] = 1
    (tmp_path / "b.parquet").write_bytes(content)
    assert file_digest(tmp_path / "a.parquet") != file_digest(tmp_path / "b.parquet")


def test_of_a_small_file_every_byte_counts(tmp_path):
    (tmp_path / "a.json").write_text("0" * 10_000)
    (tmp_path / "b.json").write_text("0" * 5_000 + "1" + "0" * 4_999)
    assert file_digest(tmp_path / "a.json") != file_digest(tmp_path / "b.json")


def test_a_checkpoint_is_its_weights_code_and_settings_and_not_its_card(tmp_path):
    shutil.copytree(checkpoint_folder("embedded"), tmp_path / "checkpoint")
    before = folder_digests(tmp_path / "checkpoint")
    assert {"config.json", "model.safetensors", "zspa_selection.py", "chat_template.jinja"} <= set(before)
    (tmp_path / "checkpoint" / "README.md").write_text("another card")
    (tmp_path / "checkpoint" / ".cache").mkdir()
    (tmp_path / "checkpoint" / ".cache" / "download.json").write_text("{}")
    assert folder_digests(tmp_path / "checkpoint") == before
    code = tmp_path / "checkpoint" / "zspa_selection.py"
    code.write_text(code.read_text() + "\n")
    assert [name for name, digest in folder_digests(tmp_path / "checkpoint").items() if before[name] != digest] == [
        "zspa_selection.py"
    ]


NOT_DECIDING = {
    "evaluation/cells",
    "evaluation/fingerprint",
    "evaluation/fitting",  # it refuses
    "evaluation/stages",
    "evaluation/statistics",
    "models/in_memory",  # a sweep is of converted checkpoints
    "output",
    "scenes/__init__",
    "version",
}


def imported(path):
    """The files of this package that one of them imports."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = path.parents[node.level - 1].joinpath(*(node.module or "").split("."))
            places = [base.with_suffix(".py"), base / "__init__.py", *(base / f"{name.name}.py" for name in node.names)]
            yield from (place for place in places if place.is_file())


def test_all_code_that_a_sweep_runs_on_counts_but_what_decides_no_score():
    seen, left = set(), [PACKAGE / "evaluation" / "sweep.py", PACKAGE / "evaluation" / "scenes_task.py"]
    while left:
        path = left.pop()
        makes = PACKAGE / "checkpoints" in path.parents and "families" not in path.parts  # or finds, what is digested
        if path not in seen and not makes:
            seen.add(path)
            left.extend(imported(path))
    names = {path.relative_to(PACKAGE).with_suffix("").as_posix() for path in seen}
    assert {f"hf_zspa/{name}.py" for name in names - NOT_DECIDING} <= set(source_digests())
    assert names >= NOT_DECIDING


def test_the_code_that_measures_is_all_there():
    found = source_digests()
    assert {"hf_zspa/pruners/random_subset.py", "hf_zspa/evaluation/tasks/_zspa_scenes"} <= set(found)
    for pattern in fingerprint.MEASURING:
        assert list(PACKAGE.glob(pattern)), f"nothing is called {pattern}"
