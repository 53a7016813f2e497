"""CITATION.cff can be read, and cites this version of the software and the paper."""

import yaml
from blocks import ROOT

import hf_zspa


def test_it_cites_the_software_in_its_version_and_the_paper():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= cited.keys()  # what the format requires
    assert (cited["title"], cited["version"]) == ("hf_zspa", hf_zspa.__version__)
    (paper,) = cited["references"]
    assert paper["title"].startswith("ZSPAPrune") and paper["year"] == 2025
    assert [author["family-names"] for author in paper["authors"]] == ["Zhang", "Li", "Xian", "Tang"]
