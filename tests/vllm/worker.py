"""vLLM's offline engine in a process of its own: requests come through a pipe, answers go back.

The process is forked from one that has imported vLLM, which takes longer than everything else about a small engine.
`break` in the options is one of the ways to do it wrong that the tests have to notice.
"""

import gc
import logging
import os
import sys
from multiprocessing.connection import Connection

IMPORTS = (  # what an engine of any family imports at its start
    "vllm.entrypoints.llm", "vllm.v1.engine.core", "vllm.v1.executor.multiproc_executor", "vllm.v1.worker.cpu_worker",
    "vllm.v1.core.sched.scheduler", "vllm.model_executor.models.llava_next", "vllm.model_executor.models.qwen2_5_vl",
)  # fmt: skip

TOWERS = ("vision_tower", "visual", "model.vision_model", "vision_model", "vision_encoder")


def break_hash() -> None:
    """Lets vLLM's caches know an image without its question."""
    from dataclasses import replace

    from vllm.multimodal.processing import BaseMultiModalProcessor

    from hf_zspa.vllm import processing

    def hashes(self, inputs):
        alone = replace(inputs, hf_processor_mm_kwargs=processing._stock(inputs.hf_processor_mm_kwargs))
        return BaseMultiModalProcessor._get_mm_hashes(self, alone)

    processing.ZspaProcessorMixin._get_mm_hashes = hashes


def break_places() -> None:
    """Leaves every kept token at the position of its image's first."""
    from hf_zspa.vllm import positions

    right = positions.without_digits

    def wrong(embeddings, rows):
        features, places = right(embeddings, rows)
        return features, places * 0

    positions.without_digits = wrong


def count_encodings(model) -> None:
    parts = dict(model.named_modules())
    tower = next(parts[name] for name in TOWERS if name in parts)
    model.zspa_encodings = 0

    def one_more(*_) -> None:
        model.zspa_encodings += 1

    tower.register_forward_hook(one_more)


def encodings(model) -> int:
    return model.zspa_encodings


def registered_in_another_version(hook: bool) -> tuple[str, list[str]]:
    """Which module serves our LLaVA where vLLM has another version, and what is said about it; without the hook vLLM
    has no such module."""
    import vllm

    import hf_zspa.vllm as plugin
    from hf_zspa.vllm import touched

    said: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())
    logging.getLogger("vllm.hf_zspa").addHandler(handler)
    vllm.__version__ = "0.99.0"
    touched.known()["digests"]["v1/worker/cpu_model_runner.py:CPUModelRunner.load_model"] = {}
    if not hook:
        sys.modules["vllm.model_executor.models.config"] = None
    plugin.register()
    return vllm.ModelRegistry.models["ZspaLlavaForConditionalGeneration"].module_name, said


def refusal(path: str, broken: bool = False) -> str:
    """What is said where a checkpoint cannot be served, or where the module that serves it is not there."""
    from vllm import ModelRegistry
    from vllm.engine.arg_utils import EngineArgs

    import hf_zspa.vllm as plugin

    if broken:
        plugin.register()
        for architecture in plugin.ARCHITECTURES:
            ModelRegistry.register_model(architecture, f"hf_zspa.vllm.nowhere:{architecture}")
    try:
        EngineArgs(model=path).create_engine_config()
    except ValueError as error:
        return str(error)
    raise AssertionError("it can be served")


def begin(environment: dict, log: str) -> None:
    """What is done first in a process that has been forked."""
    for output in (1, 2):
        os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND), output)
    os.environ |= environment
    gc.freeze()  # vLLM collects garbage several times; what is imported is none
    from vllm import envs

    # vLLM forks its processes, too, but for a CPU it insists on new ones, each of which would import everything again.
    envs.environment_variables["VLLM_WORKER_MULTIPROC_METHOD"] = lambda: "fork"


def listen(arguments: list[str], environment: dict, log: str) -> None:
    """A server, with the processes it starts in a group of their own."""
    os.setsid()
    begin(environment, log)
    from vllm.entrypoints.launchers.api_server.entry import main

    sys.argv = ["vllm", *arguments]
    main()


def serve(requests: Connection, path: str, options: dict, environment: dict, log: str) -> None:
    """Answers until there is nobody to ask any more.

    A request is `{"prompts": [{"prompt", "images", "video", "mm_processor_kwargs"}], "max_tokens", "allowed",
    "fresh"}`, where fresh means that vLLM's prefix cache is emptied first.
    """
    begin(environment, log)
    from vllm import LLM

    sys.path[:0] = options.pop("path", [])  # as of packages that are installed beside it
    {"hash": break_hash, "places": break_places, None: lambda: None}[options.pop("break", None)]()
    in_process = environment.get("VLLM_ENABLE_V1_MULTIPROCESSING") == "0"
    llm = LLM(path, **options)
    if in_process:
        llm.apply_model(count_encodings)
    requests.send("ready")
    while True:
        try:
            asked = requests.recv()
        except EOFError:
            break
        requests.send(answer(llm, in_process=in_process, **asked))
    if in_process:
        os._exit(0)  # which takes an engine apart in no time
    llm.llm_engine.engine_core.shutdown()


def answer(llm, prompts: list[dict], max_tokens: int, allowed: list[int], fresh: bool, in_process: bool) -> dict:
    from vllm import SamplingParams
    from vllm.exceptions import VLLMValidationError

    if fresh:
        llm.reset_prefix_cache()
    sampling = SamplingParams(
        temperature=0, max_tokens=max_tokens, allowed_token_ids=allowed, ignore_eos=True, detokenize=False
    )
    try:
        outputs = llm.generate([given(**prompt) for prompt in prompts], sampling, use_tqdm=False)
    except (ValueError, VLLMValidationError) as error:
        return {"error": str(error)}
    return {
        "tokens": [list(output.outputs[0].token_ids) for output in outputs],
        "prompt_lengths": [len(output.prompt_token_ids) for output in outputs],
        "cached": [output.num_cached_tokens for output in outputs],
        "encodings": sum(llm.apply_model(encodings)) if in_process else None,
    }


def given(prompt: str, images=(), video=None, metadata=None, mm_processor_kwargs=None) -> dict:
    """A request as vLLM takes it, of `PIL` images and a video (an array of frames)."""
    data = {"image": list(images)} if images else {}
    if video is not None:
        data["video"] = [(video, metadata | {"video_backend": "none", "do_sample_frames": False})]
    made = {"prompt": prompt} | ({"multi_modal_data": data} if data else {})
    return made | ({"mm_processor_kwargs": mm_processor_kwargs} if mm_processor_kwargs else {})
