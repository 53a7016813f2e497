"""What a conversion writes, and what it refuses without leaving anything behind."""

import json
import os
import shutil

import pytest
import tiny

import hf_zspa.checkpoints.convert
import hf_zspa.checkpoints.files
import hf_zspa.checkpoints.resolve
from hf_zspa.checkpoints.code_files import REMOTE_CODE
from hf_zspa.checkpoints.convert import convert_checkpoint, read_preset
from hf_zspa.checkpoints.inspect import inspect_checkpoint


@pytest.fixture
def base(tmp_path, base_checkpoint):
    """A LLaVA base of a test's own, alone in its folder."""
    return shutil.copytree(base_checkpoint("llava"), tmp_path / "base")


@pytest.fixture
def sharded(tmp_path, base_checkpoint):
    return shutil.copytree(base_checkpoint("llava", sharded=True), tmp_path / "base")


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def edit_config(folder, **entries):
    tiny.write_json(folder / "config.json", json.loads((folder / "config.json").read_text()) | entries)


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_the_config_only_gains_what_pruning_needs(base_checkpoint, tmp_path, family):
    stock = json.loads((base_checkpoint(family) / "config.json").read_text())
    out = convert_checkpoint(base_checkpoint(family), tmp_path / "out", zspa_keep_ratio=0.25)
    config = json.loads((out / "config.json").read_text())
    added = {name: config.pop(name) for name in list(config) if name not in stock}
    assert added.pop("auto_map")["AutoModel"] == f"modeling_zspa_{family}.Zspa{tiny.STOCK[family]}"
    assert config.pop("architectures") == [f"Zspa{tiny.STOCK[family]}", *stock.pop("architectures")]
    assert list(config.items()) == list(stock.items())
    assert all(name.startswith("zspa_") for name in added) and added["zspa_keep_ratio"] == 0.25


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_the_result_holds_the_base_our_code_and_nothing_else(base_checkpoint, tmp_path, family):
    base = shutil.copytree(base_checkpoint(family, sharded=True), tmp_path / "base")
    for name in ("pytorch_model.bin", "notes.md", "own.py", "logo.png", ".hidden.json", "pytorch_model.bin.index.json"):
        (base / name).write_text("{}")
    (base / "NOTICE.txt").write_text("a notice")
    (base / "original").mkdir()
    out = convert_checkpoint(base, tmp_path / "out")
    code = {f"modeling_zspa_{family}.py", *(path.name for path in REMOTE_CODE.glob("zspa_*.py"))}
    kept = {"NOTICE.txt", *(path.name for path in base_checkpoint(family, sharded=True).iterdir())}
    assert set(contents(out)) == code | kept
    assert all((out / name).read_bytes() == (REMOTE_CODE / name).read_bytes() for name in code)
    assert all((out / name).read_bytes() == (base / name).read_bytes() for name in kept - {"config.json", "README.md"})


def test_converting_twice_gives_the_same_bytes(base, tmp_path):
    first = contents(convert_checkpoint(base, tmp_path / "out"))
    assert contents(convert_checkpoint(base, tmp_path / "out", force=True)) == first


def test_the_card_states_the_licence_of_the_base(base, tmp_path):
    (base / "README.md").write_text("---\nlicense: other\nlicense_name: its-own\n---\n")
    card = (convert_checkpoint(base, tmp_path / "out") / "README.md").read_text()
    assert "license: other" in card and "license_name: its-own" in card and str(tmp_path) not in card


@pytest.mark.parametrize("link", [False, True])
def test_weights_are_shared_with_the_base_only_on_request(base, tmp_path, link):
    out = convert_checkpoint(base, tmp_path / "out", link=link)
    assert (out / "model.safetensors").samefile(base / "model.safetensors") is link


def test_weights_are_cloned_where_the_file_system_can(base, tmp_path, monkeypatch):
    def clone(target, request, source):
        assert request == 0x40049409  # FICLONE
        os.write(target, os.pread(source, os.fstat(source).st_size, 0))

    monkeypatch.setattr(hf_zspa.checkpoints.files.fcntl, "ioctl", clone)
    monkeypatch.setattr(hf_zspa.checkpoints.files, "BLOCK", "no size")  # copying fails
    out = convert_checkpoint(base, tmp_path / "out")
    assert (out / "model.safetensors").read_bytes() == (base / "model.safetensors").read_bytes()


def test_progress_ends_with_all_bytes_of_the_weights(sharded, tmp_path):
    seen = []
    convert_checkpoint(sharded, tmp_path / "out", progress=lambda done, total: seen.append((done, total)))
    total = sum(path.stat().st_size for path in sharded.glob("*.safetensors"))
    assert seen == sorted(seen) and seen[-1] == (total, total)


def test_a_base_in_the_hubs_cache_becomes_a_folder_of_plain_files(base, tmp_path):
    blobs = base.rename(tmp_path / "blobs")
    base.mkdir()
    for path in blobs.iterdir():
        (base / path.name).symlink_to(path)
    out = convert_checkpoint(base, tmp_path / "out")
    assert not any(path.is_symlink() for path in out.iterdir())


