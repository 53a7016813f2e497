"""The example with Ray Data, on a cluster of two nodes on loopback."""

import json
import os
import shutil
import subprocess
import sys
from itertools import cycle
from pathlib import Path

from conftest import ENVIRONMENT
from PIL import Image
from servers import CHECKPOINTS, Ask, Transformers

from hf_zspa import tune
from hf_zspa.loading import load_zspa
from hf_zspa.scenes.heldout import collect
from hf_zspa.tuning.apply import apply
from hf_zspa.tuning.candidates import setting

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


def tuned(folder: Path) -> Path:
    """The embedded LLaVA as it is tuned on a few questions."""
    shutil.copytree(CHECKPOINTS["llava"], folder)
    heldout = collect(per_kind=8, first_seed=1000)
    asked = {place: question.text for place, question in heldout.questions}  # one about each picture
    pairs = [(Image.fromarray(heldout.images[place]), text) for place, text in asked.items()][:8]
    model, processor = load_zspa(str(folder))
    apply(folder, tune(model, pairs, processor, agreement=0.2, keep_ratios=[0.15], settings=[setting("mmtok")]))
    return folder


SETTINGS = [{"zspa_keep_ratio": 0.3}, {"zspa_method": "zspa", "zspa_core_ratio": 1.0}, {}]


def test_a_data_set_is_answered_as_by_transformers(tmp_path):
    """By a checkpoint that says what `hf-zspa tune --apply` wrote, but for rows that have settings of their own."""
    heldout = collect(per_kind=4)
    for place, image in enumerate(heldout.images):
        Image.fromarray(image).save(tmp_path / f"{place}.png")
    rows = [{"image": str(tmp_path / f"{i}.png"), "question": question.text} for i, question in heldout.questions]
    for row, settings in zip(rows, cycle(SETTINGS)):
        row |= {"settings": settings} if settings else {}
    checkpoint = tuned(tmp_path / "checkpoint")
    unanswerable = [rows[2] | {"question": "long " * 2000}, {"image": str(tmp_path / "none.png"), "question": "What?"}]
    rows[1:1] = unanswerable
    questions = tmp_path / "questions.jsonl"
    questions.write_text("".join(json.dumps(row) + "\n" for row in rows))
    answers = tmp_path / "answers"
    command = [EXAMPLE, checkpoint, questions, answers, "--engines", "2", "--gpus", "0"]
    command += ["--batch-size", "6", "--max-tokens", "8", "--options", json.dumps(OPTIONS)]
    done = subprocess.run(
        [sys.executable, "-c", ON_A_CLUSTER, *map(str, command)],
        env=os.environ | ENVIRONMENT | RAY, capture_output=True, text=True, timeout=PATIENCE,
    )  # fmt: skip
    assert done.returncode == 0 and "nodes: 2" in done.stdout, (done.stdout + done.stderr)[-4000:]
    reference = Transformers(checkpoint)
    expected = []
    for (place, question), settings in zip(heldout.questions, cycle(SETTINGS)):
        ask = Ask((Image.fromarray(heldout.images[place]),), question.text, settings)
        expected.append(
            (str(tmp_path / f"{place}.png"), question.text, reference.answer(ask).strip(), reference.prompt_tokens(ask))
        )
    found = [json.loads(line) for file in answers.glob("*.json") for line in file.read_text().splitlines()]
    names = ("image", "question", "answer", "prompt_tokens")
    assert sorted(tuple(row[name] for name in names) for row in found if not row["error"]) == sorted(expected)
    errors = {(row["image"], row["question"]): row["error"] for row in found if row["error"]}
    assert len({prompt_tokens for *_, prompt_tokens in expected}) > 1
    too_long, no_file = (errors.pop((row["image"], row["question"])) for row in unanswerable)
    assert "maximum" in too_long and "none.png" in no_file and not errors
