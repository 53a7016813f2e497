"""Real servers, of two replicas where that can be, of small random checkpoints: tokens are those of transformers."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from pairs import OTHER, QUESTION, image
from server import metric
from servers import REPLICAS, Ask, Server

pytestmark = pytest.mark.nightly
SETTINGS = [
    {},
    {"zspa_keep_ratio": 0.6, "zspa_core_ratio": 0.0},
    {"zspa_method": "weighted", "zspa_relevance_weight": -1.0, "zspa_centre": True},
    {"zspa_keep_ratio": 1.0},
]


@pytest.fixture(scope="module", params=["qwen3_vl", "smolvlm"])
def served(request, reference, tmp_path_factory):
    """A server of a random checkpoint, and the same checkpoint in transformers."""
    ours = reference(request.param)
    log = tmp_path_factory.mktemp("server") / "log"
    server = Server(ours.path, log, "--trust-request-mm-kwargs", *REPLICAS)
    yield server, ours
    server.stop()


def asked(server, ours, images, question, settings, **options):
    body = {"allowed_token_ids": ours.allowed, "ignore_eos": True, "return_token_ids": True}
    return server.ask(Ask(tuple(images), question, settings), extra=body, **options)


def test_answers_are_those_of_transformers_with_the_settings_of_the_request(served):
    """Whichever replica answers, and whatever it has seen of an image before."""
    server, ours = served
    cases = [
        (images, question, settings)
        for images in ([image(1)], [image(2, (56, 168))], [image(4), image(5, (84, 84))])
        for question in (QUESTION, OTHER)
        for settings in SETTINGS
    ]
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda case: asked(server, ours, *case), cases))
    requests = [(ours.prompt(*images, question), settings) for images, question, settings in cases]
    expected = [(ours.tokens(asks, **given), ours.pruned_length(asks, **given)) for asks, given in requests]
    assert [(one.choices[0].token_ids, one.usage.prompt_tokens) for one in found] == expected
    assert len({tuple(tokens) for tokens, _ in expected}) > len(cases) / 2  # one that mixes them up is noticed
    assert all(
        metric(server.address, "vllm:request_success_total", f'engine="{i}"') for i in (0, 1)[: len(REPLICAS) or 1]
    )


def test_a_stream_says_the_same(served):
    server, ours = served
    for settings in SETTINGS:
        chunks = list(asked(server, ours, [image(1)], QUESTION, settings, stream=True))
        choices = [choice for chunk in chunks for choice in chunk.choices]
        tokens = [token for choice in choices for token in getattr(choice, "token_ids", None) or ()]
        assert tokens == ours.tokens(ours.prompt(image(1), QUESTION), **settings) and len(chunks) > 2
