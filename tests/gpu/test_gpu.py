"""What only a GPU can show; `python docs/performance/gpu.py` runs it there, with Triton's kernels compiled."""

import pairs
import pytest
import reference
import torch
from pairs import CASES, CORE, KEEP
from selection import features
from states import states

from hf_zspa import ZspaPruner
from hf_zspa.pruners.registry import METHODS
from hf_zspa.remote_code import zspa_kernels, zspa_selection, zspa_visuals

STATES = states("cuda", elsewhere="cuda")
pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")


@pytest.fixture(params=["triton", "torch"])
def way(request, monkeypatch):
    if request.param == "torch":
        monkeypatch.setattr(zspa_selection, "select_on_gpu", lambda *arguments: None)
    yield request.param
    assert zspa_kernels.usable


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("core", [0.0, 0.2, 1.0])
@pytest.mark.parametrize("n", [144, 576, 2180])  # of which no decision is as close as 7e-8: a GPU rounds otherwise
def test_a_gpu_selects_what_a_cpu_selects(way, n, core, dtype):
    visual, prompt = (tokens.to(dtype) for tokens in features(n, "random"))
    pruner = ZspaPruner(0.1, core)
    (kept,) = pruner([visual.cuda()], [prompt.cuda()])
    assert torch.equal(kept.cpu(), pruner([visual], [prompt])[0])


@pytest.mark.parametrize("pooling", ["mean", "max", "none"])
@pytest.mark.parametrize("width", [100, 2 * zspa_kernels.WIDEST])
def test_a_gpu_selects_from_a_batch_what_a_cpu_selects(way, width, pooling):
    generator = torch.Generator().manual_seed(1)
    images = [torch.randn(n, width, generator=generator) for n in (50, 1, 33)]
    prompts = [torch.randn(m, width, generator=generator) for m in (4, 2, 0)]
    pruner = ZspaPruner(0.3, 0.4, pooling)
    kept = pruner([image.cuda() for image in images], [prompt.cuda() for prompt in prompts])
    assert all(map(torch.equal, [k.cpu() for k in kept], pruner(images, prompts)))


def test_a_gpu_selects_what_the_reference_selects(way):
    generator = torch.Generator().manual_seed(0)
    visual, prompt = torch.randn(144, 64, generator=generator), torch.randn(7, 64, generator=generator)
    (kept,) = ZspaPruner(0.25, 0.2)([visual.cuda()], [prompt.cuda()])
    assert kept.tolist() == reference.select(visual, prompt, 36, 7)


@pytest.mark.filterwarnings("ignore:.*deterministic")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("method", [name for name, method in METHODS.items() if method.pruner])
@pytest.mark.parametrize("state", STATES)
def test_a_gpu_selects_the_same_in_every_state_of_torch(way, state, method, dtype):
    visual, prompt = (tokens.to("cuda", dtype) for tokens in features(576, "clustered"))
    pruner = METHODS[method].make(0.1)
    (expected,) = pruner([visual], [prompt])
    with STATES[state]():
        (kept,) = pruner([visual], [prompt])
    assert kept.is_cuda and torch.equal(kept, expected)


@pytest.mark.parametrize("core", [0.0, 0.2, 1.0])
def test_the_selection_never_waits_for_the_gpu(way, core):
    images = [torch.randn(n, 256, device="cuda") for n in (576, 300)]
    pruner = ZspaPruner(0.1, core)
    pruner(images, images)
    torch.cuda.set_sync_debug_mode("error")
    try:
        pruner(images, images)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_nothing_waits_for_the_gpu_from_the_selection_to_the_stock_class(pair, monkeypatch):
    """The stock class then compares the numbers of placeholders and features."""
    inputs = pair.inputs(*CASES["unequal images and questions"]).to("cuda")
    pair.model.cuda()
    choose, seen = zspa_visuals.choose, []

    def watched(*arguments):
        seen.append("choose")
        torch.cuda.set_sync_debug_mode("error")
        return choose(*arguments)

    def stop(*_):
        torch.cuda.set_sync_debug_mode("default")
        seen.append("embedding")

    try:
        pair.model(**inputs, logits_to_keep=1)  # the kernels are compiled
        monkeypatch.setattr(zspa_visuals, "choose", watched)
        handle = pair.model.get_input_embeddings().register_forward_pre_hook(stop)
        pair.model(**inputs, logits_to_keep=1)
        handle.remove()
    finally:
        torch.cuda.set_sync_debug_mode("default")
        pair.model.cpu()
    assert seen == ["embedding", "choose", "embedding"]  # of the prompt, and of what is kept


@pytest.mark.parametrize("cache", [None, "static"])
@pytest.mark.parametrize("case", ["one image", "unequal images and questions", "text between images"])
def test_generation_on_a_gpu_equals_the_oracle(pair, case, cache):
    inputs = pair.inputs(*CASES[case])
    keep, _ = pair.stock.keep(inputs, KEEP, CORE)
    expected, _ = pair.stock.generate(inputs, keep, 6)
    pair.model.cuda()
    try:
        options = pair.greedy | {"cache_implementation": cache, "disable_compile": True}
        tokens = pair.model.generate(**inputs.to("cuda"), **options)
    finally:
        pair.model.cpu()
        pair.model.__dict__.pop("_cache", None)
    assert torch.equal(tokens[:, inputs["input_ids"].shape[1] :].cpu(), expected)


@pytest.mark.parametrize("position_ids", ["preserve", "compact"])
def test_flash_attention_gives_what_sdpa_gives(load, position_ids):
    pytest.importorskip("flash_attn")
    pair = load("llava")
    inputs = pair.inputs(*CASES["unequal images and questions"]).to("cuda")
    answers = []
    with pair.fields(position_ids=position_ids):
        for attention in ("sdpa", "flash_attention_2"):
            model = pairs.pruning_class("llava")(pair.model.config).cuda().bfloat16().eval()
            model.load_state_dict(pair.model.state_dict())
            model.set_attn_implementation(attention)
            answers.append(model(**inputs.to(torch.bfloat16)).logits.float())
    torch.testing.assert_close(*answers, atol=0.05, rtol=0.05)
