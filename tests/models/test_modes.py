"""Every way to call `generate`: it equals the oracle, or says that it cannot be pruned."""

import copy

import pytest
import tiny
import torch
from oracle import beam_search
from pairs import CASES, CORE, KEEP, OTHER, QUESTION, assert_equals_oracle, image
from test_own_pruners import EveryThird
from transformers import DynamicCache, GenerationMixin, TextStreamer

from hf_zspa import ZspaPruner


@pytest.fixture
def inputs(pair):
    return pair.inputs([image(), QUESTION])


def expected(pair, inputs, steps=6):
    return pair.stock.generate(inputs, pair.stock.keep(inputs, KEEP, CORE)[0], steps)[0]


def test_prompt_lookup_equals_the_oracle(pair, inputs):
    assert_equals_oracle(pair, inputs, prompt_lookup_num_tokens=3)


def test_prompt_lookup_in_a_static_cache(pair, inputs):
    """Right up to 5.10, and refused by transformers from 5.16 on. 5.24 runs past the cache's end where too many of the
    proposals are rejected: of these prompts, with that of Qwen2.5-VL, pruned or not."""
    options = {"prompt_lookup_num_tokens": 3, "cache_implementation": "static"}
    refusal = None
    if (5, 16) <= tiny.transformers_version() < (5, 24):
        refusal = (ValueError, "assisted generate is not supported with Static cache")
    elif tiny.transformers_version() >= (5, 24) and pair.family == "qwen2_5_vl":
        refusal = (IndexError, "is out of bounds for dimension")
    if refusal is None:
        assert_equals_oracle(pair, inputs, **options)
        return
    for model in map(copy.deepcopy, (pair.model, pair.stock.model)):
        vars(model).pop("_previous_max_cache_length", None)  # a longer cache, made before, would have room
        with pytest.raises(refusal[0], match=refusal[1]):
            model.generate(**inputs, **pair.greedy | options)


@pytest.mark.parametrize("call", ["generate", "forward", "prepare_inputs_for_generation"])
def test_a_cache_under_an_unknown_name_is_refused_and_not_passed_by(pair, inputs, call):
    """As when a later transformers calls it otherwise: pruning would take every step for the first one."""
    past = DynamicCache(config=pair.model.config.get_text_config())
    with pytest.raises(ValueError, match="a cache was given as memory"):
        getattr(pair.model, call)(**inputs, memory=past)
    with pytest.raises(ValueError, match="a cache was given twice"):
        getattr(pair.model, call)(**inputs, cache=past, past_key_values=past)


def test_a_stock_assistant_equals_the_oracle(pair, inputs):
    assert_equals_oracle(pair, inputs, assistant_model=pair.stock.model)


def test_an_assistant_numbers_the_prompt_as_it_does_alone(pair, inputs):
    seen = []
    assistant = pair.stock.model
    language_model = next(m for n, m in assistant.named_modules() if n.endswith("language_model"))
    handle = language_model.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(kwargs["position_ids"]), with_kwargs=True
    )
    try:
        assistant.generate(**inputs, **pair.greedy | {"max_new_tokens": 1})
        alone = seen.pop()
        pair.generate(inputs, assistant_model=assistant)
    finally:
        handle.remove()
    assert torch.equal(seen[0][..., : alone.shape[-1]], alone)


def test_a_pruning_assistant_equals_the_oracle_and_is_refused_on_5_0(pair, inputs):
    if tiny.transformers_version()[:2] == (5, 0):
        with pytest.raises(ValueError, match="cannot drive an assistant that prunes"):
            pair.generate(inputs, assistant_model=pair.model)
    else:
        assert_equals_oracle(pair, inputs, assistant_model=pair.model)


@pytest.mark.parametrize("returned", [1, 3])
def test_beams_equal_a_beam_search_over_the_oracle(pair, returned):
    inputs = pair.inputs([image(), "and", image(1, (56, 84)), QUESTION])
    tokens = pair.generate(inputs, num_beams=3, num_return_sequences=returned, max_new_tokens=4)
    best, _ = beam_search(pair.stock, inputs, pair.stock.keep(inputs, KEEP, CORE)[0], 3, 4)
    assert torch.equal(tokens, best[:returned])


