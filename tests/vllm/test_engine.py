"""vLLM's offline engine against transformers, token for token, greedy, float32, on small random checkpoints."""

import importlib
from functools import partial, wraps
from operator import eq

import pytest
import tiny
import torch
from conftest import KEEP
from pairs import OTHER, QUESTION, image

FAMILIES = [
    "llava", "llava_next", "llava_onevision", "qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_vl_moe", "glm4v",
    "glm4v_moe", "internvl", "smolvlm", "idefics3", "mistral3", "pixtral",
]  # fmt: skip
NIGHTLY = partial(pytest.param, marks=pytest.mark.nightly)
# What takes an engine of its own runs for some of a kind at every change, and before a release for all: one row of
# positions, tiles, M-RoPE, and that with DeepStack.
OF_A_KIND = {"llava", "smolvlm", "qwen2_5_vl", "qwen3_vl"}
WITH_ENGINES_OF_THEIR_OWN = [family if family in OF_A_KIND else NIGHTLY(family) for family in FAMILIES]
VIDEO_FAMILIES = ["llava_onevision", "qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_vl_moe", "glm4v", "glm4v_moe"]
BLOCK = 32  # tokens of the cache that are reused together


def prompts(reference):
    """Questions about one image and several, of many sizes, in any order, and about none."""
    star = image(1)
    cases = {
        "one image": [star, QUESTION],
        "another question about it": [star, OTHER],
        "question first": [QUESTION, star],
        "a tall image": [image(2, (56, 168)), QUESTION],
        "a wide image": [image(3, (196, 56)), QUESTION],
        "two images": [image(4), "a", image(5, (84, 84)), QUESTION],
        "adjacent images": [image(6), image(7, (56, 84)), OTHER],
        "text alone": [OTHER + " " + QUESTION],
        "a long question": [star, " ".join([OTHER] * 6)],
    }
    if reference.family == "llava_onevision":  # of several images transformers cuts none into tiles, vLLM all
        del cases["two images"]
    return {name: reference.prompt(*parts) for name, parts in cases.items()}


def image_in(reference, request):
    """Where the one image of a request begins in the pruned prompt, and how many tokens of it are kept."""
    ids = reference.inputs(request)["input_ids"][0].tolist()
    placeholder = max(reference.never, key=ids.count)
    return ids.index(placeholder), reference.pruned_length(request) - len(ids) + ids.count(placeholder)


def assert_equal(engine, requests):
    """vLLM's tokens and prompt lengths are those of transformers, for requests together and each alone, uncached."""
    reference = engine.reference
    expected = [reference.tokens(request) for request in requests]
    together = engine.run(*requests)
    assert not hasattr(together, "error"), together.error
    assert together.tokens == expected
    assert together.prompt_lengths == [reference.pruned_length(request) for request in requests]
    for request, tokens in zip(requests, expected, strict=True):
        assert engine.run(request, fresh=True).tokens == [tokens]


@pytest.mark.parametrize("family", FAMILIES)
def test_an_engine_equals_transformers(engine_of, family):
    engine = engine_of(family)
    assert_equal(engine, list(prompts(engine.reference).values()))
    log = engine.log.read_text()
    assert (
        log.count(
            "hf_zspa prunes by zspa: keep ratio 0.3, core ratio 0.4, pooling mean, centre False, positions preserve"
        )
        == 1
    )


