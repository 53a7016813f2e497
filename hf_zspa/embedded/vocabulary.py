"""The words of the embedded model: what its scenes can show and what its questions can say."""

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

SPECIAL = ("<pad>", "<bos>", "<eos>", "<unk>", "<image>")
MARKERS = ("USER:", "ASSISTANT:")
FUNCTION_WORDS = (
    "is there a an what colour shape sign bar the written on with left or right of above below "
    "leftmost rightmost topmost bottommost largest tallest shortest yes no ? . ,"
).split()

VOCABULARY = (*SPECIAL, *MARKERS, *FUNCTION_WORDS, *COLOURS, *SHAPES, *LETTERS, *DIGITS)
TOKEN_ID = {word: index for index, word in enumerate(VOCABULARY)}

# Words a patch can be described by: the targets of the alignment stage.
VISIBLE_WORDS = (*COLOURS, *SHAPES, "shape", "sign", "bar", *LETTERS, *DIGITS)
VISIBLE_INDEX = {word: index for index, word in enumerate(VISIBLE_WORDS)}


def word_pieces(word: str) -> list[str]:
    """Pieces of one word as the tokenizer cuts it: "k7" is "k", "##7"; other words are one piece."""
    if word in TOKEN_ID:
        return [word]
    return [word[0], *(f"##{character}" for character in word[1:])]


def token_ids(text: str) -> list[int]:
    """Token ids of a question or an answer written with spaces between its words."""
    return [TOKEN_ID[piece] for word in text.split() for piece in word_pieces(word)]
