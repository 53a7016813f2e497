"""What a pruned model has to compute, from the stock classes alone, in two ways.

*Masked*: the stock model runs on the full sequence, every step from scratch and without a cache, with the dropped
columns masked out of attention and every column at the position it has in the full sequence (or, for compact positions,
renumbered). *Short*: it runs on the columns that are kept and no others, each row by itself and without padding, at the
same positions. The two agree where nothing but attention reads another column.
"""

import copy
import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import reference
import torch
import transformers

SUPPRESSED = -1e9
TRANSFORMERS = tuple(int(part) for part in transformers.__version__.split(".")[:2])


COLUMN_ARGUMENTS = ("token_type_ids", "mm_token_type_ids")
MODALITIES = {"image": "pixel_values", "video": "pixel_values_videos"}


@dataclass
class Encoding:
    """What the stock class's encoder makes of a batch, of one modality.

    Attributes:
        spots: `(batch, S)` bool, its placeholders.
        output: what the encoder returned.
        sizes: the visual tokens of each image.
        standing: `(N, d)`, what stands in the place of all visual tokens; None where they do themselves.
    """

    modality: str
    spots: torch.Tensor
    output: object
    sizes: list[int]
    standing: torch.Tensor | None = None

    @property
    def _features(self):
        """The visual tokens, and per layer those of deepstack, in whatever the encoder put them."""
        output = self.output
        if hasattr(output, "pooler_output"):
            return output.pooler_output, getattr(output, "deepstack_features", None)
        return output if isinstance(output, tuple) and not torch.is_tensor(output[0]) else (output, None)

    @property
    def tokens(self) -> torch.Tensor:
        """All visual tokens `(N, d)`, as the placeholders stand."""
        return flat(self._features[0])

    def part(self, kept: torch.Tensor):
        """The encoder's output with the tokens `kept`, `(N,)` bool, in the same types, as one image."""

        def cut(features):
            here = (flat(features) if self.standing is None else self.standing)[kept]
            if not torch.is_tensor(features):
                return [here]
            return here[None] if features.ndim == 3 else here

        features, layers = self._features
        layers = None if layers is None else [cut(layer) for layer in layers]
        if hasattr(self.output, "pooler_output"):
            output = copy.copy(self.output)
            output["pooler_output"] = cut(features)
            if layers is not None:
                output["deepstack_features"] = layers
            return output
        return cut(features) if layers is None else (cut(features), layers)


def type_of_new_tokens(model) -> int:
    """PaliGemma sees a prompt both ways, type 0, and what follows it one way, type 1."""
    return int(model.config.model_type == "paligemma")


@contextmanager
def answering(model, answers: dict[str, object]) -> Iterator[None]:
    """For a while, the model's encoder returns what it returned before: modality → output."""
    names = {f"get_{modality}_features": answer for modality, answer in answers.items()}
    try:
        for name, answer in names.items():
            setattr(model.model, name, lambda *_, answer=answer, **__: answer)
        yield
    finally:
        for name in names:
            del vars(model.model)[name]


def flat(features) -> torch.Tensor:
    return (features if torch.is_tensor(features) else torch.cat(list(features))).flatten(0, -2)


