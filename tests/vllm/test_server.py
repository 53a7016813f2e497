"""A real server of the trained embedded checkpoints, asked over a socket: every answer is the one of transformers."""

from concurrent.futures import ThreadPoolExecutor
from itertools import cycle, islice
from pathlib import Path

import numpy as np
import openai
import pytest
from PIL import Image
from server import metric
from servers import CHECKPOINTS, REPLICAS, Ask, Server, Transformers

from hf_zspa.scenes.domains import VARIED_SCENES
from hf_zspa.scenes.heldout import collect

RATIOS = [
    {},
    {},
    {"zspa_keep_ratio": 0.05},
    {"zspa_keep_ratio": 0.25, "zspa_core_ratio": 0.5},
    {"zspa_method": "weighted", "zspa_relevance_weight": 0.5, "zspa_pooling": "none"},
    {"zspa_method": "dpp", "zspa_centre": True},
    {"zspa_method": "mmtok"},
    {"zspa_keep_ratio": 1.0},
]
REQUESTS = 120


@pytest.fixture(scope="module", params=CHECKPOINTS)
def served(request, tmp_path_factory):
    """A server that takes ratios from requests, and the same checkpoint in transformers."""
    checkpoint = CHECKPOINTS[request.param]
    log = tmp_path_factory.mktemp("server") / "log"
    server = Server(checkpoint, log, "--trust-request-mm-kwargs")
    yield server, Transformers(checkpoint)
    server.stop()


@pytest.fixture(scope="module")
def questions():
    """Held-out questions, several about each image, images of many sizes."""
    heldout = collect(per_kind=16, domain=VARIED_SCENES)
    images = [Image.fromarray(image) for image in heldout.images]
    return [Ask((images[place],), question.text) for place, question in heldout.questions]


def test_answers_and_prompt_lengths_are_those_of_transformers(served, questions):
    server, reference = served
    for ask in questions[:12]:
        got = server.ask(ask)
        assert got.choices[0].message.content.strip() == reference.answer(ask).strip()
        assert got.usage.prompt_tokens == reference.prompt_tokens(ask)
        assert got.usage.prompt_tokens < reference.inputs(ask)["input_ids"].shape[1] / 2
    assert "hf_zspa prunes by zspa: keep ratio 0.1, core ratio 0.2" in Path(server.log).read_text()


def test_a_stream_says_the_same(served, questions):
    server, reference = served
    for ask in questions[:4]:
        chunks = list(server.ask(ask, stream=True, stream_options={"include_usage": True}))
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
        assert text.strip() == reference.answer(ask).strip()
        assert len(chunks) > 2 and chunks[-1].usage.prompt_tokens == reference.prompt_tokens(ask)


def test_two_images_and_none(served, questions):
    server, reference = served
    for ask in (Ask(questions[0].images + questions[1].images, questions[1].question), Ask((), questions[0].question)):
        got = server.ask(ask)
        assert got.choices[0].message.content.strip() == reference.answer(ask).strip()
        assert got.usage.prompt_tokens == reference.prompt_tokens(ask)


def test_many_interleaved_requests_get_their_own_answers(served, questions):
    """Several questions about each image and several ratios for each question, sixteen at a time, in random order."""
    server, reference = served
    asks = [Ask(a.images, a.question, ratios) for a, ratios in zip(islice(cycle(questions), REQUESTS), cycle(RATIOS))]
    order = np.random.default_rng(0).permutation(REQUESTS)
    with ThreadPoolExecutor(16) as threads:
        got = dict(zip(order.tolist(), threads.map(lambda i: server.ask(asks[i]), order)))
    expected = [(reference.answer(ask).strip(), reference.prompt_tokens(ask)) for ask in asks]
    found = [(got[i].choices[0].message.content.strip(), got[i].usage.prompt_tokens) for i in range(REQUESTS)]
    assert found == expected
    answers = {answer for answer, _ in expected}
    assert len(answers) > 10  # a server that mixed them up would be noticed


def test_bad_requests_are_refused_and_hurt_nobody_else(served, questions):
    server, reference = served
    good = questions[:8]

    def refused(request) -> str:
        with pytest.raises(openai.BadRequestError) as error:
            request()
        return str(error.value)

    broken = [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}, {"type": "text", "text": "?"}]
    create = server.client.chat.completions.create
    bad = [
        lambda: server.ask(Ask(good[0].images, good[0].question, {"zspa_keep_ratio": 1.5})),
        lambda: server.ask(Ask(good[0].images, good[0].question, {"zspa_core_ratio": "most"})),
        lambda: server.ask(Ask(good[0].images, good[0].question, {"zspa_keep_raito": 0.5})),
        lambda: create(model="zspa", messages=[{"role": "user", "content": broken}]),
        lambda: server.ask(Ask(good[0].images * 3, good[0].question)),
    ]
    with ThreadPoolExecutor(12) as threads:
        answers = [threads.submit(server.ask, ask) for ask in good]
        messages = [threads.submit(refused, request) for request in bad]
    found = [answer.result().choices[0].message.content.strip() for answer in answers]
    assert found == [reference.answer(ask).strip() for ask in good]
    texts = [message.result() for message in messages]
    assert "zspa_keep_ratio is 1.5, but must be a number in (0, 1]" in texts[0]
    assert "zspa_core_ratio is 'most', but must be a number in [0, 1]" in texts[1]
    assert "zspa_keep_raito, but a request sets only zspa_keep_ratio, zspa_method, zspa_core" in texts[2]


def test_a_repeated_request_hits_the_prefix_cache_and_is_answered_alike(served, questions):
    """A repeated request is answered from vLLM's prefix cache, and answered alike."""
    server, reference = served
    ask = Ask(questions[0].images, " ".join([questions[0].question] * 8))
    before = metric(server.address, "vllm:prefix_cache_hits_total")
    first, second = server.ask(ask), server.ask(ask)
    assert first.choices[0].message.content == second.choices[0].message.content
    assert first.choices[0].message.content.strip() == reference.answer(ask).strip()
    assert metric(server.address, "vllm:prefix_cache_hits_total") > before


@pytest.fixture(scope="module")
def replicas(tmp_path_factory):
    """A server of two engines (data parallel) that takes no ratios from requests."""
    log = tmp_path_factory.mktemp("replicas") / "log"
    server = Server(CHECKPOINTS["qwen"], log, *REPLICAS)
    yield server
    server.stop()


@pytest.mark.skipif(not REPLICAS, reason="vLLM from 0.33 on needs a NUMA node for each replica, and here is one")
def test_two_replicas_answer_as_one(replicas, questions):
    """A request may come to either, whichever has seen its image before."""
    reference = Transformers(CHECKPOINTS["qwen"])
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(replicas.ask, questions[:48]))
    found = [answer.choices[0].message.content.strip() for answer in answers]
    assert found == [reference.answer(ask).strip() for ask in questions[:48]]
    assert all(metric(replicas.address, "vllm:request_success_total", f'engine="{i}"') for i in (0, 1))


def test_a_server_that_does_not_trust_requests_says_so(replicas, questions):
    with pytest.raises(openai.BadRequestError, match="--trust-request-mm-kwargs"):
        replicas.ask(Ask(questions[0].images, questions[0].question, {"zspa_keep_ratio": 0.5}))
    assert replicas.ask(questions[0]).choices[0].message.content
