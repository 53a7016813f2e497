"""One step of a trainer, taken by the pruning model and by the oracle."""

import copy
import functools
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import oracle
import torch
from accelerate.state import AcceleratorState
from masked import mask_dropped
from pairs import CORE, KEEP
from transformers import TrainerCallback


class Tolerance(NamedTuple):
    """Relative: of losses and log-probabilities, and of a parameter's gradient by its norm."""

    values: float
    gradients: float


# Found on the tests' models: 1e-6 and 6e-6; under autocast 5e-4 and 7e-2. An unpruned step is off by more than 1.
EXACT, BF16 = Tolerance(1e-4, 1e-4), Tolerance(2e-2, 0.2)


@dataclass
class Step:
    """What a trainer did in one step.

    Attributes:
        batches: what it gave to `compute_loss`.
        losses: of each of them.
        logprobs: of each time that TRL's GRPO scored completions.
        gradients: parameter's name → its gradient, before clipping.
        lengths: how many tokens the text model was given, call by call.
        autocast: whether that was under autocast.
        logs: the first entry of the trainer's history.
    """

    batches: list[dict] = field(default_factory=list)
    losses: list[torch.Tensor] = field(default_factory=list)
    logprobs: list[torch.Tensor] = field(default_factory=list)
    gradients: dict[str, torch.Tensor] = field(default_factory=dict)
    lengths: list[int] = field(default_factory=list)
    autocast: list[bool] = field(default_factory=list)
    logs: dict = field(default_factory=dict)


def pruning(pair) -> torch.nn.Module:
    return copy.deepcopy(pair.model)


def masked(pair) -> torch.nn.Module:
    return mask_dropped(oracle.Stock(copy.deepcopy(pair.stock.model), pair.stock.special_ids), KEEP, CORE)


def both_steps(pair, trainer_of: Callable, bf16: bool = False) -> tuple[Step, Step]:
    """A step of the pruning model and the oracle's on the same batches, after making sure that the first was pruned.

    Args:
        trainer_of: makes a trainer of a model and of `pruning` or `masked`, which makes such a model of any pair.
        bf16: whether both must run under autocast.
    """
    model = pruning(pair)
    found = take_step(trainer_of(model, pruning), model.model.language_model)
    model = masked(pair)
    expected = take_step(trainer_of(model, masked), model.model.language_model, found.batches)
    calls = len(model.widths)  # of the oracle; before them, a trainer may have made the other generate
    assert calls and found.lengths[-calls:] == model.widths
    assert all(width < length for width, length in zip(model.widths, expected.lengths, strict=True))
    assert found.autocast[-calls:] == expected.autocast == [bf16] * calls
    return found, expected


def forget_precision() -> None:
    """What the last trainer of a process chose would be the next one's."""
    os.environ.pop("ACCELERATE_MIXED_PRECISION", None)
    AcceleratorState._reset_state(reset_partial_state=True)


def take_step(trainer, text_model: torch.nn.Module, batches: list[dict] | None = None) -> Step:
    """Trains; `batches`, recorded of another trainer, take the place of what this one would prepare."""
    step = Step()
    waiting = iter(batches or [])

    def prepared(prepare, inputs):
        step.batches.append(dict(prepare(inputs)) if batches is None else next(waiting))
        return dict(step.batches[-1])

    def loss(compute_loss, *args, **kwargs):
        found = compute_loss(*args, **kwargs)
        step.losses.append((found[0] if isinstance(found, tuple) else found).detach())
        return found

    def scores(score, *args, **kwargs):
        found = score(*args, **kwargs)
        step.logprobs.append(found[0].detach())
        return found

    class Gradients(TrainerCallback):
        def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
            step.gradients = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}

    seen = {"_prepare_inputs": prepared, "compute_loss": loss, "_get_per_token_logps_and_entropies": scores}
    for name in seen.keys() & set(dir(trainer)):
        setattr(trainer, name, functools.partial(seen[name], getattr(trainer, name)))
    trainer.add_callback(Gradients())

    def before_text(module, args, kwargs):
        step.lengths.append(kwargs["inputs_embeds"].shape[1])
        step.autocast.append(torch.is_autocast_enabled("cpu"))

    hook = text_model.register_forward_pre_hook(before_text, with_kwargs=True)
    try:
        trainer.train()
    finally:
        hook.remove()
    step.logs = trainer.state.log_history[0]
    return step


def assert_same_step(found: Step, expected: Step, tolerance: Tolerance) -> None:
    """The two have the same losses and gradients."""
    losses = (torch.stack(step.losses) for step in (found, expected))
    torch.testing.assert_close(*losses, rtol=tolerance.values, atol=1e-6)
    assert found.gradients.keys() == expected.gradients.keys()
    whole = torch.stack([g.norm() for g in expected.gradients.values()]).norm()
    assert whole > 0
    for name, gradient in expected.gradients.items():
        off = (found.gradients[name] - gradient).norm()
        assert off <= tolerance.gradients * (gradient.norm() + 1e-3 * whole), f"{name}: {off} of {gradient.norm()}"
