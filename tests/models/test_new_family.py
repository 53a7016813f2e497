"""A family that does not exist, added as docs/extending.md says: one record and one modeling file."""

import json
import shutil
from dataclasses import replace

import pytest
import tiny
import torch

from hf_zspa.checkpoints import code_files
from hf_zspa.checkpoints.convert import convert_checkpoint
from hf_zspa.checkpoints.families import FAMILIES, Grid, Layout
from hf_zspa.checkpoints.inspect import ImageExample, inspect_checkpoint
from hf_zspa.checkpoints.verify import verify_checkpoint
from hf_zspa.loading import load_zspa, question_inputs
from hf_zspa.models import in_memory
from hf_zspa.models.given import open_image
from hf_zspa.visualize.checkpoint import visualize_checkpoint
from hf_zspa.visualize.token_grid import token_views

# What transformers would bring: a LLaVA of another name, made of 4 by 16 tokens instead of 8 by 8.
STOCK = """from transformers import LlavaConfig, LlavaForConditionalGeneration, LlavaModel


class MadeupLlavaConfig(LlavaConfig):
    model_type = "madeup_llava"


class MadeupLlavaModel(LlavaModel):
    config_class = MadeupLlavaConfig


class MadeupLlavaForConditionalGeneration(LlavaForConditionalGeneration):
    config_class = MadeupLlavaConfig

    def __init__(self, config):
        super().__init__(config)
        self.model = MadeupLlavaModel(config)
        self.post_init()
"""
LAYOUT = Layout(64, (Grid(tuple(range(row, row + 16) for row in range(0, 64, 16))),))


@pytest.fixture
def family(tmp_path, monkeypatch):
    """The record, and beside this package's code the modeling file: LLaVA's, with the stock classes replaced."""
    code = shutil.copytree(code_files.REMOTE_CODE, tmp_path / "remote_code")
    text = (code / "modeling_zspa_llava.py").read_text(encoding="utf-8").replace("Llava", "MadeupLlava")
    imports = "from transformers import MadeupLlavaConfig, MadeupLlavaForConditionalGeneration, MadeupLlavaModel\n"
    positions = '    allowed_position_ids = ("preserve", "compact")\n\n'
    assert imports in text and positions in text
    text = text.replace(imports, STOCK).replace(positions, "")
    (code / "modeling_zspa_madeup_llava.py").write_text(text, encoding="utf-8")
    monkeypatch.setattr(code_files, "REMOTE_CODE", code)
    # It would be there. Of transformers there may be two module objects, by what was imported first.
    monkeypatch.setattr(in_memory.transformers, "MadeupLlavaForConditionalGeneration", object, raising=False)
    record = replace(
        FAMILIES["llava"],
        model_type="madeup_llava",
        stock="MadeupLlavaForConditionalGeneration",
        layout=lambda config, size: LAYOUT,
        typical=lambda config: [("a made-up image", ())],
        needs=("torchvision",),
        vllm=None,
    )
    monkeypatch.setitem(FAMILIES, record.model_type, record)
    return record


@pytest.fixture
def base(tmp_path, base_checkpoint):
    folder = shutil.copytree(base_checkpoint("llava", layout="new"), tmp_path / "base")
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "madeup_llava", "architectures": ["MadeupLlavaForConditionalGeneration"]}
    tiny.write_json(folder / "config.json", config)
    return folder


@pytest.fixture
def checkpoint(family, base, tmp_path):
    return convert_checkpoint(base, tmp_path / "out")


def test_it_is_converted_and_verified(checkpoint):
    assert (checkpoint / "modeling_zspa_madeup_llava.py").is_file()
    config = json.loads((checkpoint / "config.json").read_text())
    assert config["architectures"][0] == "ZspaMadeupLlavaForConditionalGeneration"
    assert verify_checkpoint(checkpoint).passed


def test_what_its_config_class_does_not_allow_is_refused(family, base, tmp_path):
    with pytest.raises(ValueError, match="zspa_position_ids is 'compact', but must be 'preserve'"):
        convert_checkpoint(base, tmp_path / "out", zspa_position_ids="compact")


def test_it_is_inspected_before_and_after(checkpoint, base):
    for folder in (base, checkpoint):
        info = inspect_checkpoint(folder)
        assert info.model_type == "madeup_llava" and info.examples == [ImageExample("a made-up image", 64, 6, 1, True)]


def test_its_card_says_what_its_record_says(checkpoint):
    card = (checkpoint / "README.md").read_text()
    assert "| a made-up image | 64 | 6 |" in card and "needs torchvision" in card


def test_it_is_drawn(checkpoint, tmp_path):
    tiny.random_image(90, 60).save(tmp_path / "scene.png")
    visualize_checkpoint(checkpoint, tmp_path / "scene.png", "what?", tmp_path / "out.png")
    assert open_image(tmp_path / "out.png").width > 480
    model, processor = load_zspa(checkpoint)
    image = open_image(tmp_path / "scene.png")
    (view,) = token_views(model, processor, question_inputs(model, processor, image, "what?"), image, 64)
    assert view.name == "4 x 16 tokens" and torch.equal(view.tokens.flatten(), torch.arange(64))


def test_it_answers_as_the_family_that_it_is_a_copy_of(checkpoint, base_checkpoint, tmp_path):
    copied = convert_checkpoint(base_checkpoint("llava", layout="new"), tmp_path / "llava")
    answers = []
    for folder in (checkpoint, copied):
        model, processor = load_zspa(folder)
        inputs = question_inputs(model, processor, tiny.random_image(90, 60), "what colour is the star?")
        assert [len(kept) for kept in model.select_visual_tokens(**inputs)] == [6]
        answers.append(model.generate(**inputs, do_sample=False, max_new_tokens=6))
    assert type(model).__name__ == "ZspaLlavaForConditionalGeneration"
    assert torch.equal(*answers)