@dataclass
class Stock:
    """A stock model beside the ids its oracle must know: of placeholders, and of tokens that are no prompt text."""

    model: torch.nn.Module
    special_ids: list[int]

    @property
    def placeholder_ids(self) -> list[int]:
        config = self.model.config
        names = ("image_token_id", "image_token_index", "video_token_id")
        return sorted({getattr(config, n) for n in names if isinstance(getattr(config, n, None), int)})

    @property
    def suppressed_ids(self) -> list[int]:
        """What is never generated; a placeholder may have no logit of its own."""
        logits = self.model.config.get_text_config().vocab_size
        return sorted(i for i in {*self.special_ids, *self.placeholder_ids} if i < logits)

    @torch.no_grad()
    def encodings(self, inputs) -> list[Encoding]:
        """Images, then videos. An image has as many tokens as `inputs.visual_tokens` says, where it does: else it is an
        entry of what the encoder returns."""
        found = []
        for modality, pixels in MODALITIES.items():
            if inputs.get(pixels) is None:
                continue
            encode = getattr(self.model.model, f"get_{modality}_features")
            names = inspect.signature(encode).parameters
            given = {k: v for k, v in inputs.items() if k in names or (k == "image_sizes" and modality == "image")}
            output = encode(**given | ({} if TRANSFORMERS < (5,) else {"return_dict": True}))
            token_id = getattr(self.model.config, f"{modality}_token_id")
            if not (inputs["input_ids"] == token_id).any():  # GLM has one placeholder for both
                token_id = self.model.config.image_token_id
            encoding = Encoding(modality, inputs["input_ids"] == token_id, output, [])
            known = getattr(inputs, "visual_tokens", None)
            encoding.sizes = known[modality] if known else [len(entry) for entry in encoding._features[0]]
            found.append(encoding)
        return found

    def has_deepstack(self, inputs) -> bool:
        return any(encoding._features[1] is not None for encoding in self.encodings(inputs))

    def features(self, inputs) -> list[torch.Tensor]:
        """Per image, then per video, the stock visual tokens `(n, d)`."""
        return self._split(self.encodings(inputs))

    @staticmethod
    def _split(encodings: list[Encoding]) -> list[torch.Tensor]:
        return [image for encoding in encodings for image in encoding.tokens.split(encoding.sizes)]

    def images(self, inputs, encodings=None) -> list[tuple[int, torch.Tensor, torch.Tensor]]:
        """Per image, then per video: its row, its columns `(n,)`, and the prompt tokens `(m, d)` of that row, without
        the text between two tokens of one image."""
        ids = inputs["input_ids"]
        text = inputs.get("attention_mask", torch.ones_like(ids)).bool()
        text = text & ~torch.isin(ids, torch.tensor([*self.special_ids, *self.placeholder_ids]))
        embed = self.model.get_input_embeddings().weight.detach()
        places = [p for e in encodings or self.encodings(inputs) for p in e.spots.nonzero().split(e.sizes)]
        for mine in places:
            text[mine[0, 0], mine[0, 1] : mine[-1, 1]] = False
        return [(int(mine[0, 0]), mine[:, 1], embed[ids[mine[0, 0]][text[mine[0, 0]]]]) for mine in places]

    def columns(self, inputs, kept: list[list[int]], images=None) -> torch.Tensor:
        """Columns `(batch, S)` that are seen when these indices of each of the `images` are kept."""
        ids, images = inputs["input_ids"], images or self.images(inputs)
        seen = inputs.get("attention_mask", torch.ones_like(ids)).bool()
        seen = seen & ~torch.isin(ids, torch.tensor(self.placeholder_ids))
        for (row, columns, _), indices in zip(images, kept, strict=True):
            seen[row, columns[indices]] = True
        return seen

    def keep(self, inputs, keep: int, core: int, pooling: str = "mean") -> tuple[torch.Tensor, list[list[int]]]:
        """Columns `(batch, S)` kept at `keep` and `core` percent by the float64 reference, and indices per image."""
        kept, encodings = [], self.encodings(inputs)
        images = self.images(inputs, encodings)
        for visual, (_, _, prompt) in zip(self._split(encodings), images, strict=True):
            budget = max(1, reference.round_half_up(len(visual), keep))
            kept.append(reference.select(visual, prompt, budget, reference.round_half_up(budget, core), pooling))
        return self.columns(inputs, kept, images), kept

    def positions(self, inputs, ids, mask):
        """Positions of the full sequence `ids`, which may be longer than the prompt."""
        if hasattr(self.model.model, "get_rope_index"):
            rope_index = self.model.model.get_rope_index
            given = {k: inputs.get(k) for k in ("image_grid_thw", "video_grid_thw", "second_per_grid_ts")}
            if inputs.get("mm_token_type_ids") is not None:
                types = inputs["mm_token_type_ids"]
                given["mm_token_type_ids"] = torch.nn.functional.pad(types, (0, ids.shape[1] - types.shape[1]))
            named = inspect.signature(rope_index).parameters
            return rope_index(
                input_ids=ids, attention_mask=mask, **{name: v for name, v in given.items() if name in named}
            )[0]
        return (mask.cumsum(1) - 1).clamp_min(0)

    def column_arguments(self, inputs, ids) -> dict[str, torch.Tensor]:
        """Arguments with an entry for each column of `ids`, which may be longer than the prompt; where a class has
        several rows of positions, they only serve to count those."""
        if hasattr(self.model.model, "get_rope_index"):
            return {}
        found = {name: inputs[name] for name in COLUMN_ARGUMENTS if inputs.get(name) is not None}
        return {
            name: torch.nn.functional.pad(v, (0, ids.shape[1] - v.shape[1]), value=type_of_new_tokens(self.model))
            for name, v in found.items()
        }

    @torch.no_grad()
    def logits(self, inputs, ids, mask, keep, compact=False) -> torch.Tensor:
        """Logits `(batch, S, vocabulary)` of the stock model with only `keep` `(batch, S)` visible."""
        keep = keep & mask.bool()
        positions = (keep.long().cumsum(1) - 1).clamp_min(0) if compact else self.positions(inputs, ids, mask)
        visual = {k: v for k, v in inputs.items() if k not in ("input_ids", "attention_mask", *COLUMN_ARGUMENTS)}
        visual |= self.column_arguments(inputs, ids)
        return self.model(input_ids=ids, attention_mask=keep.long(), position_ids=positions, **visual).logits

    @torch.no_grad()
    def generate(self, inputs, keep, steps: int, compact=False) -> tuple[torch.Tensor, torch.Tensor]:
        """Greedy tokens `(batch, steps)`, placeholders and special ids suppressed, and the logits they came from."""
        ids = inputs["input_ids"]
        mask = inputs.get("attention_mask", torch.ones_like(ids))
        scores = []
        with answering(self.model, {encoding.modality: encoding.output for encoding in self.encodings(inputs)}):
            for _ in range(steps):
                logits = self.logits(inputs, ids, mask, keep, compact)[:, -1].float()
                logits[:, self.suppressed_ids] = SUPPRESSED
                scores.append(logits)
                token = logits.argmax(-1, keepdim=True)
                one = torch.ones_like(token)
                ids, mask = torch.cat([ids, token], 1), torch.cat([mask, one], 1)
                keep = torch.cat([keep, one.bool()], 1)
        return ids[:, inputs["input_ids"].shape[1] :], torch.stack(scores, 1)

    @torch.no_grad()
    def generate_short(self, inputs, keep, steps: int, compact=False, standing=None):
        """As `generate`, in the short way; `standing` `(N, d)` stands in the place of the images' visual tokens."""
        tokens, scores = [], []
        for row in self.short_rows(inputs, keep, compact, standing):
            for _ in range(steps):
                logits = row.logits()[:, -1].float()
                logits[:, self.suppressed_ids] = SUPPRESSED
                scores.append(logits)
                row.append(logits.argmax(-1, keepdim=True))
            tokens.append(row.ids[:, -steps:])
        return torch.cat(tokens), torch.stack(scores).view(len(tokens), steps, -1)

    def short_rows(self, inputs, keep, compact=False, standing=None) -> "Iterator[ShortRow]":
        """The rows of a batch, each by itself, with the columns `keep` `(batch, S)` and no others."""
        ids = inputs["input_ids"]
        mask = inputs.get("attention_mask", torch.ones_like(ids))
        positions, encodings = self.positions(inputs, ids, mask), self.encodings(inputs)
        encodings = [replace(encoding, standing=standing) for encoding in encodings]
        types = self.column_arguments(inputs, ids)
        for row in range(len(ids)):
            seen = (keep & mask.bool())[row]
            here, full = ids[row, seen][None], positions[..., row, :]
            visual, answers = {}, {}
            for encoding in encodings:
                mine = torch.zeros_like(encoding.spots)
                mine[row] = encoding.spots[row] & seen
                if mine.any():
                    answers[encoding.modality] = encoding.part(mine[encoding.spots])
                    of_videos = encoding.modality == "video"
                    own = (
                        k for k in inputs if k.startswith(("pixel", "image", "video")) and ("video" in k) == of_videos
                    )
                    visual |= {name: inputs[name] for name in own}
            visual |= {name: v[row, seen][None] for name, v in types.items()}
            yield ShortRow(
                self.model, here, torch.arange(here.shape[1])[None] if compact else full[..., seen].unsqueeze(-2),
                here.shape[1] if compact else int(full[..., mask[row].bool()].max()) + 1, visual, answers,
            )  # fmt: skip


