"""What is selected depends on the tokens alone, whatever state a program has left torch in."""

import threading
from contextlib import ExitStack

import pytest
import states
import torch
from PIL import Image
from selection import features
from states import IMPRECISE
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from hf_zspa.loading import load_zspa, question_inputs
from hf_zspa.pruners.registry import METHODS, PUBLISHED_DIVPRUNE
from hf_zspa.remote_code.zspa_calling import choose
from hf_zspa.remote_code.zspa_selection import ZspaPruner, relevance
from hf_zspa.remote_code.zspa_similarity import plain_precision
from hf_zspa.scenes.heldout import scene_questions

STATES = states.states("cpu", elsewhere="meta")
PRUNERS = {
    **{f"zspa {pooling}": ZspaPruner(0.2, 0.3, pooling) for pooling in ("mean", "max", "none")},
    **{name: method.make(0.2) for name, method in METHODS.items() if method.pruner and name != "zspa"},
    "published": PUBLISHED_DIVPRUNE.make(0.2),
}
MERGING = {name: PRUNERS.pop(name) for name in ("tome", "resized")}
MULTIPLYING = {name: pruner for name, pruner in PRUNERS.items() if name not in ("random", "relevance")}


@pytest.fixture(scope="module")
def tokens():
    """Visual `(n, d)` and prompt `(m, d)` tokens that are so much alike that few bits less select others."""
    visual, prompt = (rows[:, :256] for rows in features(300, "clustered"))
    return visual.contiguous(), prompt.contiguous()


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("name", PRUNERS)
def test_every_pruner_keeps_the_same_in_every_state(tokens, name, state):
    visual, prompt = tokens
    expected = PRUNERS[name]([visual], [prompt])[0]
    visual, prompt = visual.clone().requires_grad_(), prompt.clone().requires_grad_()
    with STATES[state]():
        (kept,) = PRUNERS[name]([visual], [prompt])
    assert kept.device.type == "cpu" and kept.tolist() == expected.tolist()


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("name", MERGING)
def test_every_pruner_that_merges_makes_the_same_in_every_state(tokens, name, state):
    visual, prompt = tokens[0][:256], tokens[1]
    ((expected, features),) = MERGING[name]([visual], [prompt])
    visual = visual.clone().requires_grad_()
    with STATES[state]():
        ((kept, found),) = MERGING[name]([visual], [prompt])
    assert kept.device.type == "cpu" and kept.tolist() == expected.tolist()
    assert found.dtype == features.dtype and found.tolist() == features.tolist()


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("core", [0.0, 0.3])
def test_every_way_of_selecting_selects_the_same_in_every_state(way, tokens, core, state):
    pruner = ZspaPruner(0.05, core)
    some = [(tokens[0][start : start + 60], tokens[1]) for start in (0, 50)]
    expected = [kept.tolist() for kept in pruner(*zip(*some))]
    with STATES[state]():
        found = pruner(*zip(*some))
    assert [kept.tolist() for kept in found] == expected


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("core", [0.0, 0.3])
def test_every_way_of_selecting_compares_in_float32(way, tokens, core, dtype):
    visual, prompt = (rows[:60].to(dtype) for rows in tokens)
    (expected,) = ZspaPruner(0.2, core)([visual.float()], [prompt.float()])
    assert ZspaPruner(0.2, core)([visual], [prompt])[0].tolist() == expected.tolist()


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("pooling", ["mean", "max", "none"])
def test_relevance_is_the_same_in_every_state(tokens, pooling, state):
    expected = relevance(*tokens, pooling)
    with STATES[state]():
        found = relevance(*tokens, pooling)
    assert found.dtype == torch.float32 and torch.equal(found, expected)


@pytest.mark.parametrize("state", STATES)
def test_what_a_call_chooses_is_the_same_in_every_state(tokens, state):
    visual, prompt = tokens
    ((expected,), _) = choose([visual], [prompt], ZspaPruner(0.2, 0.3))
    with STATES[state]():
        ((kept,), _) = choose([visual], [prompt], ZspaPruner(0.2, 0.3))
    assert kept.tolist() == expected.tolist()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_model_under_autocast_keeps_what_its_pruner_keeps_of_the_same_tokens_without(dtype):
    model, processor = load_zspa("embedded")
    scene, questions = scene_questions(0)
    inputs = question_inputs(model, processor, Image.fromarray(scene.image), next(questions).text)
    with torch.autocast("cpu", dtype):
        seen = model.visual_and_prompt_tokens(**inputs)
        (kept,) = model.select_visual_tokens(**inputs, visual_token_pruner=ZspaPruner(0.2, 0.3))
    assert kept.tolist() == ZspaPruner(0.2, 0.3)(*seen)[0].tolist()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("name", [name for name in PRUNERS if name != "published"])  # its cost is that of its dtype
def test_the_dtype_of_the_tokens_changes_nothing_but_their_values(tokens, name, dtype):
    visual, prompt = (rows.to(dtype) for rows in tokens)
    expected = PRUNERS[name]([visual.float()], [prompt.float()])[0]
    assert PRUNERS[name]([visual], [prompt])[0].tolist() == expected.tolist()


@pytest.mark.parametrize("name", PRUNERS)
def test_torchs_own_random_numbers_are_left_as_they_were(tokens, name):
    before = torch.get_rng_state()
    PRUNERS[name](*([rows] for rows in tokens))
    assert torch.equal(torch.get_rng_state(), before)


