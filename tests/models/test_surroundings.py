"""Pruning beside what people use it with: caches, compilation, devices, adapters, quantization, pipelines."""

import copy
from types import SimpleNamespace

import accelerate
import peft
import pytest
import tiny
import torch
import transformers
from optimum.quanto.library.extensions.extension import get_extension
from pairs import CASES, CORE, KEEP, QUESTION, assert_equals_oracle, image

from hf_zspa import ZspaPruner


def test_a_named_cache_equals_the_oracle(pair):
    assert_equals_oracle(pair, pair.inputs(*CASES["unequal images and questions"]), cache_implementation="dynamic")


@pytest.mark.parametrize("implementation", ["offloaded", "offloaded_static"])
def test_without_a_gpu_an_offloaded_cache_is_the_librarys_refusal(pair, implementation, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    inputs = pair.inputs(*CASES["one image"])
    for model in (copy.deepcopy(pair.stock.model), copy.deepcopy(pair.model)):
        with pytest.raises((AssertionError, RuntimeError), match=r"CUDA|NVIDIA"):
            model.generate(**inputs, **pair.greedy, cache_implementation=implementation)


@pytest.mark.slow
def test_a_quantized_cache_gives_the_stock_classs_answer_to_the_kept_tokens(pair, monkeypatch):
    inputs = pair.inputs(*CASES["one image"])
    options = {"cache_implementation": "quantized", "cache_config": {"backend": "quanto", "nbits": 4}}
    keep, _ = pair.stock.keep(inputs, KEEP, CORE)
    # In place of quanto's own for a CPU, which it compiles for a minute from C++.
    unpack = lambda packed, bits: torch.cat([packed >> i & 2**bits - 1 for i in range(0, 8, bits)])  # noqa: E731
    monkeypatch.setattr(get_extension("quanto_cpp"), "_lib", SimpleNamespace(unpack=unpack))
    tokens = pair.generate(inputs, **options, max_new_tokens=1)
    # The prompt's keys and values are quantized after the prefill, so that its first token is exact.
    assert torch.equal(tokens, pair.stock.generate(inputs, keep, 1)[0])
    assert pair.generate(inputs, **options).shape == (1, 6)


@pytest.mark.slow
def test_a_decode_step_is_compiled_once_and_equals_the_oracle(pair):
    """Dynamo guards on the shape of whatever `forward` looks at, and token types grow at each step on 5.10 and 5.16."""
    torch._dynamo.reset()  # all families share one `forward`, of which Dynamo keeps eight versions in a process
    torch._dynamo.utils.counters.clear()
    inputs = pair.inputs(*CASES["unequal images and questions"])
    model = copy.deepcopy(pair.model)
    compile_config = transformers.CompileConfig(fullgraph=True, dynamic=False, backend="eager")
    compile_config._compile_all_devices = True
    tokens = model.generate(
        **inputs, **pair.greedy, cache_implementation="static", compile_config=compile_config, disable_compile=False
    )[:, inputs["input_ids"].shape[1] :]
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1
    keep, _ = pair.stock.keep(inputs, KEEP, CORE)
    assert torch.equal(tokens, pair.stock.generate(inputs, keep, 6)[0])

    text = pair.inputs([QUESTION])
    options = pair.greedy | {"cache_implementation": "static"}
    compiled = model.generate(**text, **options, compile_config=compile_config, disable_compile=False)
    assert torch.equal(compiled, pair.stock.model.generate(**text, **pair.greedy))


@pytest.mark.slow
def test_a_decode_step_that_prunes_nothing_is_compiled_once(pair):
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    compiled = transformers.CompileConfig(fullgraph=True, dynamic=False, backend="eager")
    compiled._compile_all_devices = True
    options = {"cache_implementation": "static", "compile_config": compiled, "disable_compile": False}
    inputs = pair.inputs(*CASES["unequal images and questions"])
    copy.deepcopy(pair.model).generate(**inputs, **pair.greedy | options, zspa_keep_ratio=1.0)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1


@pytest.mark.nightly
@pytest.mark.parametrize("family", ["llava", "qwen2_5_vl"])
def test_a_compiled_forward_equals_the_plain_one(load, family):
    """Dynamo takes long to read whole models; LLaVA-NeXT's differs from LLaVA's in how an image is encoded."""
    pair = load(family)
    inputs = pair.inputs(*CASES["unequal images and questions"])
    with torch.no_grad():
        compiled = torch.compile(copy.deepcopy(pair.model), backend="eager")(**inputs).logits
        torch.testing.assert_close(compiled, pair.model(**inputs).logits)


@pytest.mark.parametrize("left_out", [(), ("use_cache",)])
def test_a_generation_loop_of_the_users_own_equals_the_oracle(pair, left_out):
    """`custom_generate` takes a function that generates by the model's own preparation."""

    def greedy(model, input_ids, stopping_criteria, generation_config, logits_processor, **kwargs):
        kwargs = {name: value for name, value in kwargs.items() if name not in left_out}
        if hasattr(model, "_get_initial_cache_position"):  # up to 5.0
            kwargs = model._get_initial_cache_position(input_ids.shape[1], input_ids.device, kwargs)
        first = True
        while True:
            extra = {"is_first_iteration": first} if tiny.transformers_version() >= (5,) else {}
            given = model.prepare_inputs_for_generation(input_ids, **kwargs, **extra)
            out = model(**given, return_dict=True)
            scores = logits_processor(input_ids, out.logits[:, -1])
            input_ids = torch.cat([input_ids, scores.argmax(-1, keepdim=True)], 1)
            kwargs = model._update_model_kwargs_for_generation(out, kwargs)
            first = False
            if stopping_criteria(input_ids, None).all():
                cache_name = next(n for n in ("cache", "past_key_values") if kwargs.get(n) is not None)
                assert kwargs[cache_name].get_seq_length() < input_ids.shape[1] - 1
                return input_ids

    assert_equals_oracle(pair, pair.inputs(*CASES["text between images"]), custom_generate=greedy)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_selects_the_same_and_computes_as_the_stock_class_in_it(pair, dtype):
    inputs = pair.inputs(*CASES["unequal images and questions"])
    with torch.no_grad(), torch.autocast("cpu", dtype=dtype):
        features = pair.stock.features(inputs)
        chosen = [i.tolist() for i in pair.model.select_visual_tokens(**inputs)]
        found = pair.model(**inputs, logits_to_keep=1).logits[:, -1].float()
        assert pair.generate(inputs).shape == (2, 6)
        stock = pair.stock.logits(
            inputs, inputs["input_ids"], inputs["attention_mask"], pair.stock.columns(inputs, chosen)
        )
    expected = ZspaPruner(KEEP / 100, CORE / 100)(features, [p for _, _, p in pair.stock.images(inputs)])
    assert chosen == [i.tolist() for i in expected]
    assert (found - stock[:, -1].float()).abs().max() < 0.05 * stock.float().std()


def test_flex_attention_equals_the_oracle(pair):
    """Run eagerly: compiled it needs a C++ compiler."""
    model = copy.deepcopy(pair.model)
    if pair.family == "qwen2_5_vl":
        with pytest.raises(ValueError, match="flex_attention"):
            model.model.language_model.set_attn_implementation("flex_attention")
        return
    model.model.language_model.set_attn_implementation("flex_attention")
    inputs = pair.inputs(*CASES["unequal images and questions"])
    with torch.compiler.set_stance("force_eager"):
        tokens = model.generate(**inputs, **pair.greedy | {"max_new_tokens": 2})[:, inputs["input_ids"].shape[1] :]
    assert torch.equal(tokens, pair.stock.generate(inputs, pair.stock.keep(inputs, KEEP, CORE)[0], 2)[0])


def test_a_dispatched_model_equals_the_oracle(pair, tmp_path):
    inputs = pair.inputs(*CASES["unequal images and questions"])
    model = accelerate.cpu_offload(copy.deepcopy(pair.model), execution_device=torch.device("cpu"))
    tokens = model.generate(**inputs, **pair.greedy)[:, inputs["input_ids"].shape[1] :]
    keep, _ = pair.stock.keep(inputs, KEEP, CORE)
    assert torch.equal(tokens, pair.stock.generate(inputs, keep, 6)[0])


def test_an_adapter_on_top_prunes_and_trains(pair):
    inputs = pair.inputs(*CASES["unequal images and questions"])
    layers = r".*language_model.*\.(q_proj|v_proj)"
    lora = peft.LoraConfig(r=2, target_modules=layers, init_lora_weights=False, task_type="CAUSAL_LM")
    model = peft.get_peft_model(copy.deepcopy(pair.model), lora)
    out = model(**inputs, labels=inputs["input_ids"])
    assert out.past_key_values.get_seq_length() < inputs["input_ids"].shape[1]
    out.loss.backward()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for n, p in model.named_parameters() if "lora" in n)
    merged = copy.deepcopy(model).merge_and_unload().eval()
    stock = copy.deepcopy(pair.stock)
    stock.model.load_state_dict(merged.state_dict())
    tokens = model.eval().generate(**inputs, **pair.greedy)[:, inputs["input_ids"].shape[1] :]
    assert torch.equal(tokens, stock.generate(inputs, stock.keep(inputs, KEEP, CORE)[0], 6)[0])


