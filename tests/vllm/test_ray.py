"""The example with Ray Data, on a cluster of two nodes on loopback."""

import json
import os
import subprocess
import sys
from pathlib import Path

from conftest import ENVIRONMENT
from PIL import Image
from servers import CHECKPOINTS, Ask, Transformers

from hf_zspa.scenes.heldout import collect

EXAMPLE = Path(__file__).parents[2] / "docs/examples/answer_dataset.py"
OPTIONS = {"dtype": "float32", "enforce_eager": True, "block_size": 32, "max_num_seqs": 8}
RAY = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
if not os.environ.get("TEST_ALL"):  # then an engine has processes of its own, each of which imports vLLM again
    RAY["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
PATIENCE = 900  # seconds


ON_A_CLUSTER = """
import runpy, sys
import ray
from ray.cluster_utils import Cluster
ray._private.services.resolve_ip_for_localhost = lambda host: host  # Ray would have an address that others can reach
node = {"num_cpus": 2, "node_ip_address": "127.0.0.1", "object_store_memory": 100_000_000}
cluster = Cluster(initialize_head=True, head_node_args=node | {"include_dashboard": False})
cluster.add_node(**node)
try:
    ray.init(cluster.address, _node_ip_address="127.0.0.1")
    sys.argv = sys.argv[1:]
    runpy.run_path(sys.argv[0], run_name="__main__")
    print("nodes:", len(ray.nodes()))
finally:
    ray.shutdown()
    cluster.shutdown()
"""


def test_a_data_set_is_answered_as_by_transformers(tmp_path):
    heldout = collect(per_kind=4)
    for place, image in enumerate(heldout.images):
        Image.fromarray(image).save(tmp_path / f"{place}.png")
    rows = [{"image": str(tmp_path / f"{i}.png"), "question": question.text} for i, question in heldout.questions]
    unanswerable = [rows[0] | {"question": "long " * 2000}, {"image": str(tmp_path / "none.png"), "question": "What?"}]
    rows[1:1] = unanswerable
    questions = tmp_path / "questions.jsonl"
    questions.write_text("".join(json.dumps(row) + "\n" for row in rows))
    answers = tmp_path / "answers"
    command = [EXAMPLE, CHECKPOINTS["llava"], questions, answers, "--engines", "2", "--gpus", "0"]
    command += ["--batch-size", "6", "--max-tokens", "8", "--options", json.dumps(OPTIONS)]
    done = subprocess.run(
        [sys.executable, "-c", ON_A_CLUSTER, *map(str, command)],
        env=os.environ | ENVIRONMENT | RAY, capture_output=True, text=True, timeout=PATIENCE,
    )  # fmt: skip
    assert done.returncode == 0 and "nodes: 2" in done.stdout, (done.stdout + done.stderr)[-4000:]
    reference = Transformers(CHECKPOINTS["llava"])
    expected = []
    for place, question in heldout.questions:
        ask = Ask((Image.fromarray(heldout.images[place]),), question.text)
        expected.append(
            (str(tmp_path / f"{place}.png"), question.text, reference.answer(ask).strip(), reference.prompt_tokens(ask))
        )
    found = [json.loads(line) for file in answers.glob("*.json") for line in file.read_text().splitlines()]
    names = ("image", "question", "answer", "prompt_tokens")
    assert sorted(tuple(row[name] for name in names) for row in found if not row["error"]) == sorted(expected)
    errors = {(row["image"], row["question"]): row["error"] for row in found if row["error"]}
    too_long, no_file = (errors.pop((row["image"], row["question"])) for row in unanswerable)
    assert "maximum" in too_long and "none.png" in no_file and not errors