def test_sampling_draws_from_the_oracles_distribution(pair, inputs):
    keep = pair.stock.keep(inputs, KEEP, CORE)[0]
    logits = pair.stock.logits(inputs, inputs["input_ids"], inputs["attention_mask"], keep)[:, -1]
    out = pair.generate(inputs, do_sample=True, num_return_sequences=4, max_new_tokens=1, suppress_tokens=None, top_k=3)
    assert set(out.flatten().tolist()) <= set(logits.topk(3).indices.flatten().tolist())


def test_returned_sequences_belong_to_their_prompt(pair):
    inputs = pair.inputs(*CASES["text between images"])
    tokens = pair.generate(inputs, num_return_sequences=2, do_sample=True, top_k=1)
    assert torch.equal(tokens, expected(pair, inputs).repeat_interleave(2, 0))


def test_a_streamer_sees_the_prompt_and_every_token(pair, inputs):
    class Recorder(TextStreamer):
        def __init__(self):
            self.seen = []

        def put(self, value):
            self.seen += value.flatten().tolist()

        def end(self):
            pass

    recorder = Recorder()
    tokens = pair.generate(inputs, streamer=recorder)
    assert recorder.seen == inputs["input_ids"][0].tolist() + tokens[0].tolist()


def test_logits_of_every_step_equal_the_oracle(pair):
    inputs = pair.inputs(*CASES["unequal images and questions"])
    keep = pair.stock.keep(inputs, KEEP, CORE)[0]
    _, scores = pair.stock.generate(inputs, keep, 4)
    options = pair.greedy | {"max_new_tokens": 4}
    out = pair.model.generate(**inputs, **options, return_dict_in_generate=True, output_logits=True, output_scores=True)
    assert torch.equal(out.sequences[:, : inputs["input_ids"].shape[1]], inputs["input_ids"])
    visible = scores > -1e8
    logits = torch.stack(out.logits, 1)
    torch.testing.assert_close(logits[visible], scores[visible], atol=2e-4, rtol=1e-4)


def test_hidden_states_and_the_cache_have_the_pruned_length(pair, inputs):
    out = pair.model.generate(
        **inputs, **pair.greedy, return_dict_in_generate=True, output_hidden_states=True, output_attentions=False
    )
    kept = int(pair.stock.keep(inputs, KEEP, CORE)[0].sum())
    assert out.hidden_states[0][0].shape[1] == kept
    assert out.past_key_values.get_seq_length() == kept + 5


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_lower_precision_equals_the_stock_class_in_it(pair, dtype):
    inputs = pair.inputs([image(), QUESTION])
    model, stock = copy.deepcopy(pair.model).to(dtype), copy.deepcopy(pair.stock.model).to(dtype)
    low = {k: v.to(dtype) if v.is_floating_point() else v for k, v in inputs.items()}
    keep = pair.stock.columns(inputs, [i.tolist() for i in model.select_visual_tokens(**low)])
    reference = type(pair.stock)(stock, pair.stock.special_ids)
    exact = reference.logits(low, low["input_ids"], low["attention_mask"], keep)[:, -1].float()
    out = model.generate(**low, do_sample=False, max_new_tokens=1, return_dict_in_generate=True, output_logits=True)
    spread = exact.std()
    assert (out.logits[0].float() - exact).abs().max() < 0.05 * spread


def test_eager_attention_equals_the_oracle(pair, inputs):
    model = copy.deepcopy(pair.model)
    model.set_attn_implementation("eager")
    tokens = model.generate(**inputs, **pair.greedy)[:, inputs["input_ids"].shape[1] :]
    assert torch.equal(tokens, expected(pair, inputs))


def test_ratios_of_one_call_hold_for_that_call(pair, inputs):
    keep, _ = pair.stock.keep(inputs, 50, 0)
    tokens = pair.generate(inputs, zspa_keep_ratio=0.5, zspa_core_ratio=0.0)
    assert torch.equal(tokens, pair.stock.generate(inputs, keep, 6)[0])
    assert torch.equal(pair.generate(inputs), expected(pair, inputs))


