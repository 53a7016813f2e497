"""The words of the embedded models: what their scenes can show and what their questions can say."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

COLOURS = {
    "red": (230, 50, 45),
    "green": (60, 175, 65),
    "blue": (75, 110, 245),
    "yellow": (240, 225, 60),
    "purple": (165, 80, 215),
    "orange": (245, 145, 30),
    "cyan": (70, 220, 225),
    "pink": (250, 160, 205),
}
SHAPES = ("circle", "square", "triangle", "star", "cross", "diamond")

# "a" is left out: it is also an article.
LETTERS = ("b", "c", "e", "h", "k", "l", "m", "t", "x", "z")
# A sign says a letter and a digit; the digit continues the word, as in WordPiece.
DIGITS = tuple(f"##{digit}" for digit in range(10))

FUNCTION_WORDS = (
    "is there a an what colour shape sign bar the written on with left or right of above below "
    "leftmost rightmost topmost bottommost largest tallest shortest yes no ? . ,"
).split()

WORDS = (*FUNCTION_WORDS, *COLOURS, *SHAPES, *LETTERS, *DIGITS)

# Words a patch can be described by: the targets of the alignment stage.
VISIBLE_WORDS = (*COLOURS, *SHAPES, "shape", "sign", "bar", *LETTERS, *DIGITS)

# What a page of the photographs says: words no two of which begin or end alike, and numbers of lines.
PAGE_WORDS = (
    "lamp door tree fish gold snow bird ship moon hand book king wolf rain milk cake "
    "desk frog echo oven quiz vest tuna plum crab duck rope taxi zinc lynx bulb wine"
).split()
LINE_NUMBERS = tuple("123456")
# What questions about photographs say beside the words above; most of it never matters to the answer.
PHOTO_FUNCTION_WORDS = (
    "after and answer anywhere asks at but can comes could does far first friend has have hello help here i ignore in "
    "it just know like line look me mind my never not other out page photo picture please question read say says "
    "see so stand tell thank that thing this to which word would you : !"
).split()
PHOTO_WORDS = (*WORDS, *PHOTO_FUNCTION_WORDS, *PAGE_WORDS, *LINE_NUMBERS)
PHOTO_VISIBLE_WORDS = (*COLOURS, *SHAPES, "shape", "sign", *LETTERS, *DIGITS, *PAGE_WORDS, *LINE_NUMBERS)


@dataclass(frozen=True)
class Vocabulary:
    """All tokens of a family: its special tokens, its markers of turns, which are text, and the words.

    `visible` are the words a patch can be described by.
    """

    special: tuple[str, ...]
    markers: tuple[str, ...]
    words: tuple[str, ...] = WORDS
    visible: tuple[str, ...] = VISIBLE_WORDS

    @cached_property
    def tokens(self) -> tuple[str, ...]:
        return (*self.special, *self.markers, *self.words)

    @cached_property
    def visible_index(self) -> dict[str, int]:
        return {word: index for index, word in enumerate(self.visible)}

    @cached_property
    def ids(self) -> dict[str, int]:
        return {token: index for index, token in enumerate(self.tokens)}

    def encode(self, text: str) -> list[int]:
        """Token ids of a question or an answer written with spaces between its words."""
        return self.encode_tokens(piece for word in text.split() for piece in word_pieces(word))

    def encode_tokens(self, tokens: Iterable[str]) -> list[int]:
        return [self.ids[token] for token in tokens]


LLAVA = Vocabulary(("<pad>", "<bos>", "<eos>", "<unk>", "<image>"), ("USER:", "ASSISTANT:"))
PHOTO_LLAVA = Vocabulary(LLAVA.special, LLAVA.markers, PHOTO_WORDS, PHOTO_VISIBLE_WORDS)
QWEN2_5_VL = Vocabulary(
    (
        "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>",
        "<|image_pad|>", "<|video_pad|>", "<unk>",
    ),
    ("system", "user", "assistant"),
)  # fmt: skip


def word_pieces(word: str) -> list[str]:
    """Pieces of one word as the tokenizer cuts it: "k7" is "k", "##7"; other words are one piece."""
    if word in PHOTO_WORDS:
        return [word]
    return [word[0], *(f"##{character}" for character in word[1:])]
