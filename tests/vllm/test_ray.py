"""The example with Ray Data, on a cluster of two nodes on loopback."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ENVIRONMENT
from PIL import Image
from ray.cluster_utils import Cluster
from servers import CHECKPOINTS, Ask, Transformers

from hf_zspa.embedded.heldout import collect

EXAMPLE = Path(__file__).parents[2] / "docs/examples/answer_dataset.py"
OPTIONS = {"dtype": "float32", "enforce_eager": True, "block_size": 32, "max_num_seqs": 8}
RAY = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
PATIENCE = 400  # seconds


@pytest.fixture
def cluster(monkeypatch):
    """Two nodes with room for one engine each."""
    for name, value in {
        **ENVIRONMENT,
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    }.items():
        monkeypatch.setenv(name, value)
    node = {"num_cpus": 1, "node_ip_address": "127.0.0.1", "object_store_memory": 100_000_000}
    cluster = Cluster(initialize_head=True, head_node_args=node | {"include_dashboard": False})
    cluster.add_node(**node)
    yield cluster
    cluster.shutdown()


def test_a_data_set_is_answered_as_by_transformers(cluster, tmp_path):
    heldout = collect(per_kind=4, varied=False)
    for place, image in enumerate(heldout.images):
        Image.fromarray(image).save(tmp_path / f"{place}.png")
    rows = [{"image": str(tmp_path / f"{i}.png"), "question": question.text} for i, question in heldout.questions]
    questions = tmp_path / "questions.jsonl"
    questions.write_text("".join(json.dumps(row) + "\n" for row in rows))
    answers = tmp_path / "answers"
    command = [sys.executable, EXAMPLE, CHECKPOINTS["llava"], questions, answers, "--engines", "2", "--batch-size", "6"]
    done = subprocess.run(
        [*map(str, command), "--max-tokens", "8", "--options", json.dumps(OPTIONS)],
        env=os.environ | {"RAY_ADDRESS": cluster.address}, capture_output=True, text=True, timeout=PATIENCE,
    )  # fmt: skip
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    reference = Transformers(CHECKPOINTS["llava"])
    expected = []
    for place, question in heldout.questions:
        ask = Ask((Image.fromarray(heldout.images[place]),), question.text)
        expected.append(
            (str(tmp_path / f"{place}.png"), question.text, reference.answer(ask).strip(), reference.prompt_tokens(ask))
        )
    found = [json.loads(line) for file in answers.glob("*.json") for line in file.read_text().splitlines()]
    names = ("image", "question", "answer", "prompt_tokens")
    assert sorted(tuple(row[name] for name in names) for row in found) == sorted(expected)