class KernelCall(Exception):
    """What reached the attention kernel of a text layer."""


@pytest.mark.parametrize(
    "family, position_ids",
    [*((family, "preserve") for family in tiny.FAMILIES), ("llava", "compact"), ("llava_next", "compact")],
)
def test_flash_attention_is_given_no_gap_it_could_take_for_a_packed_sequence(load, monkeypatch, family, position_ids):
    """Flash attention reads packed sequences out of positions where the mask has no 0; a stub stands for the kernel."""
    pair = load(family)
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    calls = []

    def kernel(module, query, key, value, attention_mask, **kwargs):
        calls.append((key.shape[2], attention_mask, kwargs.get("position_ids")))
        return query.transpose(1, 2), None

    monkeypatch.setitem(ALL_ATTENTION_FUNCTIONS._global_mapping, "flash_attention_2", kernel)
    with pair.fields(position_ids=position_ids):
        model = copy.deepcopy(pair.model)
        for config in (model.config, model.config.get_text_config()):
            config._attn_implementation_internal = "flash_attention_2"
        language_model = model.model.language_model
        language_model.config._attn_implementation_internal = "flash_attention_2"
        inputs = pair.inputs(*CASES["one image"])
        model.generate(**inputs, **pair.greedy | {"max_new_tokens": 3})
    layers = [c for c in calls if c[0] < inputs["input_ids"].shape[1]]
    assert layers
    for length, mask, positions in layers:
        packed_by_mask = mask is not None and mask.shape[-1] == length and bool((mask == 0).any())
        no_gap = positions is None or bool((positions.diff() == 1).all())
        assert packed_by_mask or no_gap


