"""What the page shows of answers and selections, as HTML: nothing in it is loaded from anywhere."""

import io
from base64 import b64encode
from collections.abc import Mapping, Sequence
from html import escape

from PIL import Image

from ..visualize.demo import Answer
from ..visualize.panels import VIRIDIS, heat_map, kept_tokens, legend
from ..visualize.selection import Selection
from ..visualize.token_grid import View

STYLE = """
.html-container:has(.zspa) { padding: 0; }
.block:has(.zspa) > [data-testid="status-tracker"]:has(.error) { display: none; }
.zspa { display: grid; grid-template-columns: repeat(auto-fit, minmax(18rem, 1fr)); gap: 1rem; }
.zspa h3 { margin: 0 0 .5rem; font-size: 1rem; font-weight: 600; }
.zspa article { border: 1px solid var(--border-color-primary); border-radius: 8px; padding: 1rem; min-height: 9.5rem;
  display: flex; flex-direction: column; background: var(--block-background-fill); }
.zspa article p { flex: 1; margin: 0; font-size: 1.35rem; white-space: pre-wrap; overflow-wrap: anywhere; }
.zspa article p.hint { font-size: 1rem; color: var(--body-text-color-subdued); }
.zspa dl { display: flex; flex-wrap: wrap; gap: .25rem 1.5rem; margin: 1rem 0 0; }
.zspa dt { font-size: .8rem; color: var(--body-text-color-subdued); }
.zspa dd { margin: 0; font-variant-numeric: tabular-nums; }
.zspa figure { margin: 0 0 .75rem; }
.zspa figcaption { font-size: .85rem; margin-bottom: .25rem; }
.zspa img { display: block; width: 100%; height: auto; border-radius: 4px; }
.zspa ul { list-style: none; margin: 0; padding: 0; }
.zspa li { display: flex; align-items: baseline; gap: .5rem; margin: .15rem 0; }
.zspa i { flex: none; width: .8rem; height: .8rem; border-radius: 2px; }
.zspa i.ramp { width: 6rem; }
"""


def answers(said: Mapping[str, Answer | None], hint: str = "…") -> str:
    """Answers by their titles as they grow, with what they took; in the place of one that is not there yet, a hint."""
    return _side_by_side(*(_answer(title, answer, hint) for title, answer in said.items()))


def panels(views: Sequence[View], selection: Selection, note: str = "") -> str:
    """The heat map of relevance, and the kept tokens with why each is kept and a note."""
    stops = ", ".join(f"rgb{tuple(map(int, colour))}" for colour in VIRIDIS)
    low, high = (f"{float(score):.2f}" for score in selection.scores.aminmax())
    ramp = f'cosine {low}<i class="ramp" style="background: linear-gradient(to right, {stops})"></i>{high}'
    lines = legend(views, selection)
    why = [f'<i style="background: rgb{colour}"></i>{text}' if colour else text for colour, text in lines]
    heat = [heat_map(view, selection.scores) for view in views]
    kept = [kept_tokens(view, selection.core, selection.diversity) for view in views]
    return _side_by_side(
        _panel("Relevance to the question", views, heat, [ramp]),
        _panel("Kept tokens", views, kept, [*why, f"<b>{note}</b>"]),
    )


def _side_by_side(*parts: str) -> str:
    """Parts of the page, below each other where there is little room."""
    return f'<div class="zspa">{"".join(parts)}</div>'


def _answer(title: str, answer: Answer | None, hint: str) -> str:
    if answer is None:
        return f'<article><h3>{title}</h3><p class="hint">{hint}</p></article>'
    times = {"first token": answer.first_token, "whole answer": answer.total}
    facts = {"visual tokens": str(answer.tokens)} | {name: _time(seconds) for name, seconds in times.items()}
    listed = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in facts.items())
    return f"<article><h3>{title}</h3><p>{escape(answer.text)}</p><dl>{listed}</dl></article>"


def _panel(title: str, views: Sequence[View], images: Sequence[Image.Image], below: Sequence[str]) -> str:
    captions = [f"<figcaption>{view.name}</figcaption>" if len(views) > 1 else "" for view in views]
    figures = [
        f'<figure>{caption}<img alt="{title}" src="{_data_url(image)}"></figure>'
        for caption, image in zip(captions, images)
    ]
    lines = "".join(f"<li>{line}</li>" for line in below)
    return f"<section><h3>{title}</h3>{''.join(figures)}<ul>{lines}</ul></section>"


def _data_url(image: Image.Image) -> str:
    content = io.BytesIO()
    image.save(content, "webp", quality=90)
    return f"data:image/webp;base64,{b64encode(content.getvalue()).decode()}"


def _time(seconds: float) -> str:
    if not seconds:
        return "…"
    return f"{seconds:.2f} s" if seconds >= 1 else f"{1000 * seconds:.0f} ms"
