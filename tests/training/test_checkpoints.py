"""Converted checkpoints in TRL's trainers: what is chosen, which reference is taken, and what is saved."""

import json
import math

import peft
import pytest
import tiny
import torch
from steps import take_step
from transformers import AutoModelForImageTextToText, AutoProcessor
from trl_trainers import MODES, ONE, trainer_of

from hf_zspa.checkpoints.convert import convert_checkpoint

# TRL 1.16 loads what it needs by the name that the model came from; TRL 0.24 has no such setting, and copies models.
TRUST = {"trust_remote_code": True} if ONE else {}


@pytest.fixture
def converted(base_checkpoint, tmp_path):
    def convert(family):
        return convert_checkpoint(base_checkpoint(family), tmp_path / f"{family}-zspa")

    return convert


def load(folder):
    """The model of a checkpoint, after making sure that each of its weights, and no other, was in the files."""
    model, info = AutoModelForImageTextToText.from_pretrained(folder, trust_remote_code=True, output_loading_info=True)
    assert not any(info.get(name) for name in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    return model


def processor_of(folder):
    processor = AutoProcessor.from_pretrained(folder)
    processor.tokenizer.padding_side = "left"
    return processor


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_grpo_scores_answers_to_the_visual_tokens_that_they_were_given_to(converted, tmp_path, monkeypatch, family):
    folder = converted(family)
    model, chosen = load(folder), []
    pruner = type(model.pruner_for_call())
    select = pruner.__call__

    def recorded(self, visual_tokens, prompt_tokens):
        chosen.append(select(self, visual_tokens, prompt_tokens))
        return chosen[-1]

    monkeypatch.setattr(pruner, "__call__", recorded)
    take_step(trainer_of("GRPO", model, processor_of(folder), tmp_path), model.model.language_model)
    rollout, scored = (sorted(indices.tolist() for indices in call) for call in chosen)  # TRL shuffles in between
    assert rollout == scored and len(rollout) == 4


@pytest.mark.parametrize("family", tiny.FAMILIES if ONE else ("llava", "llava_next"))
def test_the_reference_that_dpo_makes_itself_prunes(converted, tmp_path, family):
    folder = converted(family)
    model = load(folder)
    step = take_step(trainer_of("DPO", model, processor_of(folder), tmp_path, **TRUST), model.model.language_model)
    # What it is where the policy and its reference give every answer the same probability, before the first update.
    assert step.losses[0].item() == pytest.approx(math.log(2), abs=1e-5)


def test_a_checkpoint_that_is_named_to_a_trainer_prunes_or_is_refused(converted, tmp_path):
    folder = converted("llava")
    if ONE:
        trainer = trainer_of("SFT", str(folder), processor_of(folder), tmp_path, **TRUST)
        step = take_step(trainer, trainer.model.model.language_model)
        assert step.lengths[0] < step.batches[0]["input_ids"].shape[1]
    else:
        with pytest.raises(AttributeError, match="ZspaLlavaForConditionalGeneration"):
            trainer_of("SFT", str(folder), processor_of(folder), tmp_path)


@pytest.mark.parametrize(
    "family, mode",
    [("llava", "float32"), ("llava_next", "all three"), ("qwen2_5_vl", "bf16 autocast"), ("qwen2_5_vl", "LoRA")],
)
def test_what_was_trained_and_saved_loads_and_prunes(converted, tmp_path, family, mode):
    folder, saved = converted(family), tmp_path / "saved"
    model = load(folder)
    trainer = trainer_of("SFT", model, processor_of(folder), tmp_path, mode, learning_rate=1e-2)
    inputs = take_step(trainer, model.model.language_model).batches[0]
    trainer.save_model(saved)
    trainer.accelerator.unwrap_model(trainer.model, keep_fp32_wrapper=False)  # no autocast from here on
    if "lora" in MODES[mode]:
        adapter, saved = saved, tmp_path / "merged"
        model = peft.PeftModel.from_pretrained(load(folder), adapter).merge_and_unload()
        model.save_pretrained(saved)

    again, before = load(saved).eval(), load(folder).eval()
    with torch.no_grad():
        logits = [each(**inputs).logits for each in (model.eval(), again, before)]
    torch.testing.assert_close(logits[1], logits[0])
    assert (logits[2] - logits[0]).abs().max() > 1e-2
    (kept, *_), (all_of_them, *_) = (again.select_visual_tokens(**inputs, **r) for r in ({}, {"zspa_keep_ratio": 1.0}))
    assert len(kept) == max(1, int(0.1 * len(all_of_them) + 0.5)) < len(all_of_them)
    configs = [json.loads((path / "config.json").read_text()) for path in (folder, saved)]
    for name in configs[0]:
        if name.startswith("zspa_") or name in ("architectures", "model_type"):
            assert configs[1][name] == configs[0][name]
    code = [{path.name: path.read_bytes() for path in at.glob("*.py")} for at in (folder, saved)]
    assert code[0] == code[1] and code[0]
