"""What a pruned answer costs, counted: nothing here is a time."""

import weakref

import pairs
import pytest
import torch
from operations import Operations
from torch.utils._python_dispatch import _disable_current_modes

from hf_zspa import DppPruner, WeightedPruner, ZspaPruner
from hf_zspa.bench.measure import cache_bytes, stock_view
from hf_zspa.remote_code import zspa_methods, zspa_selection, zspa_visuals


@pytest.mark.parametrize(
    "look",
    [
        lambda x: x.tolist(), lambda x: x[0].item(), lambda x: x.cpu(), lambda x: x.to("cpu"), lambda x: x.numpy(),
        lambda x: bool(x[0]), lambda x: int(x[0]), lambda x: [0, 1][x[0]], lambda x: x.nonzero(), lambda x: x.unique(),
        lambda x: x.bincount(), lambda x: x.repeat_interleave(x), lambda x: x[x > 0],
        lambda x: x.masked_select(x > 0), lambda x: x.index_put((x > 0,), x[:1]), lambda x: torch.equal(x, x),
        lambda x: torch.where(x > 0), lambda x: x.to(device="cpu"), lambda x: 1 in x, lambda x: torch.is_nonzero(x[0]),
        lambda x: torch.allclose(x, x), lambda x: x.__setitem__(x > 0, 3), lambda x: f"{x[0]:d}",
    ],
)  # fmt: skip
def test_what_waits_for_a_gpu_is_seen(look):
    x = torch.tensor([1, 1])
    with Operations() as operations:
        x + x.to(torch.float32, non_blocking=True).sum()
    assert operations.waits == [] and len(operations.launches) == 3
    with Operations() as operations:
        look(x)
    assert operations.waits


def pruned_columns(pair, inputs) -> int:
    keep, _ = pair.stock.keep(inputs, pairs.KEEP, pairs.CORE)
    return int(keep.sum(1).max())


@pytest.fixture
def inputs(pair):
    return pair.inputs([pairs.image(1), pairs.QUESTION], [pairs.image(2, (56, 140)), pairs.OTHER])


@pytest.mark.parametrize("options", [{"num_beams": 3, "num_return_sequences": 2}, {"do_sample": True}, {}])
def test_an_image_is_encoded_once(pair, inputs, options):
    tower = next(m for n, m in pair.model.named_modules() if n.endswith(("vision_tower", "visual")))
    calls = []
    handle = tower.register_forward_hook(lambda *_: calls.append(1))
    try:
        pair.generate(inputs, **options)
    finally:
        handle.remove()
    assert len(calls) == 1


def test_a_static_cache_has_the_pruned_length(pair, inputs):
    options = pair.greedy | {"cache_implementation": "static", "return_dict_in_generate": True}
    for attribute in ("_cache", "_previous_max_cache_length"):  # earlier calls may have left a longer one
        pair.model.__dict__.pop(attribute, None)
    cache = pair.model.generate(**inputs, **options).past_key_values
    assert cache.layers[0].keys.shape[2] == pruned_columns(pair, inputs) + options["max_new_tokens"] - 1
    pair.model.__dict__.pop("_cache", None)


def test_the_cache_holds_what_is_kept_and_no_more(pair, inputs):
    cache = pair.model.generate(**inputs, **pair.greedy, return_dict_in_generate=True).past_key_values
    layer = cache.layers[0].keys
    length = pruned_columns(pair, inputs) + pair.greedy["max_new_tokens"] - 1
    assert cache_bytes(cache) == len(cache.layers) * 2 * layer.shape[0] * layer.shape[1] * length * layer.shape[3] * 4


def masks_of_steps(pair, model, inputs) -> list[bool]:
    """Whether the language model was given a mask, by step."""
    seen = []
    language_model = next(m for n, m in model.named_modules() if n.endswith("language_model"))
    handle = language_model.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(kwargs.get("attention_mask") is not None), with_kwargs=True
    )
    try:
        model.generate(**inputs, **pair.greedy)
    finally:
        handle.remove()
    return seen


def test_attention_looks_at_a_mask_only_where_that_of_the_stock_class_does(pair, inputs):
    alone = pair.inputs([pairs.image(1), pairs.QUESTION])
    assert masks_of_steps(pair, pair.model, alone) == masks_of_steps(pair, stock_view(pair.model), alone)
    assert all(masks_of_steps(pair, pair.model, inputs))  # rows of different lengths


