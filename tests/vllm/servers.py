"""A real vLLM server on loopback, asked through the real `openai` client, and what transformers answers."""

import base64
import contextlib
import io
import os
import signal
from dataclasses import dataclass, field
from pathlib import Path

import openai
import torch
import transformers
import worker
from conftest import ENVIRONMENT, FORK_SERVER, VERSION
from PIL import Image
from server import ENVIRONMENT as SERVING
from server import free_port, wait_until_ready

from hf_zspa.checkpoints.resolve import checkpoint_folder

CHECKPOINTS = {
    family: checkpoint_folder(name) for family, name in {"llava": "embedded", "qwen": "embedded-qwen"}.items()
}
FLAGS = (
    "--dtype", "float32", "--max-num-seqs", "16", "--block-size", "32", "--served-model-name", "zspa",
    "--limit-mm-per-prompt", '{"image": 2, "video": 0}', "--enforce-eager",
)  # fmt: skip
PATIENCE = 300  # seconds until a server has to answer


@dataclass(frozen=True)
class Ask:
    """A question about images, with ratios of its own if it has any."""

    images: tuple[Image.Image, ...]
    question: str
    ratios: dict = field(default_factory=dict)

    @property
    def messages(self) -> list:
        """The request as the `openai` client sends it."""
        parts = [{"type": "image_url", "image_url": {"url": data_url(image)}} for image in self.images]
        return [{"role": "user", "content": [*parts, {"type": "text", "text": self.question}]}]


def data_url(image: Image.Image) -> str:
    file = io.BytesIO()
    image.save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


class Transformers:
    """A zspa checkpoint in transformers, which answers one question at a time."""

    def __init__(self, checkpoint: Path):
        load = transformers.AutoModelForImageTextToText.from_pretrained
        self.model = load(checkpoint, trust_remote_code=True, dtype=torch.float32).eval()
        self.processor = transformers.AutoProcessor.from_pretrained(checkpoint)

    def inputs(self, ask: Ask):
        content = [{"type": "image"} for _ in ask.images] + [{"type": "text", "text": ask.question}]
        text = self.processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
        return self.processor(
            text=[text], images=list(ask.images) or None, add_special_tokens=False, return_tensors="pt"
        )

    def answer(self, ask: Ask, steps: int = 8) -> str:
        inputs = self.inputs(ask)
        out = self.model.generate(**inputs, **ask.ratios, do_sample=False, max_new_tokens=steps)
        return self.processor.decode(out[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)

    def prompt_tokens(self, ask: Ask) -> int:
        inputs = self.inputs(ask)
        placeholders = int((inputs["input_ids"] == self.model.config.image_token_id).sum())
        kept = self.model.select_visual_tokens(**inputs, **ask.ratios) if ask.images else []
        return inputs["input_ids"].shape[1] - placeholders + sum(map(len, kept))


# From 0.33 on vLLM gives each replica on a CPU a NUMA node of its own, and starts none without.
NODES = len([*Path("/sys/devices/system/node").glob("node[0-9]*")])
REPLICAS = ("--data-parallel-size", "2") if NODES > 1 or VERSION.startswith("0.32.") else ()


class Server:
    """A server of a checkpoint, forked with its engines from a process that has imported vLLM."""

    def __init__(self, checkpoint: Path, log: Path, *flags: str):
        self.log, port = log, free_port()
        self.address = f"http://127.0.0.1:{port}"
        arguments = ["--model", str(checkpoint), "--host", "127.0.0.1", "--port", str(port), *FLAGS, *flags]
        self.process = FORK_SERVER.Process(target=worker.listen, args=(arguments, SERVING | ENVIRONMENT, str(log)))
        self.process.start()
        self.client = openai.OpenAI(base_url=f"{self.address}/v1", api_key="none", timeout=PATIENCE, max_retries=0)
        try:
            wait_until_ready(self.process.is_alive, self.address, log)
        except RuntimeError:
            self.stop()
            raise

    def ask(self, ask: Ask, steps: int = 8, extra: dict | None = None, **options):
        body = (extra or {}) | ({"mm_processor_kwargs": ask.ratios} if ask.ratios else {})
        return self.client.chat.completions.create(
            model="zspa", messages=ask.messages, temperature=0, max_tokens=steps, extra_body=body, **options
        )

    def stop(self) -> None:
        for order in (signal.SIGTERM, signal.SIGKILL):  # to the processes it started, too: they are its group
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, order)
            self.process.join(timeout=20)
