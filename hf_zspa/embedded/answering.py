"""Asks a checkpoint many questions at once, with all or some of the visual tokens.

A question counts as right when greedy decoding gives the answer and stops. That is the same as
every answer token being the most likely one when the answer so far is given, which takes one pass.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from transformers import AutoProcessor, LlavaForConditionalGeneration

from ..remote_code.zspa_selection import VisualTokenPruner
from .heldout import HeldOut
from .model import VISUAL_TOKENS, visual_tokens

CHUNK = 128


class Exam:
    """A checkpoint, its held-out questions as the processor encodes them, and the visual tokens.

    Args:
        checkpoint: folder of the embedded checkpoint.
        heldout: images and questions.
    """

    @torch.no_grad()
    def __init__(self, checkpoint: Path, heldout: HeldOut):
        self.processor = AutoProcessor.from_pretrained(checkpoint)
        self.model = LlavaForConditionalGeneration.from_pretrained(checkpoint).eval()
        self.embed = self.model.get_input_embeddings()
        self.image_of = torch.tensor([image for image, _ in heldout.questions])
        self.kinds = [question.kind for _, question in heldout.questions]
        self._encode([question.text for _, question in heldout.questions], [q.answer for _, q in heldout.questions])
        pixels = self.processor.image_processor(images=heldout.images, return_tensors="pt")["pixel_values"]
        self.visual = torch.cat([visual_tokens(self.model, chunk) for chunk in pixels.split(64)])

    def _encode(self, texts: Sequence[str], answers: Sequence[str]) -> None:
        """Token ids before the image, after it, of the answers, and of the question's words alone."""
        tokenizer = self.processor.tokenizer
        encode = lambda text: tokenizer(text, add_special_tokens=False)["input_ids"]  # noqa: E731
        image = tokenizer.convert_tokens_to_ids(self.processor.image_token)
        self.queries, self.after, self.answers = [], [], []
        for text, answer in zip(texts, answers, strict=True):
            content = [{"type": "image"}, {"type": "text", "text": text}]
            turn = [{"role": "user", "content": content}]
            ids = encode(self.processor.apply_chat_template(turn, add_generation_prompt=True))
            place = ids.index(image)
            self.before = torch.tensor(ids[:place])
            self.after.append(ids[place + 1 :])
            self.answers.append([*encode(answer), tokenizer.eos_token_id])
            self.queries.append(torch.tensor(encode(text)))

    @torch.no_grad()
    def kept(self, pruner: VisualTokenPruner) -> Tensor:
        """Indices of the visual tokens a pruner keeps for each question: (questions, budget).

        The prompt is the embeddings of the question's words, without template or special tokens.
        """
        rows = []
        for chunk in torch.arange(len(self.kinds)).split(CHUNK):
            visual = [self.visual[self.image_of[i]] for i in chunk]
            rows += pruner(visual, [self.embed(self.queries[i]) for i in chunk])
        return torch.stack(rows)

    @torch.no_grad()
    def right(self, kept: Tensor | None = None) -> Tensor:
        """Which questions are answered right, (questions,) bool; kept (questions, l), default all tokens."""
        if kept is None:
            kept = torch.arange(VISUAL_TOKENS).expand(len(self.kinds), -1)
        return torch.cat([self._right(chunk, kept[chunk]) for chunk in torch.arange(len(self.kinds)).split(CHUNK)])

    def _right(self, chunk: Tensor, kept: Tensor) -> Tensor:
        texts = [[*self.after[i], *self.answers[i][:-1]] for i in chunk]
        length = max(map(len, texts))
        tokens = torch.zeros(len(chunk), length, dtype=torch.long)
        targets = torch.full((len(chunk), length), -100)
        for row, i in enumerate(chunk):
            tokens[row, : len(texts[row])] = torch.tensor(texts[row])
            start = len(self.after[i]) - 1
            targets[row, start : start + len(self.answers[i])] = torch.tensor(self.answers[i])
        visual = self.visual[self.image_of[chunk][:, None], kept]
        before = self.embed(self.before).expand(len(chunk), -1, -1)
        embeddings = torch.cat([before, visual, self.embed(tokens)], 1)
        first = len(self.before)
        # Kept tokens and text stay at the positions they have in the full sequence.
        text_positions = (first + VISUAL_TOKENS + torch.arange(length)).expand(len(chunk), -1)
        positions = torch.cat([torch.arange(first).expand(len(chunk), -1), first + kept, text_positions], 1)
        # Padding stands at the end, where a causal model's earlier positions never see it.
        states = self.model.model.language_model(
            inputs_embeds=embeddings,
            position_ids=positions,
            attention_mask=torch.ones(embeddings.shape[:2], dtype=torch.long),
            use_cache=False,
        ).last_hidden_state[:, -length:]
        best = self.model.lm_head(states).argmax(-1)
        return ((best == targets) | (targets < 0)).all(1)