def test_config_edits_at_run_time_hold(pair, inputs):
    keep, _ = pair.stock.keep(inputs, 60, 100, "max")
    with pair.fields(keep_ratio=0.6, core_ratio=1.0, pooling="max"):
        tokens = pair.generate(inputs)
    assert torch.equal(tokens, pair.stock.generate(inputs, keep, 6)[0])


@pytest.mark.parametrize("options", [{}, {"cache_implementation": "static"}, {"num_beams": 2}, {"use_cache": False}])
def test_keep_ratio_1_is_the_stock_class(pair, options):
    inputs = pair.inputs(*CASES["unequal images and questions"])
    options = {
        "return_dict_in_generate": True,
        "output_logits": True,
        "max_new_tokens": 3,
        "do_sample": False,
    } | options
    for model in (pair.stock.model, pair.model):  # earlier calls may have left static caches of other lengths
        model.__dict__.pop("_previous_max_cache_length", None)
        model.__dict__.pop("_cache", None)
    stock = pair.stock.model.generate(**inputs, **options)
    for how in ({"zspa_keep_ratio": 1.0}, {"visual_token_pruner": ZspaPruner(keep_ratio=1.0)}):
        pruned = pair.model.generate(**inputs, **options, **how)
        assert torch.equal(pruned.sequences, stock.sequences)
        assert all(torch.equal(a, b) for a, b in zip(pruned.logits, stock.logits, strict=True))


def test_text_alone_never_reaches_the_selection(pair, monkeypatch):
    inputs = pair.inputs([QUESTION], [OTHER])
    monkeypatch.setattr(type(pair.model), "prune_visuals", None)
    stock = pair.stock.model.generate(**inputs, **pair.greedy)
    assert torch.equal(pair.model.generate(**inputs, **pair.greedy), stock)


@pytest.mark.parametrize("size", [8, 500])
def test_a_prefill_in_chunks_is_refused_unless_one_chunk_holds_the_prompt(pair, inputs, size):
    """4.57 makes two chunks of every prompt, its last token being one."""
    cache = DynamicCache(config=pair.model.config.get_text_config())
    options = {"prefill_chunk_size": size, "past_key_values": cache}
    if size > inputs["input_ids"].shape[1] and tiny.transformers_version() >= (5,):
        assert torch.equal(pair.generate(inputs, **options), expected(pair, inputs))
    else:
        with pytest.raises(ValueError, match="prefill_chunk_size"):
            pair.generate(inputs, **options)


def test_inputs_embeds_with_an_image_are_refused(pair, inputs):
    given = dict(inputs)
    embeds = pair.model.get_input_embeddings()(given.pop("input_ids"))
    with pytest.raises(ValueError, match="input_ids"):
        pair.model.generate(**given, inputs_embeds=embeds, max_new_tokens=2)


def test_inputs_embeds_beside_the_ids_are_refused_and_not_passed_by(pair, inputs):
    embeds = torch.randn(*inputs["input_ids"].shape, pair.model.config.get_text_config().hidden_size)
    with pytest.raises(ValueError, match="input_ids"):
        pair.model.generate(**inputs, inputs_embeds=embeds, max_new_tokens=2)


def test_a_mask_that_transformers_finds_itself_is_as_good(pair):
    """It takes padding for masked where there is no mask."""
    size = (84, 84)
    inputs = dict(pair.inputs([image(1, size), QUESTION], [image(2, size), OTHER + " " + OTHER]))
    tokens = pair.generate(inputs)
    assert not inputs.pop("attention_mask").all()
    padding = pair.processor.tokenizer.pad_token_id
    assert torch.equal(pair.generate(inputs, pad_token_id=padding), tokens)


def test_inputs_embeds_of_text_or_without_pruning_are_the_stock_classs(pair, inputs):
    text = pair.inputs([QUESTION])
    embeds = pair.model.get_input_embeddings()(text["input_ids"])
    given = {"inputs_embeds": embeds, "attention_mask": text["attention_mask"]}
    stock = pair.stock.model.generate(**given, **pair.greedy)
    assert torch.equal(pair.model.generate(**given, **pair.greedy), stock)
    embeds = pair.model.get_input_embeddings()(inputs["input_ids"])
    given = dict(inputs) | {"inputs_embeds": embeds}
    try:
        stock = pair.stock.model.generate(**given, **pair.greedy)
    except ValueError as refusal:  # Qwen2.5-VL takes no images with them
        with pytest.raises(ValueError, match=str(refusal)[:30]):
            pair.model.generate(**given, **pair.greedy, zspa_keep_ratio=1.0)
    else:
        assert torch.equal(pair.model.generate(**given, **pair.greedy, zspa_keep_ratio=1.0), stock)


