"""What a pruned model has to compute, from the stock classes alone, in two ways.

*Masked*: the stock model runs on the full sequence, every step from scratch and without a cache, with the dropped
columns masked out of attention and every column at the position it has in the full sequence (or, for compact positions,
renumbered). *Short*: it runs on the columns that are kept and no others, each row by itself and without padding, at the
same positions. The two agree where nothing but attention reads another column.
"""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import reference
import torch

SUPPRESSED = -1e9


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

    @torch.no_grad()
    def features(self, inputs) -> list[torch.Tensor]:
        """Per image, then per video, the stock visual tokens `(n, d)`."""
        found = []
        for name, pixels in (("image", "pixel_values"), ("video", "pixel_values_videos")):
            if inputs.get(pixels) is not None:
                encode = getattr(self.model, f"get_{name}_features")
                names = inspect.signature(encode).parameters
                output = encode(**{k: v for k, v in inputs.items() if k in names and k != "input_ids"})
                found += list(getattr(output, "pooler_output", output))
        return found

    def images(self, inputs) -> list[tuple[int, torch.Tensor, torch.Tensor]]:
        """Per image, then per video: its row, its columns `(n,)`, and the prompt tokens `(m, d)` of that row."""
        ids = inputs["input_ids"]
        text = inputs.get("attention_mask", torch.ones_like(ids)).bool()
        text = text & ~torch.isin(ids, torch.tensor([*self.special_ids, *self.placeholder_ids]))
        embed = self.model.get_input_embeddings().weight.detach()
        spots = {i: (ids == i).nonzero() for i in self.placeholder_ids}
        config, found = self.model.config, []
        grids = [len(inputs[k]) for k in ("image_grid_thw", "video_grid_thw") if inputs.get(k) is not None]
        videos = grids[-1] if inputs.get("video_grid_thw") is not None else 0
        features = self.features(inputs)
        for i, visual in enumerate(features):
            is_video = i >= len(features) - videos
            name = "video_token_id" if is_video else "image_token_id"
            token_id = getattr(config, name)
            mine, spots[token_id] = spots[token_id][: len(visual)], spots[token_id][len(visual) :]
            row = int(mine[0, 0])
            found.append((row, mine[:, 1], embed[ids[row][text[row]]]))
        return found

    def columns(self, inputs, kept: list[list[int]]) -> torch.Tensor:
        """Columns `(batch, S)` that are seen when these indices of each image are kept."""
        ids = inputs["input_ids"]
        seen = inputs.get("attention_mask", torch.ones_like(ids)).bool()
        seen = seen & ~torch.isin(ids, torch.tensor(self.placeholder_ids))
        for (row, columns, _), indices in zip(self.images(inputs), kept, strict=True):
            seen[row, columns[indices]] = True
        return seen

    def keep(self, inputs, keep: int, core: int, pooling: str = "mean") -> tuple[torch.Tensor, list[list[int]]]:
        """Columns `(batch, S)` kept at `keep` and `core` percent by the float64 reference, and indices per image."""
        kept = []
        for visual, (_, _, prompt) in zip(self.features(inputs), self.images(inputs), strict=True):
            budget = max(1, reference.round_half_up(len(visual), keep))
            kept.append(reference.select(visual, prompt, budget, reference.round_half_up(budget, core), pooling))
        return self.columns(inputs, kept), kept

    def positions(self, inputs, ids, mask):
        """Positions of the full sequence `ids`, which may be longer than the prompt."""
        if hasattr(self.model.model, "get_rope_index"):
            rope_index = self.model.model.get_rope_index
            given = {k: inputs.get(k) for k in ("image_grid_thw", "video_grid_thw", "second_per_grid_ts")}
            if "mm_token_type_ids" in inspect.signature(rope_index).parameters:
                types = inputs["mm_token_type_ids"]
                given["mm_token_type_ids"] = torch.nn.functional.pad(types, (0, ids.shape[1] - types.shape[1]))
            return rope_index(input_ids=ids, attention_mask=mask, **given)[0]
        return (mask.cumsum(1) - 1).clamp_min(0)

    @torch.no_grad()
    def logits(self, inputs, ids, mask, keep, compact=False) -> torch.Tensor:
        """Logits `(batch, S, vocabulary)` of the stock model with only `keep` `(batch, S)` visible."""
        keep = keep & mask.bool()
        positions = (keep.long().cumsum(1) - 1).clamp_min(0) if compact else self.positions(inputs, ids, mask)
        visual = {k: v for k, v in inputs.items() if k not in ("input_ids", "attention_mask", "mm_token_type_ids")}
        return self.model(input_ids=ids, attention_mask=keep.long(), position_ids=positions, **visual).logits

    @torch.no_grad()
    def generate(self, inputs, keep, steps: int, compact=False) -> tuple[torch.Tensor, torch.Tensor]:
        """Greedy tokens `(batch, steps)`, placeholders and special ids suppressed, and the logits they came from."""
        ids = inputs["input_ids"]
        mask = inputs.get("attention_mask", torch.ones_like(ids))
        scores = []
        for _ in range(steps):
            logits = self.logits(inputs, ids, mask, keep, compact)[:, -1].float()
            logits[:, sorted({*self.special_ids, *self.placeholder_ids})] = SUPPRESSED
            scores.append(logits)
            token = logits.argmax(-1, keepdim=True)
            one = torch.ones_like(token)
            ids, mask, keep = torch.cat([ids, token], 1), torch.cat([mask, one], 1), torch.cat([keep, one.bool()], 1)
        return ids[:, inputs["input_ids"].shape[1] :], torch.stack(scores, 1)

    @torch.no_grad()
    def generate_short(self, inputs, keep, steps: int, compact=False) -> tuple[torch.Tensor, torch.Tensor]:
        """As `generate`, in the short way."""
        ids = inputs["input_ids"]
        mask = inputs.get("attention_mask", torch.ones_like(ids))
        positions = self.positions(inputs, ids, mask)
        features, images = self.features(inputs), self.images(inputs)
        tokens, scores = [], []
        for row in range(len(ids)):
            seen = (keep & mask.bool())[row]
            kept = [f[seen[columns]] for f, (at, columns, _) in zip(features, images) if at == row]
            here, full = ids[row, seen][None], positions[..., row, :]
            places = torch.arange(here.shape[1])[None] if compact else full[..., seen].unsqueeze(-2)
            later = here.shape[1] if compact else int(full[..., mask[row].bool()].max()) + 1
            with self.encoding(inputs, kept, here) as visual:
                for step in range(steps):
                    now = {"input_ids": here, "attention_mask": torch.ones_like(here), "position_ids": places}
                    logits = self.model(**now, **visual, use_cache=False).logits[:, -1].float()
                    logits[:, sorted({*self.special_ids, *self.placeholder_ids})] = SUPPRESSED
                    scores.append(logits)
                    here = torch.cat([here, logits.argmax(-1, keepdim=True)], 1)
                    places = torch.nn.functional.pad(places, (0, 1), value=later + step)
            tokens.append(here[:, -steps:])
        return torch.cat(tokens), torch.stack(scores).view(len(ids), steps, -1)

    @contextmanager
    def encoding(self, inputs, kept: list[torch.Tensor], ids) -> Iterator[dict]:
        """The visual arguments of a call about `ids` `(1, P)`; the encoder makes `kept` of its images, then videos."""
        base, visual, waiting = self.model.model, {}, list(kept)
        for name, pixels in (("image", "pixel_values"), ("video", "pixel_values_videos")):
            count = int((ids == getattr(self.model.config, f"{name}_token_id", -1)).sum())
            if inputs.get(pixels) is None or not count:
                continue
            mine: list[torch.Tensor] = []
            while sum(map(len, mine)) < count:
                mine.append(waiting.pop(0))
            encode = getattr(base, f"get_{name}_features")
            named = inspect.signature(encode).parameters
            given = {k: v for k, v in inputs.items() if k in named and k != "input_ids"}
            whole = encode(**given)
            if hasattr(whole, "pooler_output"):
                whole["pooler_output"] = mine
            visual |= given
            answer = whole if hasattr(whole, "pooler_output") else mine
            setattr(base, encode.__name__, lambda *_, answer=answer, **__: answer)
        try:
            yield visual
        finally:
            for name in ("image", "video"):
                base.__dict__.pop(f"get_{name}_features", None)


def beam_search(stock, inputs, keep, beams: int, steps: int) -> tuple[torch.Tensor, torch.Tensor]:
    """What a plain beam search over the oracle's logits finds, best first, and the sums of their log scores."""
    ids, scores = inputs["input_ids"], torch.zeros(1)
    mask = inputs["attention_mask"]
    suppressed = sorted({*stock.special_ids, *stock.placeholder_ids})
    for step in range(steps):
        copies = len(ids)
        repeated = {k: (v.repeat(copies, *[1] * (v.ndim - 1)) if torch.is_tensor(v) else v) for k, v in inputs.items()}
        seen, real = (torch.nn.functional.pad(m.repeat(copies, 1).long(), (0, step), value=1) for m in (keep, mask))
        likely = stock.logits(repeated, ids, real, seen.bool())[:, -1].float().log_softmax(-1)
        likely[:, suppressed] = -torch.inf
        scores, best = (scores[:, None] + likely).flatten().topk(beams)
        rows, tokens = best // likely.shape[1], best % likely.shape[1]
        ids = torch.cat([ids[rows], tokens[:, None]], 1)
    return ids[:, inputs["input_ids"].shape[1] :], scores