@pytest.mark.parametrize("family", WITH_ENGINES_OF_THEIR_OWN)
def test_a_prefill_in_chunks_that_split_images_equals_transformers(reference, start, family):
    ours = reference(family)
    requests = prompts(ours)
    first, kept = image_in(ours, requests["a long question"])
    assert kept >= 4
    chunk = max(first + 1, kept)  # which ends inside the image
    engine = start(ours, max_num_batched_tokens=chunk, enable_chunked_prefill=True)
    # Stock vLLM reckons InternVL's images shorter than they are, and so small a step leaves one no room in its cache.
    fit = [r for r in requests.values() if max([0, *map(len, ours.kept(r))]) <= chunk or family != "internvl"]
    assert requests["a long question"] in fit and len(fit) >= 5
    assert_equal(engine, fit)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_prefix_that_ends_inside_an_image_is_reused(engine_of, family):
    engine = engine_of(family)
    ours = engine.reference
    for words in range(1, 20):  # until the image lies over the end of a block
        request = ours.prompt("dog " * words, image(1), "a")
        first, kept = image_in(ours, request)
        if first < BLOCK < first + kept:
            break
    assert first < BLOCK < first + kept
    expected = [ours.tokens(request)]
    once, again = engine.run(request, fresh=True), engine.run(request)
    assert once.tokens == again.tokens == expected
    assert once.cached == [0] and again.cached == [(ours.pruned_length(request) - 1) // BLOCK * BLOCK]


@pytest.mark.parametrize("family", WITH_ENGINES_OF_THEIR_OWN)
def test_the_default_engine_of_several_processes_equals_transformers(reference, start, family):
    engine = start(reference(family), in_process=False, mm_processor_cache_gb=0)
    assert_equal(engine, list(prompts(engine.reference).values())[:5])


@pytest.mark.nightly
@pytest.mark.parametrize(
    ("family", "text_model"),
    [("internvl", "Qwen3"), ("llava", "Qwen2"), ("llava_next", "Qwen2"), ("mistral3", "Ministral 3")],
)
def test_another_text_model_equals_transformers(reference, start, family, text_model):
    engine = start(reference(family, text_model=text_model))
    assert_equal(engine, list(prompts(engine.reference).values()))


@pytest.mark.parametrize("family", ["llava", "llava_next"])
def test_compact_positions_equal_transformers(reference, start, family):
    engine = start(reference(family, zspa_position_ids="compact"))
    assert_equal(engine, list(prompts(engine.reference).values()))


def test_the_positions_of_the_config_matter(reference):
    """Otherwise equality above would not show that they are kept."""
    preserved, compact = reference("llava"), reference("llava", zspa_position_ids="compact")
    requests = list(prompts(preserved).values())
    assert [preserved.tokens(r) for r in requests[:3]] != [compact.tokens(r) for r in requests[:3]]


@pytest.mark.parametrize("family", VIDEO_FAMILIES)
def test_a_video_equals_transformers(engine_of, family):
    engine = engine_of(family)
    video = tiny.random_video(4, 84, 56)
    requests = [engine.reference.prompt(video, QUESTION), engine.reference.prompt(image(), video, OTHER)]
    beside = not family.startswith("glm4v")  # transformers has no images beside videos there
    assert_equal(engine, requests if beside else requests[:1])


def test_features_of_a_video_are_those_of_its_frames(engine_of):
    """Of two samplings of one video each is encoded, and none is taken for the other; a further question needs none."""
    engine = engine_of("qwen3_vl")
    ours, video = engine.reference, tiny.random_video(8, 84, 56, seed=20)
    samplings = [{"fps": 1.0}, {"fps": 2.0}, {"fps": None, "num_frames": 6}]
    given = [{"mm_processor_kwargs": {"do_sample_frames": True} | sampling} for sampling in samplings]
    requests = [ours.prompt(video, question, **options) for question in (QUESTION, OTHER) for options in given]
    before = engine.run(ours.prompt(QUESTION)).encodings
    found = [engine.run(request) for request in requests]
    assert [one.tokens for one in found] == [[ours.tokens(request)] for request in requests]
    assert [one.encodings - before for one in found] == [1, 2, 3, 3, 3, 3]


def test_a_video_of_a_family_whose_images_alone_are_pruned_is_refused(reference, start):
    """Also where a video would be the longest that vLLM could be sent, and so what it profiles with."""
    engine = start(reference("internvl"), max_model_len=2048)
    video, good = (engine.reference.prompt(part, QUESTION) for part in (tiny.random_video(4, 84, 56), image(1)))
    assert "video" in engine.run(video).error
    assert engine.run(good).tokens == [engine.reference.tokens(good)]


def test_a_recurrence_in_sixteen_bits_answers_mostly_as_transformers_does(reference, start):
    """On a CPU vLLM has no other, and two implementations round differently, pruned or not."""
    ours = reference("qwen3_5", torch.bfloat16)
    engine = start(ours, dtype="bfloat16")
    requests = list(prompts(ours).values())
    whole = {"zspa_keep_ratio": 1.0}
    pruned, unpruned = engine.run(*requests), engine.run(*(r | {"mm_processor_kwargs": whole} for r in requests))
    assert pruned.prompt_lengths == [ours.pruned_length(request) for request in requests]
    first = lambda answers: [tokens[0] for tokens in answers]  # noqa: E731
    expected = [first(ours.tokens(r, **options) for r in requests) for options in ({}, whole, {"zspa_core_ratio": 0.0})]
    alike = [sum(map(eq, first(found.tokens), wanted)) for found in (pruned, unpruned) for wanted in expected]
    assert alike[0] >= 7 and alike[4] >= 7, alike
    assert max(alike[1], alike[2], alike[3]) < min(alike[0], alike[4]), alike  # of answers about other tokens fewer are


def test_a_recurrent_state_is_reused_behind_text_and_the_same_question_alone(reference, start):
    """vLLM keeps it at the ends of blocks, which are as long as it is large."""
    ours, block = reference("qwen3_5", torch.bfloat16), 1056
    engine = start(ours, dtype="bfloat16", enable_prefix_caching=True, max_model_len=2048, num_gpu_blocks_override=64)
    text = "dog " * 850
    for parts, cached in (
        ([image(1), text + QUESTION], 0), ([image(1), text + OTHER], 0), ([image(1), text + QUESTION], block),
        ([text, image(1), QUESTION], 0), ([text, image(1), OTHER], block), ([text, image(2), OTHER], block),
    ):  # fmt: skip
        request = ours.prompt(*parts)
        found = engine.run(request)
        assert (found.cached, found.prompt_lengths) == ([cached], [ours.pruned_length(request)])


def test_after_a_long_video_text_goes_on_as_in_stock_vllm(engine_of, start, monkeypatch):
    """vLLM and transformers up to 5.0 number it after the last frame; later transformers after the frame's sides."""
    engine = engine_of("qwen2_5_vl")
    ours = engine.reference
    video = tiny.random_video(8, 84, 56)
    request = ours.prompt(video, QUESTION)
    whole = request | {"mm_processor_kwargs": {"zspa_keep_ratio": 1.0}}
    stock = start(ours, plugin=False).run(request).tokens
    later = ours.tokens(request)
    numbered = wraps(ours.model.model.get_rope_index)(partial(after_the_last_frame, ours.model.model))
    monkeypatch.setattr(ours.model.model, "get_rope_index", numbered)  # which keeps the names of its arguments
    assert engine.run(request, whole).tokens == [ours.tokens(request), *stock]
    assert ours.tokens(request) != later and [ours.tokens(request, zspa_keep_ratio=1.0)] == stock


def after_the_last_frame(model, input_ids, *args, **kwargs):
    """`get_rope_index` of one prompt with one video, by the rule of transformers up to 5.0."""
    positions, deltas = type(model).get_rope_index(model, input_ids, *args, **kwargs)
    last = (input_ids[0] == model.config.video_token_id).nonzero()[-1] + 1
    first = (input_ids[0] == model.config.video_token_id).nonzero()[0]
    positions = positions.clone()
    after = positions[:, 0, first:last].max() + 1
    positions[:, 0, last:] += after - positions[0, 0, last]
    return positions, deltas * 0 + positions.max() + 1 - input_ids.shape[1]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_request_has_settings_of_its_own(engine_of, family):
    engine = engine_of(family)
    settings = {"zspa_keep_ratio": 0.6, "zspa_core_ratio": 0.0}
    weighted = {"zspa_method": "weighted", "zspa_relevance_weight": -1.0, "zspa_centre": True}
    ours = engine.reference
    plain, *own = (ours.prompt(image(1), QUESTION, mm_processor_kwargs=given) for given in ({}, settings, weighted))
    whole = ours.prompt(image(1), QUESTION, mm_processor_kwargs={"zspa_keep_ratio": 1.0})
    found = engine.run(plain, *own, whole, plain)
    expected = [ours.tokens(plain, **given) for given in ({}, settings, weighted, {"zspa_keep_ratio": 1.0})]
    assert found.tokens == [*expected, expected[0]]
    assert found.prompt_lengths[1] == ours.pruned_length(plain, **settings)
    assert found.prompt_lengths[3] == ours.inputs(plain)["input_ids"].shape[1]


@pytest.mark.parametrize("family", WITH_ENGINES_OF_THEIR_OWN)
def test_a_request_prunes_where_the_config_does_not(reference, start, family):
    """With the positions that the config promises."""
    engine = start(reference(family), hf_overrides={"zspa_keep_ratio": 1.0})
    ours = engine.reference
    pruned = ours.prompt(image(1), QUESTION, mm_processor_kwargs={"zspa_keep_ratio": 0.3})
    whole = ours.prompt(image(1), QUESTION)
    assert engine.run(pruned, whole).tokens == [ours.tokens(pruned), ours.tokens(whole, zspa_keep_ratio=1.0)]
    assert "positions preserve (only requests that ask" in engine.log.read_text()


@pytest.mark.parametrize("family", WITH_ENGINES_OF_THEIR_OWN)
def test_another_question_about_an_image_needs_no_vision_tower(reference, start, family):
    """Nor does another method."""
    ours = reference(family)
    weighted = {"zspa_method": "weighted", "zspa_relevance_weight": -1.0}
    asked = [(QUESTION, {}), (OTHER, {}), (QUESTION, weighted)]
    questions = [ours.prompt(image(1), question, mm_processor_kwargs=own) for question, own in asked]
    expected = [ours.tokens(question, **own) for question, (_, own) in zip(questions, asked)]
    for megabytes, encodings in ((128, 1), (0, 3)):
        engine = start(ours, hf_overrides={"zspa_vision_cache_mb": megabytes})
        found = [engine.run(question) for question in questions]
        assert [f.tokens[0] for f in found] == expected and found[-1].encodings == encodings
        engine.stop()


@pytest.mark.parametrize("family", WITH_ENGINES_OF_THEIR_OWN)
def test_without_the_plug_in_the_stock_model_is_served(reference, start, family):
    engine = start(reference(family), plugin=False)
    request = prompts(engine.reference)["one image"]
    found = engine.run(request)
    assert found.prompt_lengths == [engine.reference.inputs(request)["input_ids"].shape[1]]
    assert found.tokens == [engine.reference.tokens(request, zspa_keep_ratio=1.0)]


@pytest.mark.parametrize("family", WITH_ENGINES_OF_THEIR_OWN)
def test_a_second_question_goes_wrong_where_the_caches_do_not_know_it(reference, start, family):
    """The control of the tests above: without the question in the hash they fail."""
    engine = start(reference(family), **{"break": "hash"})
    requests = [engine.reference.prompt(image(1), question) for question in (QUESTION, OTHER)]
    first, second = (engine.run(request) for request in requests)
    assert first.tokens == [engine.reference.tokens(requests[0])]
    assert second.tokens != [engine.reference.tokens(requests[1])]


@pytest.mark.parametrize("family", WITH_ENGINES_OF_THEIR_OWN)
def test_tokens_differ_where_positions_are_not_filled_in(reference, start, family):
    """The control: without the places in the image the tests above fail."""
    engine = start(reference(family), **{"break": "places"})
    requests = list(prompts(engine.reference).values())
    assert engine.run(*requests).tokens != [engine.reference.tokens(request) for request in requests]


ONE_ROW = ["llava", *(NIGHTLY(name) for name in ("llava_next", "llava_onevision", "internvl", "smolvlm", "idefics3",
           "mistral3", "pixtral"))]  # fmt: skip


@pytest.mark.parametrize("family", ONE_ROW)
def test_an_answer_goes_on_behind_the_last_position_of_stock_vllm(reference, start, family):
    """It has as many as prompt and answer have tokens; of a pruned prompt's answer they go further."""
    ours = reference(family)
    request = ours.prompt(image(1), QUESTION)
    reach, pruned = ours.inputs(request)["input_ids"].shape[1], ours.pruned_length(request)
    limit = max(300, reach)  # as many as the largest image has, without which no engine starts
    steps = limit - pruned
    assert reach + steps > limit + 10
    text = {"max_position_embeddings": limit}
    engine = start(ours, max_model_len=limit, hf_overrides={"text_config": text})
    assert engine.run(request, steps=steps).tokens == [ours.tokens(request, steps)]


@pytest.fixture
def offered(tmp_path):
    """A folder with an installed package that offers pruners."""
    (tmp_path / "theirs.py").write_text(
        "import torch\n"
        "class First:\n"
        "    def __init__(self, keep_ratio): self.share = keep_ratio\n"
        "    def budget(self, n): return max(1, int(self.share * n))\n"
        "    def __call__(self, visual, prompts):\n"
        "        return [torch.arange(self.budget(len(v)), device=v.device) for v in visual]\n"
        "class Means(First):\n"
        "    merges = True\n"
        "    def __call__(self, visual, prompts):\n"
        "        kept = super().__call__(visual, prompts)\n"
        "        return [(k, v.mean(0).expand(len(k), -1)) for k, v in zip(kept, visual)]\n"
        "class Greedy(First):\n"
        "    def budget(self, n): return n + 1\n"
        "class Torn(First):\n"
        "    def budget(self, n): return n // (self.share > 0.9)\n"
        "class Picky(First):\n"
        "    def __init__(self, keep_ratio): raise KeyError(keep_ratio)\n"
        "class Last(First):\n"
        "    def __call__(self, visual, prompts): return [k.flip(0) for k in super().__call__(visual, prompts)]\n"
    )
    info = tmp_path / "theirs-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n")
    points = "\n".join(
        f"{name.lower()} = theirs:{name}" for name in ("First", "Means", "Last", "Greedy", "Torn", "Picky")
    )
    points += "\nnowhere = nowhere:Nothing"
    (info / "entry_points.txt").write_text(f"[hf_zspa.pruners]\n{points}\n")
    return tmp_path


