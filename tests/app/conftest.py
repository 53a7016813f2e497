"""The page of the embedded checkpoint and of a small random one, served on loopback; and whom that connects to."""

import os
import socket
from contextlib import contextmanager

import pytest

from hf_zspa.app.answering import Answering
from hf_zspa.app.page import build
from hf_zspa.app.serve import serve
from hf_zspa.checkpoints.convert import convert_checkpoint

CONNECTED: set[str] = set()  # the hosts that this process has asked for


def _noting(connect):
    def connecting(self, address, *others):
        if isinstance(address, tuple):
            CONNECTED.add(address[0])
        return connect(self, address, *others)

    return connecting


socket.socket.connect = _noting(socket.socket.connect)  # type: ignore[method-assign]
socket.socket.connect_ex = _noting(socket.socket.connect_ex)  # type: ignore[method-assign]


@pytest.fixture(scope="session", autouse=True)
def uploads(tmp_path_factory):
    """Pictures go where those of the tests are removed."""
    os.environ["GRADIO_TEMP_DIR"] = str(tmp_path_factory.mktemp("uploads"))


@contextmanager
def served(answering):
    page = build(answering)
    try:
        yield serve(page)
    finally:
        page.close(verbose=False)


@pytest.fixture(scope="session")
def answering():
    return Answering("embedded")


@pytest.fixture(scope="session")
def url(answering):
    """The page of the embedded checkpoint."""
    with served(answering) as where:
        yield where


@pytest.fixture(scope="session")
def random(base_checkpoint, tmp_path_factory):
    """A small random checkpoint, which says many words."""
    folder = convert_checkpoint(base_checkpoint("llava"), tmp_path_factory.mktemp("random") / "llava-zspa")
    return Answering(str(folder))


@pytest.fixture
def encoded(answering):
    """Counts the pictures that the vision tower of the embedded checkpoint encodes."""
    seen: list[int] = []
    hook = answering.model.model.vision_tower.register_forward_hook(lambda *_: seen.append(1))
    answering._remembered.cache_clear()
    yield seen
    hook.remove()
