"""Bases whose weights are in several files, named by an index."""

import errno
import shutil

import pytest
import tiny

import hf_zspa.checkpoints.convert
from hf_zspa.checkpoints.convert import convert_checkpoint


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


@pytest.mark.parametrize(
    "failure, raised",
    [(OSError(errno.ENOSPC, "No space left"), (ValueError, r"out was not made \(No space left\)")),
     (KeyboardInterrupt(), (KeyboardInterrupt, None))],
)  # fmt: skip
@pytest.mark.parametrize("had_one", [False, True])
def test_a_failure_halfway_changes_nothing(sharded, tmp_path, monkeypatch, failure, raised, had_one):
    out = tmp_path / "out"
    if had_one:
        convert_checkpoint(sharded, out)
    before = {path.name: path.read_bytes() for path in out.iterdir()} if had_one else None
    calls = []

    def fail_at_the_second(source, target, link, advance):
        target.write_bytes(b"half of it")
        calls.append(target)
        if len(calls) == 2:
            raise failure

    monkeypatch.setattr(hf_zspa.checkpoints.write, "transfer", fail_at_the_second)
    with pytest.raises(raised[0], match=raised[1]):
        convert_checkpoint(sharded, out, force=True)
    assert set(tmp_path.iterdir()) == ({sharded, out} if had_one else {sharded})
    assert not had_one or {path.name: path.read_bytes() for path in out.iterdir()} == before