def test_four_bit_weights_prune(base_checkpoint):
    import pairs

    path = base_checkpoint("llava")
    pair = pairs.load("llava", path)
    quantization = transformers.BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_compute_dtype=torch.float32,
        llm_int8_skip_modules=["model.vision_tower", "model.multi_modal_projector", "lm_head"],  # too small for it
    )
    model = type(pair.model).from_pretrained(path, config=pair.model.config, quantization_config=quantization)
    inputs = pair.inputs(*CASES["one image"])
    assert any(type(m).__name__ == "Linear4bit" for m in model.modules())
    out = model(**inputs, use_cache=True)
    assert out.past_key_values.get_seq_length() < inputs["input_ids"].shape[1]
    assert model.generate(**inputs, **pair.greedy).shape[1] == inputs["input_ids"].shape[1] + 6


def test_a_prompt_without_mask_or_cache_keeps_seeing_all_its_tokens(pair):
    """Gaps between positions count as packing where there is neither mask nor cache; the answer would be blind."""
    inputs = pair.inputs([image(), QUESTION])
    given = {k: v for k, v in inputs.items() if k != "attention_mask"}
    keep, _ = pair.stock.keep(inputs, KEEP, CORE)
    expected, _ = pair.stock.generate(inputs, keep, 3)
    tokens = pair.model.generate(**given, **pair.greedy | {"max_new_tokens": 3}, use_cache=False)
    assert torch.equal(tokens[:, inputs["input_ids"].shape[1] :], expected)


def test_the_pipeline_prunes(pair):
    pipe = transformers.pipeline("image-text-to-text", model=pair.model, processor=pair.processor)
    messages = [{"role": "user", "content": [{"type": "image", "image": image()}, {"type": "text", "text": QUESTION}]}]
    lengths = []
    language_model = pair.model.model.language_model
    hook = language_model.register_forward_pre_hook(
        lambda module, args, kwargs: lengths.append(kwargs["inputs_embeds"].shape[1]), with_kwargs=True
    )
    try:
        answer = pipe(text=messages, generate_kwargs=pair.greedy, return_full_text=False)
    finally:
        hook.remove()
    prompt = pair.processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    inputs = pair.processor(text=[prompt], images=[image()], return_tensors="pt")
    assert lengths[0] == int(pair.stock.keep(inputs, KEEP, CORE)[0].sum())
    assert isinstance(answer[0]["generated_text"], str)