def test_a_base_without_chat_template_has_no_markers(base, tmp_path):
    (base / "chat_template.json").unlink()
    fields = inspect_checkpoint(convert_checkpoint(base, tmp_path / "out")).fields
    assert fields["zspa_query_start_ids"] is None and fields["zspa_query_end_ids"] is None
    assert fields["zspa_special_token_ids"] == [0, 1, 2, 3, 4]


def only_pickled(base):
    (base / "model.safetensors").rename(base / "pytorch_model.bin")


def truncated(base):
    weights = (base / "model.safetensors").read_bytes()
    (base / "model.safetensors").write_bytes(weights[: len(weights) // 2])


REFUSED_BASES = {
    "unknown family": (lambda base: edit_config(base, model_type="bert"), "'bert', but must be one of llava, llava_n"),
    "no config": (lambda base: (base / "config.json").unlink(), "is not a checkpoint: it has no config.json"),
    "config is no JSON": (lambda base: (base / "config.json").write_text("{"), "config.json is not valid JSON"),
    "only pickled weights": (only_pickled, r"only pickled ones \(pytorch_model.bin\)"),
    "no weights": (lambda base: (base / "model.safetensors").unlink(), "but has none"),
    "truncated weights": (truncated, "model.safetensors is not a complete safetensors file"),
    "converted already": (lambda base: edit_config(base, zspa_keep_ratio=0.3), r"edit zspa_keep_ratio \(now 0.3\)"),
    "the original LLaVA code": (
        lambda base: edit_config(base, architectures=["LlavaLlamaForCausalLM"], mm_vision_tower="openai/clip"),
        "is of the architecture LlavaLlamaForCausalLM, but must be of LlavaForConditionalGeneration: take the check",
    ),
    "another class of the family": (
        lambda base: edit_config(base, architectures=["LlavaForSequenceClassification"]),
        "is of the architecture LlavaForSequenceClassification, but must be of LlavaForConditionalGeneration",
    ),
    "no name of a class": (
        lambda base: edit_config(base, architectures=[None]),
        "is of the architecture None, but must",
    ),
    "no class": (
        lambda base: edit_config(base, architectures=[{"a": 1}]),
        "is of the architecture .*'a': 1.*, but must",
    ),
    "code of its own": (lambda base: edit_config(base, auto_map={"AutoModel": "m.C"}), "brings model code of its own"),
    "another config file": (
        lambda base: edit_config(base, configuration_files=["config.4.0.0.json"]),
        r'remove configuration_files \(now \["config.4.0.0.json"\]\) from its config.json',
    ),
    "code of a part": (
        lambda base: edit_config(base, vision_config={"auto_map": {"AutoModel": "m.C"}}),
        r"sends transformers to code of its own: vision_config.auto_map is .* remove vision_config.auto_map",
    ),
    "a part that loads a backbone": (
        lambda base: edit_config(base, vision_config={"model_type": "detr", "use_pretrained_backbone": True}),
        r'base cannot be converted: vision_config in its config.json is of model type "detr", which may load more .* '
        "llava can be made of clip_vision_model, siglip_vision_model, pixtral$",
    ),
    "code of a pipeline": (
        lambda base: edit_config(base, custom_pipelines={"x": {"impl": "else/where--m.P"}}),
        "has a pipeline of transformers run code of its own: custom_pipelines is .* remove custom_pipelines",
    ),
    "other weights": (
        lambda base: edit_config(base, transformers_weights="model.bin"),
        'other weights than model.safetensors: transformers_weights is "model.bin"',
    ),
    "code of the processor": (
        lambda base: tiny.write_json(base / "processor_config.json", {"image_processor": {"auto_map": {"A": "m.C"}}}),
        "processor_config.json sends transformers to code of its own: image_processor.auto_map is",
    ),
    "adapter": (lambda base: (base / "adapter_config.json").write_text("{}"), "has a PEFT adapter"),
    "no processor": (
        lambda base: [path.unlink() for path in base.glob("*processor_config.json")],
        "has no image processor: none of the",
    ),
    "no tokenizer": (lambda base: (base / "tokenizer.json").unlink(), "has no tokenizer"),
}


@pytest.mark.parametrize("spoil, message", REFUSED_BASES.values(), ids=REFUSED_BASES)
def test_a_base_that_cannot_be_converted_is_refused(base, tmp_path, spoil, message):
    spoil(base)
    with pytest.raises(ValueError, match=message):
        convert_checkpoint(base, tmp_path / "out")
    assert list(tmp_path.iterdir()) == [base]


def test_a_config_for_some_versions_of_transformers_stays_behind(base, tmp_path):
    shutil.copy(base / "config.json", base / "config.4.0.0.json")
    assert "config.4.0.0.json" not in contents(convert_checkpoint(base, tmp_path / "out"))


REFUSED_FIELDS = [
    ({"zspa_keep_ratio": 0}, "zspa_keep_ratio is 0, but"),
    ({"zspa_core_ratio": 1.5}, "zspa_core_ratio is 1.5, but"),
    ({"zspa_pooling": "median"}, "zspa_pooling is 'median', but"),
    ({"zspa_prompt_scope": "all"}, "zspa_prompt_scope is 'all', but"),
    ({"keep_ratio": 0.2}, "did you mean zspa_keep_ratio"),
    ({"zspa_ratio": 0.2}, "zspa_ratio is not a field of the config"),
]


@pytest.mark.parametrize("fields, message", REFUSED_FIELDS, ids=[message for _, message in REFUSED_FIELDS])
def test_a_wrong_field_is_refused_before_anything_is_written(base, tmp_path, fields, message):
    with pytest.raises(ValueError, match=message):
        convert_checkpoint(base, tmp_path / "out", **fields)
    assert list(tmp_path.iterdir()) == [base]


def test_compact_positions_are_refused_for_qwen(base_checkpoint, tmp_path):
    with pytest.raises(ValueError, match="zspa_position_ids is 'compact'"):
        convert_checkpoint(base_checkpoint("qwen2_5_vl"), tmp_path / "out", zspa_position_ids="compact")


def test_a_checkpoint_in_the_way_is_kept_unless_forced(base, tmp_path):
    out = convert_checkpoint(base, tmp_path / "out")
    (out / "mine.txt").write_text("mine")
    before = contents(out)
    with pytest.raises(ValueError, match="is not empty: --force, from Python force=True, replaces it"):
        convert_checkpoint(base, out)
    assert contents(out) == before
    assert "mine.txt" not in contents(convert_checkpoint(base, out, force=True))


@pytest.mark.parametrize("target", [".", "inside", ".."])
def test_base_and_target_must_not_hold_each_other(base, target):
    before = contents(base)
    with pytest.raises(ValueError, match=r"must not be, or be inside, each other|something else than a checkpoint"):
        convert_checkpoint(base, base / target, force=True)
    assert contents(base) == before


@pytest.mark.parametrize("target, message", [("file", "is a file"), ("file/folder", "is a file, so that")])
def test_a_target_that_cannot_be_made_is_refused(base, tmp_path, target, message):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=message):
        convert_checkpoint(base, tmp_path / target)


def test_the_weights_of_a_hub_id_are_downloaded_only_for_a_family_that_converts(base, tmp_path, monkeypatch):
    asked_for_weights = []

    def snapshot(repository, revision, allow_patterns, ignore_patterns):
        asked_for_weights.append("*.safetensors" not in (ignore_patterns or ()))
        assert (repository, revision) == ("org/base", base.name if asked_for_weights[-1] else "v1")
        return str(base)

    monkeypatch.setattr(hf_zspa.checkpoints.resolve, "snapshot_download", snapshot)
    out = convert_checkpoint("org/base", tmp_path / "out", revision="v1")
    assert asked_for_weights == [False, True] and "base_model: org/base" in (out / "README.md").read_text()
    card = (convert_checkpoint("org/base@v1", tmp_path / "same") / "README.md").read_text()
    assert "base_model: org/base\n" in card and "org/base@" not in card
    edit_config(base, model_type="bert")
    with pytest.raises(ValueError, match="'bert', but must be one of"):
        convert_checkpoint("org/base", tmp_path / "second", revision="v1")
    assert asked_for_weights == [False, True, False, True, False]


@pytest.mark.parametrize("name", ["no_such/checkpoint", "not a hub id", "./nowhere"])
def test_a_base_that_is_nowhere_is_named(tmp_path, monkeypatch, name):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match=name):
        convert_checkpoint(name, tmp_path / "out")