@pytest.mark.parametrize("assistant", ["stock", "pruning"])
@pytest.mark.parametrize("target", ["stock", "pruning"])
def test_an_assistant_that_is_always_wrong_changes_nothing(pair, inputs, target, assistant):
    """Its proposals are rejected whole, and its cache is cut into the prompt."""
    target, assistant = (pair.model if kind == "pruning" else pair.stock.model for kind in (target, assistant))
    if tiny.transformers_version()[:2] == (5, 0) and assistant is pair.model:
        pytest.xfail("refused on 5.0, as test_a_pruning_assistant_equals_the_oracle_and_is_refused_on_5_0 says")
    wrong = copy.deepcopy(assistant)
    with torch.no_grad():
        wrong.get_output_embeddings().weight.copy_(-wrong.get_output_embeddings().weight)
    wrong.generation_config.num_assistant_tokens_schedule = "constant"
    alone = target.generate(**inputs, **pair.greedy)
    assert torch.equal(target.generate(**inputs, **pair.greedy, assistant_model=wrong), alone)


@pytest.mark.parametrize("target", ["stock", "pruning"])
def test_an_assistant_whose_long_proposals_are_rejected_changes_nothing(pair, inputs, target):
    """transformers compares the length of its cache, in which less stands, with that of the text, and cuts nothing."""
    if tiny.transformers_version()[:2] == (5, 0):
        pytest.xfail("refused on 5.0, as test_a_pruning_assistant_equals_the_oracle_and_is_refused_on_5_0 says")
    target = pair.model if target == "pruning" else pair.stock.model
    wrong = copy.deepcopy(pair.model)
    with torch.no_grad():  # right at first, later wrong
        weight = wrong.get_output_embeddings().weight
        weight.add_(0.3 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(0)))
    for assistant in (wrong, pair.model):
        config = copy.deepcopy(assistant.generation_config)
        assistant.generation_config.update(
            assistant_confidence_threshold=0.0, num_assistant_tokens=4, num_assistant_tokens_schedule="constant"
        )
        try:
            options = pair.greedy | {"max_new_tokens": 14}
            alone = target.generate(**inputs, **options)
            assert torch.equal(target.generate(**inputs, **options, assistant_model=assistant), alone)
        finally:
            assistant.generation_config = config


@pytest.mark.parametrize("given", ["pixels", "setting"])
def test_continuous_batching_takes_no_images(pair, inputs, given, monkeypatch):
    monkeypatch.setattr(GenerationMixin, "generate_batch", lambda *_, **__: {})  # the stock one would not end
    ids = inputs["input_ids"].tolist()
    options = {"pixel_values": inputs["pixel_values"]} if given == "pixels" else {"zspa_keep_ratio": 0.5}
    with pytest.raises(ValueError, match=r"generate_batch answers texts alone.*(the images|zspa_keep_ratio) by"):
        pair.model.generate_batch(inputs=ids, **options)


def test_a_generation_loop_that_prepares_nothing_is_refused(pair, inputs):
    """It would run on placeholders without an image."""

    def of_transformers(name):
        return name in ("generation_config", "logits_processor", "stopping_criteria", "synced_gpus", "streamer")

    def one_step(model, input_ids, **kwargs):
        return model(input_ids=input_ids, **{k: v for k, v in kwargs.items() if not of_transformers(k)}).logits[:, -1]

    def one_step_of_the_base(model, input_ids, **kwargs):
        return model.model(input_ids=input_ids, **{k: v for k, v in kwargs.items() if not of_transformers(k)})

    for loop in (one_step, one_step_of_the_base):
        with pytest.raises(ValueError, match=r"without model\.prepare_inputs_for_generation"):
            pair.model.generate(**inputs, custom_generate=loop)
    unpruned = pair.model.generate(**inputs, custom_generate=one_step, zspa_keep_ratio=1.0)
    torch.testing.assert_close(unpruned, pair.stock.model(**inputs).logits[:, -1])


