"""What a push removes from a repository, so that what a user loads is the checkpoint, and what it leaves there."""

import pytest

from hf_zspa.checkpoints.convert import convert_checkpoint
from hub.contents import arrived, local

LEFTOVERS = [
    "model-00001-of-00002.safetensors", "model.safetensors.index.json", "model.fp16.safetensors", "pytorch_model.bin",
    "pytorch_model-00001-of-00002.bin", "pytorch_model.bin.index.json", "adapter_config.json",
    "adapter_model.safetensors", "config.4.40.0.json", "training_args.bin", "zspa_old.py", "helper.py", "folder/own.py",
    "folder/adapter_config.json", "folder/OLD.PY", "fast.so", "custom_generate/notes.txt",
]  # fmt: skip
OTHERS = [
    "extra.gguf",
    "notes.md",
    "measured.json",
    "folder/weights.safetensors",
    "readme.md",
    "photo.png",
    "paper.pdf",
]
# JSON that leads elsewhere by what it holds, and names that some systems take for others.
LEADING = {
    "video_preprocessor_config.json": b'{"auto_map": {"AutoVideoProcessor": "else/where--a.B"}}',
    "more/processor_config.json": b'{"parts": [{"auto_map": {"AutoImageProcessor": "else/where--a.B"}}]}',
    "old.json": b'{"custom_pipelines": {"task": {"impl": "else/where--a.B"}}}',
    "model.safetensors.index.fp16.json": b'{"weight_map": {"a": "pytorch_model.bin"}}',
    "Config.json": b"{}", "adapter_config.json.": b"{}", "custom_generate\\generate.txt": b"",
    "Zspa_Prompt.PY": b"",
}  # fmt: skip
# What verify does not know, or cannot read, and nothing loads.
UNKNOWN = {
    "demo.ipynb": b"{}", "onnx/model.onnx": b"", "my photo.png": b"", "broken.json": b'{"auto_map": 1,',
    "checkpoint-5/optimizer.pt": b"", "openvino/openvino_model.bin": b"",
}  # fmt: skip


@pytest.fixture
def crowded(hub, repository):
    """A repository with leftovers of another version, and with what a person added."""
    hub.add(repository, {name: b"{}" for name in [".gitattributes", *LEFTOVERS, *OTHERS]})
    return repository


def test_leftovers_of_another_version_go_and_what_others_added_stays(hub, client, checkpoint, crowded):
    done = client.run("push", checkpoint, crowded)
    assert done.status == 0, done.err
    assert arrived(hub, crowded) == local(checkpoint) | dict.fromkeys(OTHERS, b"{}")
    verified = client.run("verify", crowded)
    assert verified.status == 0, verified.out
    assert ".gitattributes" in hub.files(crowded)


def test_a_dry_run_lists_what_goes_and_what_stays(hub, client, checkpoint, crowded):
    done = client.run("push", checkpoint, crowded, "--dry-run")
    lines = dict(line.split()[::2] for line in done.out.splitlines() if len(line.split()) == 3)
    assert [name for name in lines if lines[name] == "remove"] == sorted(LEFTOVERS)
    assert [name for name in lines if lines[name] == "stays"] == sorted(OTHERS)


@pytest.mark.parametrize("dry", [True, False])
def test_json_that_leads_elsewhere_goes_and_what_nothing_loads_stays_and_is_named(
    hub, client, checkpoint, repository, dry
):
    hub.add(repository, LEADING | UNKNOWN)
    done = client.run("push", checkpoint, repository, *["--dry-run"] * dry)
    assert done.status == 0, done.err
    for name in UNKNOWN:
        assert f"it stays in the repository, which hf-zspa verify will not pass: {name} " in done.out
    if dry:
        removed = {line.split()[0] for line in done.out.splitlines() if line.split()[-1] == "remove"}
        assert removed == set(LEADING)
        return
    assert arrived(hub, repository) == local(checkpoint) | UNKNOWN
    verified = client.run("verify", repository)
    said = [line for line in verified.out.splitlines() if line.startswith(tuple(UNKNOWN))]
    assert verified.status == 1 and len(said) == len(UNKNOWN)


@pytest.mark.parametrize("sharded", [True, False])
def test_weights_of_another_layout_take_the_place_of_those_before(
    hub, client, checkpoint, base_checkpoint, tmp_path, repository, sharded
):
    """transformers would load a single file first."""
    in_shards = convert_checkpoint(base_checkpoint("llava", sharded=True), tmp_path / "in-shards")
    first, second = (checkpoint, in_shards) if sharded else (in_shards, checkpoint)
    assert client.run("push", first, repository).status == 0
    done = client.run("push", second, repository)
    assert done.status == 0, done.err
    assert arrived(hub, repository) == local(second)


def test_only_removing_is_a_change_too(hub, client, checkpoint, repository):
    client.run("push", checkpoint, repository)
    client.upload(repository, "adapter_config.json", b"{}")
    done = client.run("push", checkpoint, repository)
    assert done.status == 0 and arrived(hub, repository) == local(checkpoint)