@pytest.mark.parametrize("family, name", [("llava", "First"), ("qwen3_vl", "First"), ("smolvlm", "Means")])
def test_a_pruner_of_somebody_elses_prunes_in_the_engine_as_in_a_call(
    reference, start, offered, monkeypatch, family, name
):
    monkeypatch.syspath_prepend(offered)
    theirs = getattr(importlib.import_module("theirs"), name)
    ours = reference(family)
    engine = start(ours, path=[str(offered)], hf_overrides={"zspa_engine_pruner": name.lower()})
    requests = list(prompts(ours).values())
    less = {"mm_processor_kwargs": {"zspa_keep_ratio": 0.1}}
    found = engine.run(*requests, requests[0] | less)
    expected = [ours.tokens(request, visual_token_pruner=theirs(KEEP)) for request in requests]
    assert found.tokens == [*expected, ours.tokens(requests[0], visual_token_pruner=theirs(0.1))]
    assert found.tokens[:-1] != [ours.tokens(request) for request in requests]
    other = requests[0] | {"mm_processor_kwargs": {"zspa_method": "dpp"}}
    assert "zspa_method is not for the engine's pruner" in engine.run(other).error


@pytest.mark.parametrize(
    "family, options, message",
    [
        ("qwen3_vl", {"hf_overrides": {"zspa_engine_pruner": "means"}}, "merges visual tokens, which DeepStack"),
        (
            "llava",
            {"hf_overrides": {"zspa_engine_pruner": "picky"}},
            "'picky' cannot be made: KeyErr",
        ),
        (
            "llava",
            {"hf_overrides": {"zspa_engine_pruner": "nowhere"}},
            "'nowhere' cannot be made: ModuleNotF",
        ),
        ("qwen2_5_vl", {"compilation_config": {"cudagraph_mm_encoder": True}}, "encodes images past the selection"),
    ],
)
def test_what_cannot_be_pruned_rightly_is_refused_at_the_start(reference, start, offered, family, options, message):
    with pytest.raises(pytest.fail.Exception, match=message):
        start(reference(family), path=[str(offered)], **options)