class Products(TorchDispatchMode):
    """Lists for each product of matrices the types of the matrices and how precise torch was to be about it."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function.overloadpacket in (torch.ops.aten.mm, torch.ops.aten.bmm, torch.ops.aten.mv, torch.ops.aten.addmm):
            self.found.append((*(matrix.dtype for matrix in args[:2]), *precision()))
        return function(*args, **kwargs or {})


def precision() -> list:
    """All settings that have a say in how a product of float32 matrices, or of 16-bit ones, is computed."""
    cuda = torch.backends.cuda.matmul
    matmuls = [cuda, getattr(torch.backends.mkldnn, "matmul", None)]
    found = [matmul.fp32_precision for matmul in matmuls if hasattr(matmul, "fp32_precision")]
    try:
        found.append(torch.get_float32_matmul_precision())
    except RuntimeError:  # old and new settings disagree
        found.append(None)
    return [*found, getattr(cuda, "allow_fp16_accumulation", False)]


EXACT = [value.replace("none", "ieee") if isinstance(value, str) else value for value in precision()]


@pytest.mark.parametrize("state", IMPRECISE)
@pytest.mark.parametrize("name", MULTIPLYING)
def test_products_are_precise_where_a_program_allows_others_which_it_has_back_afterwards(tokens, name, state):
    """Whether a CPU makes use of the permission depends on the CPU."""
    with IMPRECISE[state]():
        before = precision()
        assert before != EXACT
        with Products() as found:
            MULTIPLYING[name](*([rows] for rows in tokens))
        assert precision() == before
    assert found.found
    assert [row for row in found.found if row != (torch.float32, torch.float32, *EXACT)] == []


@pytest.mark.parametrize("state", IMPRECISE)
def test_products_stay_precise_until_the_last_of_several_threads_is_done(tokens, state):
    entered, leave = threading.Event(), threading.Event()

    def other():
        with plain_precision(list(tokens)):
            entered.set()
            leave.wait(60)

    with IMPRECISE[state]():
        before = precision()
        thread = threading.Thread(target=other)
        with plain_precision(list(tokens)):
            thread.start()
            assert entered.wait(60)
        assert precision() == EXACT
        leave.set()
        thread.join()
        assert precision() == before


@pytest.mark.skipif(not hasattr(torch.backends, "fp32_precision"), reason="torch before 2.9")
def test_a_setting_that_was_inherited_still_is_afterwards(tokens):
    with IMPRECISE["tf32 everywhere"]():
        PRUNERS["divprune"](*([rows] for rows in tokens))
        assert torch.backends.cuda.matmul.fp32_precision == "tf32"
        torch.backends.fp32_precision = "ieee"
        assert torch.backends.cuda.matmul.fp32_precision == "ieee"


def test_before_torch_2_9_there_is_one_setting(tokens, monkeypatch):
    monkeypatch.setattr(torch.backends.cuda, "matmul", object())
    monkeypatch.setattr(torch.backends.mkldnn, "matmul", object(), raising=False)
    for state in ("highest", "high", "medium"):
        with states.matmul_precision(state):
            with plain_precision(list(tokens)):
                assert torch.get_float32_matmul_precision() == "highest"
            assert torch.get_float32_matmul_precision() == state


def test_an_error_leaves_torch_as_it_was(tokens):
    with ExitStack() as stack:
        stack.enter_context(STATES["matmul precision high"]())
        stack.enter_context(STATES["autocast bfloat16"]())
        before = precision()
        with pytest.raises(ZeroDivisionError), plain_precision(list(tokens)):
            1 / 0  # noqa: B018
        assert precision() == before and torch.is_autocast_enabled("cpu")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("lower", [torch.float16, torch.bfloat16])
def test_autocast_of_a_gpu_leaves_similarities_alone(lower, dtype):
    """Traced with tensors without values, as there is no GPU."""
    before = torch.get_autocast_dtype("cuda")
    with FakeTensorMode():
        visual, prompt = (torch.empty(n, 64, dtype=dtype, device="cuda") for n in (40, 5))
        torch.set_autocast_enabled("cuda", True)
        torch.set_autocast_dtype("cuda", lower)
        try:
            assert (visual.float() @ visual.float().T).dtype == lower
            with Products() as found:
                relevance(visual, prompt, "none")
                with plain_precision([visual]):
                    assert (visual @ visual.T).dtype == dtype
        finally:
            torch.set_autocast_enabled("cuda", False)
            torch.set_autocast_dtype("cuda", before)
    assert len(found.found) == 2
    assert {row[:2] for row in found.found} <= {(dtype, dtype), (torch.float32, torch.float32)}


@pytest.mark.slow
@pytest.mark.parametrize("state", ["autocast bfloat16", "matmul precision medium"])
def test_a_compiled_caller_keeps_the_same(tokens, state):
    pruner = ZspaPruner(0.2, 0.3)
    (expected,) = pruner(*([rows] for rows in tokens))
    compiled = torch.compile(lambda visual, prompt: pruner([visual], [prompt])[0] + 0, backend="eager")
    with STATES[state]():
        before = precision()
        assert [compiled(*tokens).tolist() for _ in range(2)] == [expected.tolist()] * 2
        assert precision() == before
