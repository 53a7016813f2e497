"""The text that hf-zspa writes into a model card: what pruning does to this model, and how to use it."""

from huggingface_hub import ModelCardData
from packaging.version import Version

from ...output import markdown_table
from ...remote_code.zspa_config import FIELDS, ZspaConfigMixin, fields_read
from ...version import TESTED_TRANSFORMERS, __version__, install_command
from ..base import untried_quantization
from ..code_files import stated
from ..families import FAMILIES, Family
from .metadata import strings
from .results import table
from .savings import cache_bytes_per_token, image_examples

PICTURE = "kept-tokens.png"
PAPER = """\
@misc{zhang2025zspaprune,
  title = {{ZSPAPrune}: Zero-Shot Prompt-Aware Token Pruning
           for Vision-Language Models},
  author = {Pu Zhang and Yuwei Li and Xingyuan Xian and Guoming Tang},
  year = {2025},
  eprint = {2510.17197},
  archivePrefix = {arXiv}
}"""


_ASK = """\
content = [{"type": "image"}, {"type": "text", "text": "What is in the picture?"}]
text = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)"""
_METHODS = {
    "zspa": "ZSPAPrune",
    "weighted": "by relevance and diversity in one product, a method of hf_zspa that follows ZSPAPrune",
    "dpp": "by a determinantal point process, the formula of CDPruner",
    "mmtok": "to cover the question and the image, the formula of MMTok",
}
_SETTINGS = {
    "zspa_keep_ratio": """\
the share of each image's tokens that is kept, in (0, 1]. 1.0 is the stock model,
  bit for bit. More tokens cost more and lose less: at 0.25 the small models that hf_zspa was measured on answered
  nearly everything as before, at 0.05 far from it.""",
    "zspa_core_ratio": """\
the share of those that is chosen by relevance to the question, in [0, 1]; the rest
  are as unlike each other as can be. 0 is diversity alone (DivPrune), 1 relevance alone. The paper's best values lie
  between 0.1 and 0.4; which one is best depends on the task and is worth measuring.""",
    "zspa_relevance_weight": """\
how much relevance to the question counts, in [-1, 1]; 0 is diversity alone,
  below 0 favours what is unlike the question. Near 1, what the question does not name may be dropped.""",
    "zspa_pooling": """\
how the question's tokens are aggregated: `mean`, `max`, or `none`, the best
  similarity over them.""",
    "zspa_centre": """\
whether the image's mean token is taken off before its tokens are compared with
  each other.""",
}


def text(config: dict, name: str, data: ModelCardData, tag: str | None, branch: str, picture: bool, tuned: str) -> str:
    """What stands between the markers of a card; the arguments are those of `write_card`, and its metadata `data`."""
    config = FIELDS | config  # one that an earlier version wrote has fewer
    keep, method = config["zspa_keep_ratio"], config["zspa_method"]
    base = _base_link(data, config)
    parts = [
        f"{base} that **prunes its own visual tokens**: {_kept(keep, method)}. That needs no training, and making this "
        "of its base changed no weight. The code that prunes is in this repository, and the package hf_zspa need not "
        "be installed.",
    ]
    if picture:
        parts.append(f"![A question, the relevance of each patch to it, and the tokens that are kept]({PICTURE})")
        why = "added because they are unlike all kept before them" if method == "zspa" else "the others"
        parts.append(f"Tokens kept by this checkpoint: orange are those closest to the question, blue those {why}.")
    parts += [
        _savings(config),
        _measured(data, config),
        f"## How it was tuned\n\n{tuned}" if tuned else "",
        _use(name, tag, branch, config),
        _settings(config),
        _trust(name, tag or (branch if branch != "main" else None), config.get("zspa_version") or __version__),
        _limits(config),
        _licence(data, base),
    ]
    return "\n\n".join(part for part in parts if part)


def _base_link(data: ModelCardData, config: dict) -> str:
    (first, *_) = [*strings(data.base_model), None]
    return f"[{first}](https://huggingface.co/{first})" if first else f"A `{config['model_type']}` checkpoint"


def _kept(keep: float, method: str) -> str:
    chosen = f"chosen for the question that is asked ({_METHODS[method]})"
    if keep == 1:
        return f"as it is set here it keeps all of them; with a lower `zspa_keep_ratio` it keeps a share, {chosen}"
    return f"of each image it keeps {100 * keep:.3g} % of the tokens, {chosen}"


