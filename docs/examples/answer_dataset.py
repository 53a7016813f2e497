"""Answers a question about each image of a data set: vLLM's offline engine on Ray Data, on one machine or many.

    python docs/examples/answer_dataset.py CHECKPOINT questions.jsonl answers --engines 4

Each line of `questions.jsonl` is `{"image": path, "question": text}`, with paths that every machine can read; the
folder `answers` gets JSON lines with `answer` and `prompt_tokens` added. Inside a running Ray cluster (RAY_ADDRESS, or
`ray job submit`) the engines spread over its machines; without one Ray starts on this machine alone. Needs
`pip install '.[vllm]' 'ray[data]'` on each of them, nothing else: the ratios are in the checkpoint.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import ray
from PIL import Image


class Answerer:
    """An engine in a process of its own, which Ray hands one batch of rows after the other."""

    def __init__(self, checkpoint: str, max_tokens: int, options: dict[str, Any]):
        from vllm import LLM, SamplingParams

        self.sampling = SamplingParams(temperature=0, max_tokens=max_tokens)
        self.engine = LLM(checkpoint, **options)

    def __call__(self, rows: dict[str, Any]) -> dict[str, Any]:
        asked = [conversation(image, question) for image, question in zip(rows["image"], rows["question"])]
        found = self.engine.chat(asked, self.sampling, use_tqdm=False)
        answers = [output.outputs[0].text.strip() for output in found]
        return rows | {"answer": answers, "prompt_tokens": [len(output.prompt_token_ids) for output in found]}


def conversation(path: str, question: str) -> list[dict[str, Any]]:
    image = {"type": "image_pil", "image_pil": Image.open(path).convert("RGB")}
    return [{"role": "user", "content": [image, {"type": "text", "text": question}]}]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", help="folder or name on the Hub")
    parser.add_argument("questions")
    parser.add_argument("answers", help="a new folder")
    parser.add_argument("--engines", type=int, default=1, help="at a time")
    parser.add_argument("--gpus", type=float, default=1, help="of each engine; 0 on a CPU")
    parser.add_argument("--batch-size", type=int, default=64, help="rows that an engine gets together")
    parser.add_argument("--max-tokens", type=int, default=32, help="of an answer")
    parser.add_argument("--options", type=json.loads, default={}, help="arguments of vLLM's LLM, as JSON")
    given = parser.parse_args()
    if Path(given.answers).exists():
        parser.error(f"{given.answers} exists: choose a new folder")
    (
        ray.data.read_json(given.questions, lines=True)
        .repartition(target_num_rows_per_block=given.batch_size)
        .map_batches(
            Answerer,
            fn_constructor_args=(given.checkpoint, given.max_tokens, given.options),
            compute=ray.data.ActorPoolStrategy(size=given.engines),
            num_gpus=given.gpus,
            batch_size=given.batch_size,
        )
        .write_json(given.answers)
    )


if __name__ == "__main__":
    main()
