"""Asks an embedded checkpoint many questions at once, with all or some of the visual tokens.

A question counts as right when greedy decoding gives the answer and stops. That is the same as
every answer token being the most likely one when the answer so far is given, which takes one pass.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoModelForImageTextToText, AutoProcessor

from ...pruners.random_subset import naming
from ...remote_code.zspa_selection import VisualTokenPruner
from ..heldout import HeldOut
from ..scene import PATCH_SIZE
from .families import family_of

CHUNK = 128
SCOPES = ("query", "text")


class Exam:
    """A checkpoint, its held-out questions as the processor encodes them, and the visual tokens.

    Args:
        checkpoint: folder of an embedded checkpoint, unconverted.
        heldout: images and questions.

    Attributes:
        kinds: per question its kind.
        texts: per question its words.
        visual: per image its visual tokens `(n, d)`.
        prompts: per scope of the prompt ("query", "text"), per question the embeddings `(m, d)` a pruner is given.
    """

    @torch.no_grad()
    def __init__(self, checkpoint: Path, heldout: HeldOut):
        self.processor = AutoProcessor.from_pretrained(checkpoint)
        self.model = AutoModelForImageTextToText.from_pretrained(checkpoint).eval()
        self.family = family_of(self.model.config)
        self.embed = self.model.get_input_embeddings()
        self.image_of = [image for image, _ in heldout.questions]
        self.kinds = [question.kind for _, question in heldout.questions]
        self.grids = [(len(image) // PATCH_SIZE, image.shape[1] // PATCH_SIZE) for image in heldout.images]
        self.texts = [question.text for _, question in heldout.questions]
        self._encode(self.texts, [question.answer for _, question in heldout.questions])
        self.visual = self._visual(heldout.images)
        self._known: dict[tuple[int, int, bool, bytes], bool] = {}

    def _visual(self, images: Sequence[np.ndarray]) -> list[Tensor]:
        """Images of one size go through the vision tower together."""
        visual: list[Tensor] = [torch.empty(0)] * len(images)
        for grid in sorted(set(self.grids)):
            members = [i for i, other in enumerate(self.grids) if other == grid]
            for chunk in torch.tensor(members).split(64):
                pixels = torch.from_numpy(np.stack([images[i] for i in chunk]))
                for i, tokens in zip(chunk, self.family.visual_tokens(self.model, pixels)):
                    visual[i] = tokens
        return visual

    def _encode(self, texts: Sequence[str], answers: Sequence[str]) -> None:
        """Token ids before the image, after it, of the answers, and the prompt tokens of each scope."""
        tokenizer = self.processor.tokenizer
        encode = lambda text: tokenizer(text, add_special_tokens=False)["input_ids"]  # noqa: E731
        image = tokenizer.convert_tokens_to_ids(self.processor.image_token)
        special = set(tokenizer.all_special_ids) | set(
            self.family.vocabulary.encode_tokens(self.family.vocabulary.special)
        )
        self.after: list[list[int]] = []
        self.answers: list[list[int]] = []
        self.prompts: dict[str, list[Tensor]] = {scope: [] for scope in SCOPES}
        for text, answer in zip(texts, answers, strict=True):
            content = [{"type": "image"}, {"type": "text", "text": text}]
            turn = [{"role": "user", "content": content}]
            ids = encode(self.processor.apply_chat_template(turn, add_generation_prompt=True))
            place = ids.index(image)
            self.before = torch.tensor(ids[:place])
            self.after.append(ids[place + 1 :])
            self.answers.append([*encode(answer), self.model.generation_config.eos_token_id])
            self.prompts["query"].append(self.embed(torch.tensor(encode(text))))
            self.prompts["text"].append(self.embed(torch.tensor([i for i in ids if i not in special])))

    @torch.no_grad()
    def kept(self, pruner: VisualTokenPruner, scope: str = "query") -> list[Tensor]:
        """Per question the indices of the visual tokens a pruner keeps, `(budget,)`.

        The prompt is the embeddings of the question's words ("query") or of all words of the conversation ("text").
        """
        rows: list[Tensor] = []
        for chunk in torch.arange(len(self.kinds)).split(CHUNK):
            named = naming(pruner, [f"image of question {i}" for i in chunk.tolist()])
            rows += named([self.visual[self.image_of[i]] for i in chunk], [self.prompts[scope][i] for i in chunk])
        return rows

    @torch.no_grad()
    def right(self, kept: Sequence[Tensor] | None = None, compact: bool = False) -> Tensor:
        """Which questions are answered right, (questions,) bool; kept as `Exam.kept` gives it, default all tokens.

        `compact` renumbers what is left instead of keeping the positions of the full sequence (LLaVA only). A question
        that has been asked with the same tokens of its image before is not asked again.
        """
        if kept is None:
            kept = [torch.arange(len(self.visual[image])) for image in self.image_of]
        asked = [
            (i, self.image_of[i], compact, indices.to(torch.int16).numpy().tobytes()) for i, indices in enumerate(kept)
        ]
        new = [i for i, key in enumerate(asked) if key not in self._known]
        for start in range(0, len(new), CHUNK):
            chunk = torch.tensor(new[start : start + CHUNK])
            found = self._right(chunk, kept, compact).tolist()
            self._known |= {asked[i]: right for i, right in zip(chunk.tolist(), found)}
        return torch.tensor([self._known[key] for key in asked])

    def _right(self, chunk: Tensor, kept: Sequence[Tensor], compact: bool) -> Tensor:
        rows, positions, targets = [], [], []
        first = len(self.before)
        for i in chunk.tolist():
            image, answer = self.image_of[i], self.answers[i]
            text = torch.tensor([*self.after[i], *answer[:-1]])
            rows.append(torch.cat([self.embed(self.before), self.visual[image][kept[i]], self.embed(text)]))
            context, start = self.family.positions(self.grids[image])
            later = start - len(self.family.after) + torch.arange(len(text)).expand(len(context), -1)
            columns = torch.cat([torch.arange(first), first + kept[i]])
            place = torch.cat([context[:, columns], later], 1)
            positions.append((torch.arange(place.shape[1])[None] if compact else place).T)
            wanted = torch.full((len(rows[-1]),), -100)
            wanted[-len(answer) :] = torch.tensor(answer)
            targets.append(wanted)
        # Padding stands at the end, where a causal model's earlier positions never see it.
        embeddings = pad_sequence(rows, batch_first=True)
        places = pad_sequence(positions, batch_first=True).permute(2, 0, 1)
        target = pad_sequence(targets, batch_first=True, padding_value=-100)
        states = self.model.model.language_model(
            inputs_embeds=embeddings,
            position_ids=places[0] if len(places) == 1 else places,
            attention_mask=torch.ones(embeddings.shape[:2], dtype=torch.long),
            use_cache=False,
        ).last_hidden_state
        tail = (
            max(len(self.after[i]) + len(self.answers[i]) for i in chunk.tolist())
            + embeddings.shape[1]
            - min(map(len, rows))
        )
        best = self.model.lm_head(states[:, -tail:]).argmax(-1)
        return ((best == target[:, -tail:]) | (target[:, -tail:] < 0)).all(1)