def test_what_a_pruner_of_somebody_elses_returns_is_checked(reference, start, offered):
    engine = start(reference("llava"), path=[str(offered)], hf_overrides={"zspa_engine_pruner": "last"})
    refused = engine.run(engine.reference.prompt(image(1), QUESTION))
    assert "Last must return ascending indices" in refused.error


@pytest.mark.parametrize(
    "name, said",
    [("greedy", "Greedy is 65"), ("torn", "Torn is ZeroDivisionError('integer division or modulo by zero')")],
)
def test_a_budget_that_is_none_hurts_nobody_else(reference, start, offered, name, said):
    engine = start(reference("llava"), path=[str(offered)], hf_overrides={"zspa_engine_pruner": name})
    asked = engine.reference.prompt(image(1), QUESTION)
    for _ in range(2):  # the engine has not got the image of the first
        assert f"budget(64) of {said}, but must be an integer from 1 to 64" in engine.run(asked).error
    whole = engine.run(asked | {"mm_processor_kwargs": {"zspa_keep_ratio": 1.0}})
    assert whole.tokens == [engine.reference.tokens(asked, zspa_keep_ratio=1.0)]


def test_a_token_that_stands_for_a_video_is_no_text(engine_of):
    engine = engine_of("qwen3_vl")
    good = engine.reference.prompt("a", image(1), QUESTION)
    for typed, wrong in (("<|video_pad|>", True), ("<|image_pad|>", False)):
        asked = good | {"prompt": good["prompt"].replace("a", f"a {typed} b", 1)}
        found = engine.run(asked)
        assert ("has <|video_pad|> in it, which stands for what is seen" in getattr(found, "error", "")) == wrong
    assert engine.run(good).tokens == [engine.reference.tokens(good)]


