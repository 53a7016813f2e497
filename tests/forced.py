"""A given answer led through `generate`, token by token: what one forward pass over all of it is compared with."""

import torch
from transformers import LogitsProcessor, LogitsProcessorList

from hf_zspa.tuning.candidates import SETTINGS
from hf_zspa.tuning.scoring import Asked


class Led(LogitsProcessor):
    """Leaves the next token of an answer `(t,)` alone."""

    def __init__(self, answer):
        self.answer, self.step = answer, 0

    def __call__(self, input_ids, scores):
        led = torch.full_like(scores, -torch.inf)
        led[:, self.answer[self.step]] = 0
        self.step += 1
        return led


def led(model, inputs, answer, **settings):
    """Log probabilities `(t, vocabulary)` at each token of the answer `(t,)`."""
    done = model.generate(
        **inputs, **settings, do_sample=False, num_beams=1, min_new_tokens=len(answer), max_new_tokens=len(answer),
        logits_processor=LogitsProcessorList([Led(answer)]), output_logits=True, return_dict_in_generate=True,
    )  # fmt: skip
    return torch.cat(done.logits).float().log_softmax(-1)


def placeholders(model):
    """What stands for images or videos in a model's prompts."""
    return sorted({model.model.placeholder_id(modality) for modality in model.visual_inputs})


def assert_scores_are_those_of_generation(model, inputs, keep_ratio=0.5):
    """Of settings of every method, together and one by one."""
    asked = Asked(model, dict(inputs), 4)
    own = model.generate(
        **inputs, zspa_keep_ratio=1.0, do_sample=False, max_new_tokens=4, suppress_tokens=placeholders(model)
    )
    assert asked.answer.tolist() == own[:, inputs["input_ids"].shape[1] :].tolist()
    answer, some = asked.answer[0], SETTINGS[::5]
    pruners = [model.pruner_for_call(**each.fields, zspa_keep_ratio=keep_ratio) for each in some]
    kept = [pruner(asked.visual_tokens, asked.prompt_tokens) for pruner in pruners]
    whole = led(model, inputs, answer, zspa_keep_ratio=1.0)
    for batch_size in (1, 2):
        for each, score in zip(some, asked.scores(kept, batch_size), strict=True):
            likely = led(model, inputs, answer, **each.fields, zspa_keep_ratio=keep_ratio)
            assert score.tokens == len(answer)
            expected = float((whole.exp() * (whole - likely)).sum(-1).mean())
            likely[:, [each for each in placeholders(model) if each < likely.shape[-1]]] = -torch.inf
            assert score.stay == int((likely.argmax(-1) == answer).sum())
            assert abs(score.kl - expected) < 1e-5 + 1e-3 * expected
            assert score.kl > 0  # something was dropped


def assert_placeholders_are_never_answered(model, inputs):
    """Though the model holds them most likely: they would stand for images that are not there."""
    ids = [each for each in placeholders(model) if each < model.config.get_text_config().vocab_size]

    def favoured(module, args, logits):
        return logits.index_fill(-1, torch.tensor(ids), 1e4)

    handle = model.get_output_embeddings().register_forward_hook(favoured)
    try:
        asked = Asked(model, dict(inputs), 4)
        assert not set(asked.answer[0].tolist()) & set(ids)
        (score,) = asked.scores([[torch.arange(len(visual)) for visual in asked.visual_tokens]], 1)
    finally:
        handle.remove()
    assert score.whole and score.kl < 1e-4
