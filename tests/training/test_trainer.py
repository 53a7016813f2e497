"""`transformers.Trainer` with a model that prunes: autocast, micro-batches, evaluation."""

import numpy as np
import pytest
import torch
import transformers
from pairs import OTHER, QUESTION, image
from steps import BF16, EXACT, assert_same_step, both_steps, forget_precision, masked, pruning, take_step

ROWS = [
    [image(), QUESTION, "a red star"],
    [image(1, (56, 140)), OTHER, "three"],
    [OTHER, image(2, (84, 84)), QUESTION, "left of the dog, near the sign"],
    [image(3, (140, 56)), "read the sign", "open"],
]


def batch_of(pair, rows, placeholders: bool = True) -> dict:
    """Rows padded on the right, with labels on all text, and as some collators do it, on the placeholders, too."""
    inputs = pair.inputs(*rows, padding_side="right")
    labels = inputs["input_ids"].masked_fill(inputs["attention_mask"] == 0, -100)
    if not placeholders:
        labels[torch.isin(labels, torch.tensor(pair.stock.placeholder_ids))] = -100
    return dict(inputs) | {"labels": labels}


def trainer_for(pair, folder, rows: int, placeholders: bool = True, metrics=None, **options):
    """A function from a model to its trainer, for one step of `rows` at a time."""

    def make(model, of=None):
        forget_precision()
        arguments = transformers.TrainingArguments(
            output_dir=str(folder), max_steps=1, per_device_train_batch_size=rows, per_device_eval_batch_size=rows,
            logging_steps=1, use_cpu=True, report_to="none", save_strategy="no", disable_tqdm=True,
            remove_unused_columns=False, max_grad_norm=0.0, **options,
        )  # fmt: skip
        return transformers.Trainer(
            model, arguments, train_dataset=ROWS, eval_dataset=ROWS, compute_metrics=metrics,
            data_collator=lambda rows: batch_of(pair, rows, placeholders),
        )  # fmt: skip

    return make


def test_a_step_under_bf16_autocast_is_the_oracles(pair, tmp_path):
    assert_same_step(*both_steps(pair, trainer_for(pair, tmp_path, 4, bf16=True), bf16=True), BF16)


@pytest.mark.parametrize("placeholders", [True, False])
def test_micro_batches_add_up_to_the_oracles_step(pair, tmp_path, placeholders):
    make = trainer_for(pair, tmp_path, 2, placeholders, gradient_accumulation_steps=2)
    found, expected = both_steps(pair, make)
    assert len(found.losses) == 2
    assert_same_step(found, expected, EXACT)


@pytest.mark.parametrize("family", ["llava", "llava_next"])  # of Qwen2.5-VL it takes the mean of the batches' means
def test_micro_batches_add_up_to_one_large_batch_where_placeholders_carry_no_labels(load, family, tmp_path):
    pair, steps = load(family), []
    for rows in (1, 2, 4):
        model = pruning(pair)
        make = trainer_for(pair, tmp_path, rows, placeholders=False, gradient_accumulation_steps=4 // rows)
        steps.append(take_step(make(model), model.model.language_model))
    large = steps.pop()
    for step in steps:
        step.losses = [torch.stack(step.losses).sum()]
        assert_same_step(step, large, EXACT)


def test_evaluation_measures_what_the_oracle_gives_at_every_input_position(pair, tmp_path):
    seen = []

    def metrics(found):
        logits, labels = found.predictions, found.label_ids
        wanted = labels[:, 1:] != -100
        assert logits.shape[:2] == labels.shape
        seen.append(logits[:, :-1][wanted])
        return {"accuracy": (logits[:, :-1].argmax(-1) == labels[:, 1:])[wanted].mean()}

    make = trainer_for(pair, tmp_path, 2, metrics=metrics)
    others = ["cache", "past_key_values", "rope_deltas", "image_outputs", "image_hidden_states"]
    found, expected = (make(model).evaluate(ignore_keys=others) for model in (pruning(pair), masked(pair)))
    np.testing.assert_allclose(*seen, rtol=EXACT.values, atol=EXACT.values)
    for name in ("eval_loss", "eval_accuracy"):
        assert found[name] == pytest.approx(expected[name], rel=EXACT.values)