def test_a_bad_ratio_is_named_and_hurts_nobody_else(engine_of):
    engine = engine_of("llava")
    good = engine.reference.prompt(image(1), QUESTION)
    bad = good | {"mm_processor_kwargs": {"zspa_keep_ratio": 1.5}}
    assert "zspa_keep_ratio is 1.5, but must be a number in (0, 1]" in engine.run(bad).error
    assert engine.run(good).tokens == [engine.reference.tokens(good)]


def test_images_without_text_between_them_are_refused(engine_of):
    engine = engine_of("qwen2_5_vl")
    good = engine.reference.prompt(image(1), image(2), QUESTION)
    bare = good | {"prompt": "<|vision_start|><|image_pad|><|image_pad|><|vision_end|>" + QUESTION}
    assert "no token of text between two images or videos" in engine.run(bare).error
    assert engine.run(good).tokens == [engine.reference.tokens(good)]


@pytest.mark.parametrize("family", ["llava", "qwen2_5_vl", NIGHTLY("qwen3_vl"), NIGHTLY("smolvlm")])
def test_two_ranks_of_a_tensor_parallel_engine_equal_transformers(reference, start, family):
    options = {"tensor_parallel_size": 2, "distributed_executor_backend": "mp"}
    assert_equal(start(reference(family), in_process=False, **options), list(prompts(reference(family)).values())[:6])