def test_only_the_prompt_and_what_is_kept_is_embedded(pair, inputs):
    embedded = []
    handle = pair.model.get_input_embeddings().register_forward_hook(lambda m, a, out: embedded.append(out.shape[:-1]))
    try:
        pair.generate(inputs, max_new_tokens=1)
    finally:
        handle.remove()
    assert embedded[1:] == [(2, pruned_columns(pair, inputs))]
    assert len(embedded[0]) == 1 and embedded[0][0] < inputs["input_ids"].numel()


def test_full_features_are_gone_before_the_language_model_runs(pair, inputs, monkeypatch):
    features, alive = [], []
    choose = zspa_visuals.choose
    monkeypatch.setattr(
        zspa_visuals, "choose", lambda f, *rest: features.extend(map(weakref.ref, f)) or choose(f, *rest)
    )
    language_model = next(m for n, m in pair.model.named_modules() if n.endswith("language_model"))
    handle = language_model.register_forward_pre_hook(lambda *_: alive.append(sum(f() is not None for f in features)))
    try:
        pair.generate(inputs, max_new_tokens=1)
    finally:
        handle.remove()
    assert len(features) == 2 and alive == [0]


@pytest.mark.parametrize(
    "pruner",
    [
        ZspaPruner(0.3, 0.0), ZspaPruner(0.3, 0.4), ZspaPruner(0.3, 1.0), WeightedPruner(0.3), DppPruner(0.3),
        WeightedPruner(0.3, -0.5, "none", True), DppPruner(0.3, 0.0),
    ],
)  # fmt: skip
def test_nothing_waits_for_a_gpu_during_a_selection_in_plain_torch(as_on_a_gpu, monkeypatch, pruner):
    for module in (zspa_selection, zspa_methods):
        monkeypatch.setattr(module, "select_on_gpu", lambda *given, **named: None)
    images, prompts = [torch.randn(n, 16) for n in (40, 60)], [torch.randn(3, 16)] * 2
    with Operations() as operations:
        pruner(images, prompts)
    assert operations.launches and operations.waits == []


def test_nothing_waits_for_a_gpu_from_the_selection_to_the_stock_class(pair, inputs, as_on_a_gpu, monkeypatch):
    """The stock class then compares the numbers of placeholders and features, on the device."""
    monkeypatch.setattr(zspa_selection, "select_on_gpu", lambda *given, **named: None)
    operations, counting = Operations(), []
    choose, count = zspa_visuals.choose, type(pair.model)._rope_positions
    on_cpu, cpu = [], torch.Tensor.cpu

    def on_the_cpu(model, described, device):  # here everything is on one; there, what was brought before the selection
        with torch._C.DisableTorchFunction(), _disable_current_modes():
            tensors = [value for value in described.values() if isinstance(value, torch.Tensor)]
            assert len(tensors) > 1 and all(value.data_ptr() in on_cpu for value in tensors)
            return count(model, described, device)

    monkeypatch.setattr(torch.Tensor, "cpu", lambda tensor: on_cpu.append(tensor.data_ptr()) or cpu(tensor))
    monkeypatch.setattr(type(pair.model), "_rope_positions", on_the_cpu)
    monkeypatch.setattr(zspa_visuals, "choose", lambda *a: counting.append(operations.__enter__()) or choose(*a))
    embedding = pair.model.get_input_embeddings()
    handle = embedding.register_forward_pre_hook(
        lambda *_: counting.pop().__exit__(None, None, None) if counting else None
    )
    try:
        pair.model(**inputs, logits_to_keep=1)
    finally:
        handle.remove()
        for unfinished in counting:  # else it would count in other tests
            unfinished.__exit__(None, None, None)
    assert operations.largest and operations.waits == []


def test_a_selection_on_a_cpu_makes_no_copy_of_the_features():
    visual, prompt = torch.randn(2000, 512), torch.randn(4, 512)
    with Operations() as operations:
        ZspaPruner(0.1, 0.2)([visual], [prompt])
    assert operations.largest < visual.nbytes / 2
