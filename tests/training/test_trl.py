"""TRL's trainers take the oracle's step with a model that prunes: SFT, DPO and GRPO, as people run them.

These tests run on two versions of transformers, each with a TRL of its time; which, stands in noxfile.py. TRL 0.24
calls the model and takes its loss (SFT) or its logits. TRL 1.16 calls the inner model and does the rest by itself.
"""

import pairs
import pytest
import tiny
import torch
from steps import BF16, EXACT, assert_same_step, both_steps
from trl_trainers import ANSWERED, CONVERSATIONS, MODES, ONE, trainer_of


def cases(families, family):
    """Each family plainly, and one of them in every mode."""
    modes = (pytest.param(family, mode, marks=pytest.mark.slow) for mode in MODES if mode != "float32")
    return [*((name, "float32") for name in families), *modes]


CASES = cases(tiny.FAMILIES, "qwen2_5_vl")
# DPO of TRL 0.24 does not hand on the grids that Qwen2.5-VL needs, stock or not.
DPO_CASES = CASES if ONE else cases(("llava", "llava_next"), "llava_next")


@pytest.fixture
def take(load, base_checkpoint, tmp_path):
    """A function from a family, a kind of trainer and its options to the step found and the one expected."""

    def take_both(family, kind, mode="float32", **options):
        pair, other = load(family), pairs.load(family, base_checkpoint(family, seed=1))

        def make(model, of):
            reference = of(other) if kind == "DPO" else None
            return trainer_of(kind, model, pair.processor, tmp_path, mode, reference=reference, **options)

        return both_steps(pair, make, bf16=MODES[mode].get("bf16", False))

    return take_both


def tolerance(mode):
    return BF16 if MODES[mode].get("bf16") else EXACT


@pytest.mark.parametrize("family, mode", CASES)
def test_sft_takes_the_oracles_step(take, family, mode):
    assert_same_step(*take(family, "SFT", mode), tolerance(mode))


@pytest.mark.parametrize("data", [ANSWERED, CONVERSATIONS], ids=["answered", "conversations"])
@pytest.mark.parametrize("loss_type", ["nll", "dft"])
def test_every_loss_of_sft_is_the_oracles_and_so_are_its_metrics(take, loss_type, data):
    found, expected = take("llava", "SFT", data=data, loss_type=loss_type)
    assert_same_step(found, expected, EXACT)
    for name in ("entropy", "mean_token_accuracy", "num_tokens"):
        assert found.logs[name] == pytest.approx(expected.logs[name], rel=EXACT.values)


@pytest.mark.parametrize("family, mode", DPO_CASES)
def test_dpo_takes_the_oracles_step(take, family, mode):
    found, expected = take(family, "DPO", mode)
    near = tolerance(mode).values
    assert abs(expected.losses[0] - torch.tensor(2.0).log()) > 1e-3  # which it is where policy and reference agree
    assert_same_step(found, expected, tolerance(mode))
    for name in ("rewards/chosen", "rewards/rejected", "logps/chosen", "logps/rejected"):
        assert found.logs[name] == pytest.approx(expected.logs[name], rel=near, abs=near)


@pytest.mark.parametrize("family, mode", CASES)
def test_grpo_scores_its_completions_as_the_oracle_does_and_takes_its_step(take, family, mode):
    found, expected = take(family, "GRPO", mode)
    near = tolerance(mode).values
    assert len(found.logprobs) == len(expected.logprobs) > 0
    for ours, oracles in zip(found.logprobs, expected.logprobs):
        torch.testing.assert_close(ours, oracles, rtol=near, atol=near)
    assert_same_step(found, expected, tolerance(mode))
