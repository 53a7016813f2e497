"""A Hub on loopback, a client of it in another process, and a checkpoint to publish."""

import contextlib
import itertools
import json
import os
import shutil
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest
from transformers.utils import HF_MODULES_CACHE

from hf_zspa.checkpoints.convert import convert_checkpoint
from hub.protocol import WRITER
from hub.server import HubServer

_numbers = itertools.count()


@dataclass
class Client:
    """Runs commands and Python where `HF_ENDPOINT` is the server."""

    process: subprocess.Popen

    def run(self, *arguments: object, token: str | None = WRITER) -> SimpleNamespace:
        """`hf-zspa` with these arguments: its status, out and err."""
        return self._ask({"argv": [str(argument) for argument in arguments], "token": token})

    def python(self, code: str, token: str | None = WRITER):
        """What `result` is after some Python; it fails where that raises."""
        answer = self._ask({"code": code, "token": token})
        assert answer.status == 0, answer.err
        return answer.result

    def upload(self, repository: str, name: str, content: bytes) -> None:
        """A file that somebody adds to a repository."""
        call = f"HfApi().upload_file(path_or_fileobj={content!r}, path_in_repo={name!r}, repo_id={repository!r})"
        self.python(f"from huggingface_hub import HfApi\n{call}")

    def _ask(self, question: dict) -> SimpleNamespace:
        self.process.stdin.write(json.dumps(question) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        assert line, "the client died"
        answer = SimpleNamespace(**json.loads(line))
        answer.err, answer.out = " ".join(answer.err.split()), answer.out
        return answer


@pytest.fixture(scope="session")
def server():
    with HubServer() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@contextlib.contextmanager
def started(server, home: Path, *before: Path, **more: str):
    path = [*map(str, before), *(place for place in sys.path if place != HF_MODULES_CACHE)]  # it has code of its own
    off = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "TRANSFORMERS_"))}
    environment = off | {
        "HF_ENDPOINT": server.url, "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HOME": str(home),
        "OMP_NUM_THREADS": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1", "PYTHONPATH": os.pathsep.join(path),
        "NO_PROXY": "*", "HF_HUB_DOWNLOAD_TIMEOUT": "10",
    }  # fmt: skip
    worker = Path(__file__).with_name("worker.py")
    process = subprocess.Popen(
        [sys.executable, str(worker)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        text=True, env=environment | more,
    )  # fmt: skip
    yield Client(process)
    process.stdin.close()
    process.wait(timeout=20)


@pytest.fixture(scope="session")
def client(server, tmp_path_factory):
    with started(server, tmp_path_factory.mktemp("hf-home")) as client:
        yield client


@pytest.fixture(scope="session")
def offline(server, tmp_path_factory):
    """A client without the Hub, and with a torchvision that cannot be imported."""
    folder = tmp_path_factory.mktemp("offline")
    broken = folder / "site" / "torchvision"
    broken.mkdir(parents=True)
    (broken / "__init__.py").write_text('raise RuntimeError("operator torchvision::nms does not exist")')
    with started(server, folder, broken.parent, HF_HUB_OFFLINE="1", COLUMNS="160") as client:
        yield client


@pytest.fixture
def hub(server):
    """The server, with nothing wrong with it and no requests yet."""
    server.faults.clear()
    server.requests.clear()
    yield server
    server.faults.clear()


@pytest.fixture(scope="session")
def made(base_checkpoint, tmp_path_factory):
    return convert_checkpoint(base_checkpoint("llava"), tmp_path_factory.mktemp("made") / "checkpoint")


@pytest.fixture
def checkpoint(made, tmp_path):
    """A converted LLaVA of a test's own."""
    return shutil.copytree(made, tmp_path / "checkpoint")


@pytest.fixture
def repository(request, hub):
    """The name of a repository that is not there yet."""
    name = f"{request.function.__name__[5:40]}.{next(_numbers)}"
    return f"org/{name}"
