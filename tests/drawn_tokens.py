"""Strategies of Hypothesis for the visual tokens of an image and its prompt."""

import torch
from hypothesis import strategies as st

PERCENT = st.integers(1, 100)
DTYPES = st.sampled_from([torch.float32, torch.bfloat16, torch.float16])


@st.composite
def tokens(draw, min_n=1, max_n=40):
    """Visual `(n, d)` and prompt `(m, d)` tokens with duplicates, zeros and tiny rows among them."""
    n, m, d = draw(st.integers(min_n, max_n)), draw(st.integers(0, 5)), draw(st.integers(1, 12))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    visual, prompt = torch.randn(n, d, generator=generator), torch.randn(m, d, generator=generator)
    for row in draw(st.lists(st.integers(0, n - 1), max_size=4)):
        change = draw(st.sampled_from(["duplicate", "zero", "tiny", "opposite"]))
        other = visual[draw(st.integers(0, n - 1))].clone()
        visual[row] = {"duplicate": other, "zero": other * 0, "tiny": other * 1e-30, "opposite": -other}[change]
    dtype = draw(DTYPES)
    return visual.to(dtype), prompt.to(dtype)


@st.composite
def exact_tokens(draw):
    """Visual `(n, d)` and prompt `(m, d)` tokens whose products are exact in every dtype, so that ties are ties however
    they are computed: small integers, some rows times a power of two, and a prompt of 1 and -1."""
    n, m, d = draw(st.integers(1, 40)), draw(st.integers(0, 2)), draw(st.sampled_from([1, 4, 16]))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    visual = torch.randint(-2, 3, (n, d), generator=generator).float()
    for row in draw(st.lists(st.integers(0, n - 1), max_size=8)):
        change = draw(st.sampled_from(["duplicate", "zero", "longer", "opposite"]))
        other = visual[draw(st.integers(0, n - 1))].clone()
        visual[row] = {"duplicate": other, "zero": other * 0, "longer": other * 64, "opposite": -other}[change]
    dtype = draw(DTYPES)
    if dtype == torch.float32:  # beyond what squares may be in float32
        visual[:: draw(st.integers(2, 9))] *= 2.0 ** draw(st.sampled_from([-70, -20, 20, 70]))
    prompt = torch.randint(0, 2, (1, d), generator=generator) * 2 - 1
    return visual.to(dtype), prompt.expand(m, d).to(dtype)