@pytest.mark.parametrize(
    "wrong, named",
    [
        ({"zspa_keep_ratio": 0}, "zspa_keep_ratio is 0"),
        ({"zspa_keep_ratio": 2.0}, "zspa_keep_ratio is 2.0"),
        ({"zspa_core_ratio": -1}, "zspa_core_ratio is -1"),
        ({"zspa_keep_ratio": 0.5, "visual_token_pruner": EveryThird()}, "not both"),
    ],
)
def test_a_wrong_call_is_named(pair, inputs, wrong, named):
    with pytest.raises(ValueError, match=named):
        pair.generate(inputs, **wrong)


@pytest.mark.parametrize("name", ["zspa_keep_ratioo", "zspa_keep"])
def test_a_misspelt_setting_is_not_passed_by(pair, inputs, name):
    for call in (pair.model, pair.model.select_visual_tokens, pair.model.visual_and_prompt_tokens):
        with pytest.raises(TypeError, match=f"{name} is no setting of a call: did you mean zspa_keep_ratio"):
            call(**inputs, **{name: 0.5})
    with pytest.raises((TypeError, ValueError), match=name):
        pair.generate(inputs, **{name: 0.5})


@pytest.mark.parametrize("name", ["zspa_keep_ratios", "zpsa_keep_ratio", "keep_ratio"])
def test_a_misspelt_field_that_a_config_is_given_is_refused_at_the_next_call(pair, inputs, name):
    setattr(pair.model.config, name, 0.3)
    try:
        with pytest.raises(ValueError, match=f"the model's config has {name}, did you mean zspa_keep_ratio"):
            pair.generate(inputs)
    finally:
        delattr(pair.model.config, name)


@pytest.mark.parametrize("field, value", [("position_ids", "kompakt"), ("prompt_scope", "all"), ("pooling", "sum")])
def test_fields_are_checked_on_every_call(pair, inputs, field, value):
    pruner = {} if field == "pooling" else {"visual_token_pruner": EveryThird()}
    with pair.fields(**{field: value}), pytest.raises(ValueError, match=f"zspa_{field} is '{value}'"):
        pair.generate(inputs, **pruner)


def test_placeholders_that_are_masked_take_their_tokens_with_them(pair):
    inputs = pair.inputs(*CASES["unequal images and questions"])
    image_id = pair.stock.model.config.image_token_id
    inputs["attention_mask"][0, inputs["input_ids"][0] == image_id] = 0

    class Everything(EveryThird):
        def budget(self, n):
            return n

        def __call__(self, visual_tokens, prompt_tokens):
            return [torch.arange(len(v)) for v in visual_tokens]

    ids = inputs["input_ids"]
    positions = (inputs["attention_mask"].cumsum(1) - 1).clamp_min(0)  # stock M-RoPE refuses a mask like this
    given = dict(inputs) | {"position_ids": positions}
    with torch.no_grad():
        stock = pair.stock.model(**given).logits[:, -1]
        pruned = pair.model(**given, visual_token_pruner=Everything()).logits[:, -1]
    assert ids.shape[0] == 2
    torch.testing.assert_close(pruned, stock, atol=3e-4, rtol=1e-4)


def test_two_generations_at_once_do_not_mix(pair):
    outer, inner = pair.inputs(*CASES["text between images"]), pair.inputs(*CASES["unequal images and questions"])
    interrupted = []

    def interrupt(input_ids, scores):
        interrupted.append(pair.generate(inner))
        return scores

    tokens = pair.generate(outer, logits_processor=[interrupt])
    assert torch.equal(tokens, expected(pair, outer))
    assert len(interrupted) == 6 and all(torch.equal(i, expected(pair, inner)) for i in interrupted)


def test_a_stock_config_prunes_by_the_defaults(pair, inputs):
    config = type(pair.stock.model.config).from_dict(pair.stock.model.config.to_dict())
    model = type(pair.model)(config)
    assert (model.config.zspa_keep_ratio, model.config.zspa_core_ratio) == (0.1, 0.2)
    visual = len(pair.stock.features(inputs)[0])
    assert len(model.eval().select_visual_tokens(**inputs)[0]) == ZspaPruner(0.1).budget(visual)
