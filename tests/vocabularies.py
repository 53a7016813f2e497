"""Real vocabularies, as mistral_common carries them, in fast tokenizers with the special tokens of a family."""

import json
from base64 import b64decode
from itertools import pairwise
from pathlib import Path

import mistral_common
import tiny
from sentencepiece import SentencePieceProcessor
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

DATA = Path(mistral_common.__file__).with_name("data")
RANKS = 30_000  # of tekken's 130 000: more takes longer to load and spells no word of a test differently enough


def sentencepiece_folder(folder: Path, file: str, *, legacy: bool) -> Path:
    """A folder with the tokenizer of a Llama-like model, converted from a SentencePiece file as the Hub's are.

    A legacy one puts a ▁ in front of every piece of text between special tokens, others only in front of the first.
    """
    folder.mkdir()
    source = SentencePieceProcessor(model_file=str(DATA / file))
    pieces = {source.id_to_piece(i): source.get_score(i) for i in range(source.get_piece_size())}
    vocabulary = {piece: i for i, piece in enumerate(pieces)}
    model = models.BPE(vocabulary, _merges_by_score(pieces), unk_token="<unk>", byte_fallback=True, fuse_unk=True)
    tokenizer = Tokenizer(model)
    if legacy:
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    spaces = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    tokenizer.decoder = decoders.Sequence(spaces)
    special = [piece for piece, i in vocabulary.items() if source.is_control(i) or source.is_unknown(i)]
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in [*special, "<image>"]])
    tokenizer.save(str(folder / "tokenizer.json"))
    tiny.write_json(folder / "config.json", {"model_type": "llama"})
    names = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    tiny.write_json(
        folder / "tokenizer_config.json",
        {"tokenizer_class": "LlamaTokenizer", "legacy": legacy, "extra_special_tokens": {"image_token": "<image>"}}
        | names,
    )
    return folder


def byte_level_folder(folder: Path) -> Path:
    """A folder with a byte-level tokenizer: tekken's most frequent pieces, split as Qwen does, and Qwen's tokens."""
    folder.mkdir()
    tekken = json.loads((DATA / "tekken_240911.json").read_text(encoding="utf-8"))
    pieces = [b64decode(entry["token_bytes"]) for entry in tekken["vocab"][:RANKS]]
    byte_to_char = _byte_alphabet()
    spelled = ["".join(byte_to_char[byte] for byte in piece) for piece in pieces]
    tokenizer = Tokenizer(models.BPE({piece: i for i, piece in enumerate(spelled)}, _merges_by_rank(spelled)))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(tekken["config"]["pattern"]), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in tiny.QWEN_SPECIAL])
    tokenizer.save(str(folder / "tokenizer.json"))
    tiny.write_json(folder / "config.json", {"model_type": "qwen2"})
    tiny.write_json(
        folder / "tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|im_end|>"}
    )
    return folder


def _byte_alphabet() -> list[str]:
    """The visible character that byte-level tokenizers write for each byte (GPT-2's table)."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = iter(range(256, 512))
    return [chr(byte) if byte in plain else chr(next(others)) for byte in range(256)]


def _merges_by_score(pieces: dict[str, float]) -> list[tuple[str, str]]:
    """Every way to make a piece of two others, the best piece first."""
    merges = []
    for piece, score in pieces.items():
        halves = [(piece[:i], piece[i:]) for i in range(1, len(piece))]
        merges += [(-score, *pair) for pair in halves if pair[0] in pieces and pair[1] in pieces]
    return [(left, right) for _, left, right in sorted(merges, key=lambda merge: merge[0])]


def _merges_by_rank(pieces: list[str]) -> list[tuple[str, str]]:
    """For each piece the last merge that makes it: the pair left after all earlier pieces were merged."""
    rank = {piece: i for i, piece in enumerate(pieces)}
    merges = []
    for piece, own in rank.items():
        parts = list(piece)
        while len(parts) > 2:
            ranked = [(rank.get(a + b, own), i) for i, (a, b) in enumerate(pairwise(parts))]
            best, i = min(ranked)
            if best >= own:
                break
            parts[i : i + 2] = [parts[i] + parts[i + 1]]
        if len(parts) == 2:
            merges.append((parts[0], parts[1]))
    return merges