@dataclass
class ShortRow:
    """A row without its dropped tokens.

    Attributes:
        ids: `(1, P)`.
        positions: `(1, P)`, or `(3, 1, P)`.
        next_position: that of the token that follows.
        inputs: the other arguments of a call.
        answers: modality → what the encoder returns of its pixels.
    """

    model: torch.nn.Module
    ids: torch.Tensor
    positions: torch.Tensor
    next_position: int
    inputs: dict
    answers: dict[str, object]

    def append(self, token: torch.Tensor) -> None:
        self.ids = torch.cat([self.ids, token], 1)
        self.positions = torch.nn.functional.pad(self.positions, (0, 1), value=self.next_position)
        self.next_position += 1
        for name in set(COLUMN_ARGUMENTS) & set(self.inputs):
            self.inputs[name] = torch.nn.functional.pad(self.inputs[name], (0, 1), value=type_of_new_tokens(self.model))

    def logits(self) -> torch.Tensor:
        """`(1, P, vocabulary)`."""
        with answering(self.model, self.answers):
            return self.model(
                input_ids=self.ids, attention_mask=torch.ones_like(self.ids), position_ids=self.positions,
                **self.inputs, use_cache=False,
            ).logits  # fmt: skip


@torch.no_grad()
def beam_search(stock, inputs, keep, beams: int, steps: int) -> tuple[torch.Tensor, torch.Tensor]:
    """What a plain beam search over the short oracle's logits finds for one prompt, best first, and the sums of their
    log scores."""
    (row,) = stock.short_rows(inputs, keep)
    rows, scores = [row], torch.zeros(1)
    for _ in range(steps):
        likely = torch.cat([row.logits()[:, -1] for row in rows]).float().log_softmax(-1)
        likely[:, stock.suppressed_ids] = -torch.inf
        scores, best = (scores[:, None] + likely).flatten().topk(beams)
        longer = []
        for place in best.tolist():
            before, token = rows[place // likely.shape[1]], place % likely.shape[1]
            longer.append(replace(before, inputs=dict(before.inputs)))
            longer[-1].append(torch.tensor([[token]]))
        rows = longer
    return torch.cat([row.ids[:, -steps:] for row in rows]), scores