@pytest.mark.parametrize("family", ["llava", "qwen2_5_vl", NIGHTLY("qwen3_vl"), NIGHTLY("internvl")])
def test_two_stages_of_a_pipeline_equal_transformers(reference, start, family):
    """Only the first stage sees the images, and with them where the kept tokens stand.

    Traced as for a compilation, because the CPU's eager runner never makes the buffers that a later stage receives
    into, with any model.
    """
    traced = {"enforce_eager": False, "compilation_config": {"mode": "DYNAMO_TRACE_ONCE", "backend": "eager"}}
    options = {"pipeline_parallel_size": 2, "distributed_executor_backend": "mp"} | traced
    assert_equal(start(reference(family), in_process=False, **options), list(prompts(reference(family)).values())[:6])


def test_images_that_leave_their_positions_no_room_are_refused(reference, start):
    """Pruned they fit, but kept tokens stand where they stood, and the model has no such positions."""
    ours = reference("llava")
    limit = ours.model.config.get_text_config().max_position_embeddings
    one = ours.prompt(image(1), QUESTION)
    images = limit // int((ours.inputs(one)["input_ids"] == ours.model.config.image_token_id).sum()) + 1
    many = ours.prompt(*[image(1)] * images, QUESTION)
    assert ours.pruned_length(many) < limit < ours.inputs(many)["input_ids"].shape[1]
    options = {"limit_mm_per_prompt": {"image": images}, "max_model_len": limit, "max_num_seqs": 2}
    engine = start(ours, **options)
    refused = engine.run(many)
    assert f"the model has {limit} positions: send fewer images" in refused.error and "compact" in refused.error
    assert engine.run(one).tokens == [ours.tokens(one)]
    compact = reference("llava", zspa_position_ids="compact")
    assert start(compact, **options).run(many).tokens == [compact.tokens(many)]
