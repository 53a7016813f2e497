"""A checkpoint converted, loaded, trained, saved and loaded again is still itself, and its base is untouched."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import tiny
import torch
import transformers
from transformers import AutoModelForImageTextToText, AutoProcessor

from hf_zspa.checkpoints.convert import convert_checkpoint

AUTO_CLASSES = [
    name
    for name in ("AutoModel", "AutoModelForImageTextToText", "AutoModelForMultimodalLM", "AutoModelForVision2Seq")
    if hasattr(transformers, name)
]
CASES = [(family, layout) for family in tiny.FAMILIES for layout in ("old", "new")]


def load(folder, **options):
    """The model of a checkpoint, after making sure that each of its weights, and no other, was in the files."""
    model, info = AutoModelForImageTextToText.from_pretrained(folder, output_loading_info=True, **options)
    assert not any(info.get(name) for name in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    return model.eval()


def question(folder, **options):
    processor = AutoProcessor.from_pretrained(folder, **options)
    content = [{"type": "image"}, {"type": "text", "text": "which colour is it?"}]
    text = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
    return processor(images=[tiny.random_image(112, 112)], text=[text], return_tensors="pt")


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def train_one_step(model, inputs):
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    model.train()(**inputs, labels=inputs["input_ids"]).loss.backward()
    optimizer.step()
    model.eval()


def assert_prunes(model, inputs, keep_ratio=0.1):
    (kept,), (all_of_them,) = (
        model.select_visual_tokens(**inputs),
        model.select_visual_tokens(**inputs, zspa_keep_ratio=1),
    )
    assert len(kept) == max(1, int(keep_ratio * len(all_of_them) + 0.5)) < len(all_of_them)


@pytest.mark.parametrize("family, layout", CASES)
def test_trained_and_saved_over_itself_it_still_prunes_and_its_base_is_untouched(
    base_checkpoint, tmp_path, family, layout
):
    base = base_checkpoint(family, layout=layout)
    before = contents(base)
    out = convert_checkpoint(base, tmp_path / f"{family}-{layout}")
    converted = json.loads((out / "config.json").read_text())
    code = {name: data for name, data in contents(out).items() if name.endswith(".py")}
    model, inputs = load(out, trust_remote_code=True), question(out)
    train_one_step(model, inputs)
    trained = model(**inputs).logits
    model.save_pretrained(out)

    again = load(out, trust_remote_code=True)
    assert_prunes(again, question(out))
    torch.testing.assert_close(again(**inputs).logits, trained)
    saved = json.loads((out / "config.json").read_text())
    for name, value in converted.items():
        if name.startswith("zspa_") or name in ("architectures", "model_type"):
            assert saved[name] == value
    assert saved["auto_map"].keys() >= {"AutoConfig", "AutoModelForImageTextToText"}
    assert {name: data for name, data in contents(out).items() if name.endswith(".py")} == code
    assert contents(base) == before


@pytest.mark.parametrize("family", tiny.FAMILIES)
@pytest.mark.parametrize("auto_class", AUTO_CLASSES)
def test_no_auto_class_yields_a_model_that_does_not_prune(base_checkpoint, tmp_path, family, auto_class):
    out = convert_checkpoint(base_checkpoint(family), tmp_path / family)
    model = getattr(transformers, auto_class).from_pretrained(out, trust_remote_code=True)
    assert type(model).__name__ == f"Zspa{tiny.STOCK[family]}"
    assert_prunes(model, question(out))


@pytest.mark.parametrize("family, layout", CASES)
def test_without_trust_it_is_the_stock_model(base_checkpoint, tmp_path, family, layout):
    base = base_checkpoint(family, layout=layout)
    out = convert_checkpoint(base, tmp_path / family)
    model, inputs = load(out), question(out)
    assert type(model).__module__.startswith("transformers.") and type(model).__name__ == tiny.STOCK[family]
    with torch.no_grad():
        assert torch.equal(model(**inputs).logits, load(base)(**question(base)).logits)


@pytest.mark.parametrize("family", tiny.FAMILIES)
@pytest.mark.skipif(transformers.__version__ < "5", reason="transformers 4 reads configs of 5 wrongly, stock ones too")
def test_a_config_written_by_transformers_5_loads(base_checkpoint, tmp_path, family):
    out = convert_checkpoint(base_checkpoint(family, style="5.x"), tmp_path / family)
    assert_prunes(load(out, trust_remote_code=True), question(out))


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_ratios_edited_by_hand_in_the_file_count(base_checkpoint, tmp_path, family):
    out = convert_checkpoint(base_checkpoint(family), tmp_path / family)
    config = json.loads((out / "config.json").read_text())
    tiny.write_json(out / "config.json", config | {"zspa_keep_ratio": 0.5})
    assert_prunes(load(out, trust_remote_code=True), question(out), keep_ratio=0.5)


ELSEWHERE = """
import sys
sys.modules["hf_zspa"] = None  # importing it fails, as where it is not installed
sys.path.insert(0, sys.argv[1])
import tiny
from transformers import AutoModelForImageTextToText, AutoProcessor
question = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "what?"}]}]
for folder in sys.argv[2:]:
    model = AutoModelForImageTextToText.from_pretrained(folder, trust_remote_code=True)
    processor = AutoProcessor.from_pretrained(folder)
    text = processor.apply_chat_template(question, add_generation_prompt=True)
    inputs = processor(images=[tiny.random_image(112, 112)], text=[text], return_tensors="pt")
    model.generate(**inputs, max_new_tokens=2)
    print(type(model).__name__, len(model.select_visual_tokens(**inputs)[0]))
"""


@pytest.mark.slow
def test_it_works_where_hf_zspa_is_not_installed(base_checkpoint, tmp_path):
    folders = [convert_checkpoint(base_checkpoint(family), tmp_path / family) for family in tiny.FAMILIES]
    command = [sys.executable, "-I", "-c", ELSEWHERE, str(Path(tiny.__file__).parents[1]), *map(str, folders)]
    finished = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    lines = [line.split() for line in finished.stdout.splitlines()]
    assert [name for name, _ in lines] == [f"Zspa{tiny.STOCK[family]}" for family in tiny.FAMILIES]
    assert all(int(kept) < 16 for _, kept in lines)
