"""CITATION.cff can be read, and cites this version of the software and the paper."""

import yaml
from blocks import ROOT

import hf_zspa
from hf_zspa.checkpoints.card.text import PAPER


def test_it_cites_the_software_in_its_version_and_the_paper():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= cited.keys()  # what the format requires
    assert (cited["title"], cited["version"]) == ("hf_zspa", hf_zspa.__version__)
    (paper,) = cited["references"]
    assert paper["title"].startswith("ZSPAPrune") and paper["year"] == 2025
    assert [author["family-names"] for author in paper["authors"]] == ["Zhang", "Li", "Xian", "Tang"]


def test_the_site_and_cards_cite_the_paper_alike():
    assert f"```bibtex\n{PAPER}\n```" in (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
