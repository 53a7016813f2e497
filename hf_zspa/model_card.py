"""The README.md of a converted checkpoint, which the Hub shows as its model card."""

from pathlib import Path

from huggingface_hub import ModelCardData, metadata_load

CARD = """\
---
{metadata}
---

# {title}

{base} that prunes its own visual tokens: of each image it keeps {keep:g} of the tokens, chosen for the question that is
asked (ZSPAPrune). The weights are those of the base, unchanged; the code that prunes is in this repository.

```python
from transformers import AutoModelForImageTextToText, AutoProcessor

model = AutoModelForImageTextToText.from_pretrained("{title}", trust_remote_code=True)
processor = AutoProcessor.from_pretrained("{title}")
```

Without `trust_remote_code=True` it loads as the stock model and prunes nothing. `zspa_keep_ratio` and
`zspa_core_ratio`, in `config.json` or for one call of `generate`, say how many tokens stay and how many of those are
chosen by relevance.{torchvision}
"""
TORCHVISION = " The processor needs torchvision, in the version that belongs to the installed torch."


def model_card(source: Path, repository: str | None, config: dict) -> str:
    """The card of a checkpoint converted from the folder `source`, which `repository` on the Hub holds, if any does.

    The licence is the base's, as its own card states it.
    """
    readme = source / "README.md"
    known = (metadata_load(readme) or {}) if readme.is_file() else {}
    metadata = ModelCardData(
        base_model=repository,
        library_name="transformers",
        pipeline_tag="image-text-to-text",
        tags=["custom_code", "visual-token-pruning", "zspaprune"],
        **{name: known[name] for name in ("license", "license_name", "license_link", "language") if name in known},
    )
    title = f"{(repository or source.name).split('/')[-1]}-zspa"
    base = (
        f"[{repository}](https://huggingface.co/{repository})"
        if repository
        else f"A `{config['model_type']}` checkpoint"
    )
    return CARD.format(
        metadata=metadata.to_yaml(),
        title=title,
        base=base,
        keep=config["zspa_keep_ratio"],
        torchvision=TORCHVISION if config["model_type"] == "qwen2_5_vl" else "",
    )
