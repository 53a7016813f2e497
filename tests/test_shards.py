"""Bases whose weights are in several files, named by an index."""

import shutil

import pytest
import tiny

from hf_zspa.checkpoint import convert_checkpoint


@pytest.fixture
def sharded(tmp_path, base_checkpoint):
    return shutil.copytree(base_checkpoint("llava", sharded=True), tmp_path / "base")


def test_a_missing_shard_is_named(sharded, tmp_path):
    missing = sorted(sharded.glob("*.safetensors"))[1]
    missing.unlink()
    with pytest.raises(ValueError, match=f"lacks the shard {missing.name}"):
        convert_checkpoint(sharded, tmp_path / "out")


def test_an_index_cannot_name_files_elsewhere(sharded, tmp_path):
    tiny.write_json(sharded / "model.safetensors.index.json", {"weight_map": {"a": "../model.safetensors"}})
    with pytest.raises(ValueError, match=r"must name \.safetensors files beside it"):
        convert_checkpoint(sharded, tmp_path / "out")


@pytest.mark.parametrize(
    "weight_map, message",
    [
        ([], "names no weights"),
        ({"a": 5}, "names '5', but must name .safetensors files beside it"),
        ({"a": "\x1b[2K.safetensors"}, r"lacks the shard \\x1b\[2K.safetensors"),
    ],
)
def test_an_index_of_anything_else_is_one_line(sharded, tmp_path, weight_map, message):
    tiny.write_json(sharded / "model.safetensors.index.json", {"weight_map": weight_map})
    with pytest.raises(ValueError, match=message):
        convert_checkpoint(sharded, tmp_path / "out")
