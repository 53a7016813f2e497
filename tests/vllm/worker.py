"""vLLM's offline engine in a process of its own: one line of JSON in, one out.

Started with a checkpoint and the engine's options; a request is `{"prompts": [{"prompt", "images", "video",
"mm_processor_kwargs"}], "max_tokens", "allowed", "fresh"}`, where fresh means that vLLM's prefix cache is emptied
first. `break` in the options is one of the ways to do it wrong that the tests have to notice.
"""

import json
import os
import sys
from pathlib import Path


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
    from hf_zspa.vllm import llava, qwen2_5_vl

    for module in (llava, qwen2_5_vl):
        right = module.without_places

        def wrong(embeddings, width, right=right):
            features, places = right(embeddings, width)
            return features, places * 0

        module.without_places = wrong


def count_encodings(model) -> None:
    tower = getattr(model, "vision_tower", None) or model.visual
    model.zspa_encodings = 0

    def one_more(*_) -> None:
        model.zspa_encodings += 1

    tower.register_forward_hook(one_more)


def encodings(model) -> int:
    return model.zspa_encodings


def main() -> None:
    path, options = sys.argv[1], json.loads(sys.argv[2])
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # the processes that vLLM starts write to it, too
    import numpy as np
    from PIL import Image
    from vllm import LLM, SamplingParams

    {"hash": break_hash, "places": break_places, None: lambda: None}[options.pop("break", None)]()
    in_process = options.pop("in_process", True)
    llm = LLM(path, **options)
    if in_process:
        llm.apply_model(count_encodings)
    print(json.dumps("ready"), file=answers, flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        if asked["fresh"]:
            llm.reset_prefix_cache()
        prompts = []
        for prompt in asked["prompts"]:
            data = {}
            if prompt.get("images"):
                data["image"] = [Image.open(image).convert("RGB") for image in prompt["images"]]
            if prompt.get("video"):
                frames = np.load(prompt["video"])
                metadata = prompt["metadata"] | {"video_backend": "none", "do_sample_frames": False}
                data["video"] = [(frames, metadata)]
            given = {"prompt": prompt["prompt"]} | ({"multi_modal_data": data} if data else {})
            if prompt.get("mm_processor_kwargs"):
                given["mm_processor_kwargs"] = prompt["mm_processor_kwargs"]
            prompts.append(given)
        sampling = SamplingParams(
            temperature=0, max_tokens=asked["max_tokens"], allowed_token_ids=asked["allowed"], ignore_eos=True,
            detokenize=False,
        )  # fmt: skip
        try:
            outputs = llm.generate(prompts, sampling, use_tqdm=False)
            answer = {
                "tokens": [list(output.outputs[0].token_ids) for output in outputs],
                "prompt_lengths": [len(output.prompt_token_ids) for output in outputs],
                "cached": [output.num_cached_tokens for output in outputs],
                "encodings": sum(llm.apply_model(encodings)) if in_process else None,
            }
        except ValueError as error:
            answer = {"error": str(error)}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    assert Path(sys.argv[1]).is_dir()
    main()