def test_a_preset_gives_fields_and_only_fields(tmp_path):
    tiny.write_json(tmp_path / "good.json", {"description": "words", "zspa_keep_ratio": 0.3})
    tiny.write_json(tmp_path / "bad.json", {"zspa_keep_ratio": 0.3, "keep": 1})
    assert read_preset(tmp_path / "good.json") == {"zspa_keep_ratio": 0.3}
    with pytest.raises(ValueError, match=r"bad\.json has keep, but a preset may have"):
        read_preset(tmp_path / "bad.json")


def test_inspecting_a_base_says_what_a_conversion_would_do(base, tmp_path):
    out = convert_checkpoint(base, tmp_path / "out")
    before, after = (inspect_checkpoint(folder, files=True) for folder in (base, out))
    assert (before.converted, after.converted) == (False, True)
    assert before.fields == after.fields and before.model_type == after.model_type == "llava"
    assert set(after.turn_starts) == {"USER:", "USER: "} and set(after.turn_ends) == {"ASSISTANT:"}
    weights = {file.name: (file.size, file.sha256) for file in before.files}["model.safetensors"]
    assert weights == {file.name: (file.size, file.sha256) for file in after.files}["model.safetensors"]


def test_force_replaces_a_checkpoint_but_never_another_folder(base, tmp_path, monkeypatch):
    other = tmp_path / "precious"
    other.mkdir()
    (other / "thesis.txt").write_text("years of work")
    with pytest.raises(ValueError, match="holds something else than a checkpoint"):
        convert_checkpoint(base, other, force=True)
    monkeypatch.chdir(other)
    with pytest.raises(ValueError, match="current folder"):
        convert_checkpoint(base, other, force=True)
    assert (other / "thesis.txt").read_text() == "years of work"
