"""Answers a question about each image of a data set: vLLM's offline engine on Ray Data, on one machine or many.

    python docs/examples/answer_dataset.py CHECKPOINT questions.jsonl answers --engines 4

Each line of `questions.jsonl` is `{"image": path, "question": text}`, with paths that every machine can read; the
folder `answers` gets JSON lines with `answer` and `prompt_tokens` added, or an `error` where the image cannot be read
or vLLM refuses the prompt. Questions are answered with the settings of the checkpoint, those of `hf-zspa tune --apply`
too; a line can have others, as `"settings": {"zspa_keep_ratio": 0.25, "zspa_method": "weighted"}`. Inside a running Ray
cluster (RAY_ADDRESS, or `ray job submit`) the engines spread over its machines; without one Ray starts on this machine
alone. Needs `pip install '.[vllm]' 'ray[data]'` on each of them, nothing else. On a CPU add `--gpus 0` and
`--options '{"gpu_memory_utilization": 0.5, "block_size": 32}'`, the share of the memory that each engine may take.
"""

import argparse
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import ray
from PIL import Image


class Answerer:
    """An engine in a process of its own, which Ray hands one batch of rows after the other."""

    def __init__(self, checkpoint: str, max_tokens: int, options: dict[str, Any]):
        from vllm import LLM, SamplingParams
        from vllm.exceptions import VLLMClientError

        self.sampling = SamplingParams(temperature=0, max_tokens=max_tokens)
        self.engine = LLM(checkpoint, **options)
        self.refusals = (ValueError, VLLMClientError)  # of one request, which are no fault of the engine

    def __call__(self, rows: dict[str, Any]) -> dict[str, Any]:
        asked = [conversation(*pair) for pair in zip(rows["image"], rows["question"])]
        found: list[dict[str, Any]] = [{}] * len(asked)
        for settings, places in places_by_settings(rows.get("settings", [None] * len(asked))).items():
            answers = self.answers([asked[place] for place in places], json.loads(settings))
            for place, answer in zip(places, answers):
                found[place] = answer
        return rows | {name: [one.get(name) for one in found] for name in ("answer", "prompt_tokens", "error")}

    def answers(self, asked: list[Any], settings: dict[str, Any]) -> list[dict[str, Any]]:
        """All at once; where one cannot be answered, each by itself."""
        try:
            failed = next((one for one in asked if isinstance(one, ValueError)), None)
            if failed:
                raise failed
            found = self.engine.chat(asked, self.sampling, use_tqdm=False, mm_processor_kwargs=settings)
        except self.refusals as error:
            if len(asked) == 1:
                return [{"error": str(error)}]
            return [answer for one in asked for answer in self.answers([one], settings)]
        return [{"answer": o.outputs[0].text.strip(), "prompt_tokens": len(o.prompt_token_ids)} for o in found]


def places_by_settings(settings: Iterable[dict[str, Any] | None]) -> dict[str, list[int]]:
    """The places of rows by what they set, as JSON: what others set Ray fills in, with None or not a number."""
    found: dict[str, list[int]] = {}
    for place, given in enumerate(settings):
        entries = given.items() if isinstance(given, dict) else ()
        own = {name: value for name, value in entries if value is not None and value == value}
        found.setdefault(json.dumps(own, sort_keys=True), []).append(place)
    return found


def conversation(path: str, question: str) -> list[dict[str, Any]] | ValueError:
    """The messages, or why the image cannot be read."""
    try:
        image = Image.open(path).convert("RGB")
    except Exception as error:  # a reader of Pillow raises whatever it meets in a damaged file
        return ValueError(f"{path} is not an image that can be read: {error}")
    content = [{"type": "image_pil", "image_pil": image}, {"type": "text", "text": question}]
    return [{"role": "user", "content": content}]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", help="folder or name on the Hub")
    parser.add_argument("questions")
    parser.add_argument("answers", help="a new or empty folder")
    parser.add_argument("--engines", type=int, default=1, help="at a time")
    parser.add_argument("--gpus", type=float, default=1, help="of each engine; 0 on a CPU")
    parser.add_argument("--batch-size", type=int, default=64, help="rows that an engine gets together")
    parser.add_argument("--max-tokens", type=int, default=32, help="of an answer")
    parser.add_argument("--options", type=json.loads, default={}, help="arguments of vLLM's LLM, as JSON")
    given = parser.parse_args()
    answers = Path(given.answers)
    if answers.exists() and not (answers.is_dir() and not any(answers.iterdir())):
        parser.error(f"{answers} exists and is not an empty folder: choose a new one")
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
