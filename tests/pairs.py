"""A stock model and a pruning model with the same weights, and inputs for both from their real processor."""

import importlib
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import oracle
import tiny
import torch
import transformers
from PIL import Image

import hf_zspa

KEEP, CORE = 30, 40  # percent
QUESTION, OTHER = "what colour is the star?", "how many cats are there, and where?"


def image(seed: int = 0, size: tuple[int, int] = (112, 84)):
    return tiny.random_image(*size, seed)


CASES = {
    "one image": [[image(), QUESTION]],
    "question first": [[QUESTION, image()]],
    "unequal images and questions": [[image(1), QUESTION], [image(2, (56, 140)), OTHER + " " + OTHER]],
    "text between images": [[image(3), "a", image(4, (84, 84)), QUESTION], [image(5, (140, 56)), OTHER]],
    "adjacent images": [[image(6), image(7, (56, 84)), QUESTION]],
    "a text-only row": [[image(8), QUESTION], [OTHER], [OTHER, image(9, (84, 56))]],
}


@dataclass
class Pair:
    """The models under comparison.

    Attributes:
        stock: the oracle around the stock model.
        model: the pruning model; its config says `KEEP` and `CORE` percent and the scope "text".
        processor: the checkpoint's own, padding on the left.
    """

    family: str
    stock: oracle.Stock
    model: torch.nn.Module
    processor: object

    def inputs(self, *rows: list, **options):
        """One prompt per row, each a list of text, `PIL` images and videos (arrays of frames) in any order."""
        texts, images, videos = [], [], []
        for row in rows:
            content = []
            for part in row:
                if isinstance(part, str):
                    content.append({"type": "text", "text": part})
                elif isinstance(part, np.ndarray):
                    content.append({"type": "video"})
                    videos.append(part)
                else:
                    content.append({"type": "image"})
                    images.append(part)
            texts.append(self.render(content))
        given: list = images
        if tiny.RECIPES[self.family].nested:
            given = [[part for part in row if isinstance(part, Image.Image)] for row in rows] if images else []
            if tiny.transformers_version() < (5, 23):  # which counts videos by row, too
                videos = [[part for part in row if isinstance(part, np.ndarray)] for row in rows] if videos else []
        visual = {"images": given or None} | ({"videos": videos} if videos else {})
        if tiny.RECIPES[self.family].needs_images and not images:  # as rows of a batch that has one
            full = self.inputs(*rows, [image()], **options)
            real = full["attention_mask"][:-1].bool().any(0)
            return {name: full[name][:-1, real] for name in ("input_ids", "attention_mask", "token_type_ids")}
        inputs = self.processor(text=texts, **visual, padding=True, return_tensors="pt", **options)
        inputs.pop("labels", None)  # of a prompt without an answer, all of which PaliGemma's masks
        if tiny.RECIPES[self.family].tiled:
            inputs.visual_tokens = {"image": [self._count_tokens(image) for image in images]}
        return inputs

    def _count_tokens(self, image) -> int:
        """The visual tokens of an image, in a prompt that has no other."""
        text = self.render([{"type": "image"}])
        ids = self.processor(text=[text], images=[image], return_tensors="pt")["input_ids"]
        return int(torch.isin(ids, torch.tensor(self.stock.placeholder_ids)).sum())

    def render(self, content: list[dict]) -> str:
        """The prompt with every part where it stands."""
        render = tiny.RECIPES[self.family].render
        if render is not None:
            return render(self.processor, content)
        return self.processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)

    @property
    def greedy(self) -> dict:
        """Arguments of a greedy generation in which a random model cannot emit placeholders or end."""
        return {"do_sample": False, "suppress_tokens": self.stock.suppressed_ids, "max_new_tokens": 6}

    def generate(self, inputs, **options) -> torch.Tensor:
        """New tokens `(batch, steps)` of the pruning model."""
        return self.model.generate(**inputs, **self.greedy | options)[:, inputs["input_ids"].shape[1] :]

    @contextmanager
    def fields(self, **values):
        """The pruning model with other `zspa_` fields in its config for a while."""
        before = {name: getattr(self.model.config, f"zspa_{name}") for name in values}
        try:
            for name, value in values.items():
                setattr(self.model.config, f"zspa_{name}", value)
            yield self
        finally:
            for name, value in before.items():
                setattr(self.model.config, f"zspa_{name}", value)


def pruning_class(family: str) -> type:
    module = importlib.import_module(f"hf_zspa.remote_code.modeling_zspa_{family}")
    return getattr(module, f"Zspa{tiny.STOCK[family]}")


def load(family: str, path) -> Pair:
    stock = getattr(transformers, tiny.STOCK[family]).from_pretrained(path).eval()
    processor = transformers.AutoProcessor.from_pretrained(path)
    processor.tokenizer.padding_side = "left"
    special = sorted(processor.tokenizer.all_special_ids)
    model = hf_zspa.from_pretrained(
        path,
        zspa_keep_ratio=KEEP / 100,
        zspa_core_ratio=CORE / 100,
        zspa_prompt_scope="text",
        zspa_special_token_ids=special,
    )
    return Pair(family, oracle.Stock(stock, special), model, processor)


def assert_equals_oracle(pair, inputs, *ways: dict, compact=False, **options):
    """Greedy tokens are the oracle's, in each of these ways to generate, which are further options."""
    keep, _ = pair.stock.keep(inputs, KEEP, CORE)
    expected, _ = pair.stock.generate(inputs, keep, steps=6, compact=compact)
    for way in ways or ({},):
        assert torch.equal(pair.generate(inputs, **options, **way), expected), f"generate with {options | way}"