def _savings(config: dict) -> str:
    examples, per_token = image_examples(config), cache_bytes_per_token(config)
    if not examples:
        return ""
    rows = [
        [what, str(count), str(kept), f"{(count - kept) * per_token / 1e6:.3g} MB" if per_token else "–"]
        for what, count, kept in examples
    ]
    return (
        "## What pruning saves\n\n"
        + markdown_table(("image", "visual tokens", "kept", "keys and values saved (16 bit)"), rows)
        + "\n\nThe prompt that the language model reads is shorter by "
        "what is dropped, so its time to the first token and its cache are those of the shorter prompt. What pruning "
        "costs in answers depends on the task."
    )


def _measured(data: ModelCardData, config: dict) -> str:
    found = table(data.eval_results, config)
    return f"## What was measured\n\n{found}" if found else ""


def _use(name: str, tag: str | None, branch: str, config: dict) -> str:
    family = FAMILIES[config["model_type"]]
    packages = " and ".join(family.needs)
    if "torchvision" in family.needs:  # the last one
        packages += ", in the version that belongs to the installed torch"
    needs = f"\n\nThe processor needs {packages}." if packages else ""
    ask = _ASK if family.chats else 'text = "<image>What is in the picture?"'
    pin = f'revision = "{tag}"' if tag else f'revision = "{branch}"  # better the commit that hf-zspa verify prints'
    return f"""\
## Use it

```python
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor  # 4.57 has AutoModelForVision2Seq as well

{pin}
model = AutoModelForImageTextToText.from_pretrained("{name}", revision=revision, trust_remote_code=True)
processor = AutoProcessor.from_pretrained("{name}", revision=revision)

image = Image.open("picture.jpg")
{ask}
inputs = processor(images=image, text=text, return_tensors="pt").to(model.device)
out = model.generate(**inputs, max_new_tokens=64)
print(processor.decode(out[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))
```

Tested with transformers {", ".join(_tested(family))}.

Without `trust_remote_code=True` the same files load as the stock model, which prunes nothing.{needs}"""


def _tested(family: Family) -> list[str]:
    """The versions of transformers that its tests run on."""
    first = Version(stated(family, "first_transformers", ZspaConfigMixin.first_transformers))
    return [
        version
        for version in TESTED_TRANSFORMERS
        if Version(version) >= first and version.rpartition(".")[0] not in family.not_built_in
    ]


def _settings(config: dict) -> str:
    read = fields_read(config)
    lines = [f"- `{name}`, here `{value}`: {_SETTINGS[name]}" for name, value in read.items()]
    call = ", ".join(f"{name}={value!r}" for name, value in list(read.items())[:2])
    return f"""\
## Change the settings

The method is `{config["zspa_method"]}` (`zspa_method`). What it reads are entries of `config.json`, or arguments of one
call (`model.generate(…, {call})`):

""" + "\n".join(lines)


def _trust(name: str, revision: str | None, version: str) -> str:
    return f"""\
## Check the code

`trust_remote_code=True` runs the Python files of this repository. They are those of hf_zspa {version}, byte for
byte, open no file or connection, and import nothing but torch, transformers, modules of Python's standard library that
only compute, and Triton where it is installed.

```console
$ {install_command(version)}
$ hf-zspa verify {name}{"@" + revision if revision else ""}
```

compares them without running anything, and prints the commit it looked at."""


def _limits(config: dict) -> str:
    lines = [
        "Prompts are pruned whole: chunked prefill, image prompts given as embeddings, and a new image after a filled "
        "cache are refused with a message.",
        "Small images have few tokens, and pruning them saves little.",
        "Fewer tokens can change an answer, also one that the base has right; questions about many small things need "
        "more of them.",
        "Documents, charts and other dense text lose most, and a tenth of the tokens can ruin them: on Qwen3-VL-8B, "
        "DocVQA falls from 94.5 to 45.3 at an eighth with the method that loses least in that comparison (EADP, Table "
        "4; not measured here). Keep far more for them, or all: 1.0. `hf-zspa tune` finds out how many on pictures of "
        "your own, without labels.",
    ]
    if untried := untried_quantization(config):
        lines.append(f"The weights are quantized ({untried}), with which pruning has not been run.")
    return "## Limits\n\n" + "\n".join(f"- {line}" for line in lines)


def _licence(data: ModelCardData, base: str) -> str:
    names = ", ".join(f"`{name}`" for name in strings(data.license))
    known = f"that of the base, {names}" if names else "that of the base"
    return (
        f"## Licence and citation\n\nThe licence of the weights is {known}; the code is Apache-2.0. Cite the base as "
        f"its own card says, and the method as\n\n```bibtex\n{PAPER}\n```"
    )
