"""The columns of the paper's tables: lmms-eval's tasks, metrics and data sets. It needs nothing but Python."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Benchmark:
    """A column of the paper's tables.

    Attributes:
        column: its name in the paper.
        task: lmms-eval's task.
        metric: lmms-eval's metric that the column shows.
        repository: data set on the Hub; `folder`, the last part, is its folder under `--data`.
        protocol: split, prompt and metric, and where lmms-eval's default differs from the paper's words.
    """

    column: str
    task: str
    metric: str
    repository: str
    protocol: str

    @property
    def folder(self) -> str:
        return self.repository.rpartition("/")[2]


BENCHMARKS = {
    benchmark.task: benchmark
    for benchmark in (
        Benchmark(
            "MMMU", "mmmu_val", "mmmu_acc", "lmms-lab-encoder/MMMU",
            "Validation split, 900 questions, accuracy over all of them. An answer that cannot be parsed is drawn at "
            "random by lmms-eval, as MMMU's own script does.",
        ),
        Benchmark(
            "GQA", "gqa", "exact_match", "lmms-lab-encoder/GQA",
            "testdev_balanced, exact match without case and punctuation.",
        ),
        Benchmark(
            "AI2D", "ai2d", "exact_match", "lmms-lab-encoder/ai2d",
            "Test split, the option's letter asked for. lmms-eval accepts \"B.\" at the start of an answer, but not "
            "the text of an option.",
        ),
        Benchmark(
            "POPE", "pope", "pope_f1_score", "lmms-lab-encoder/POPE",
            "Test split, F1 of \"yes\" as the paper reports it; lmms-eval also prints accuracy. An answer other than "
            "exactly yes or no counts neither as a false positive nor as a false negative.",
        ),
        Benchmark(
            "TextVQA", "textvqa_val", "exact_match", "lmms-lab-encoder/textvqa",
            "Validation split, VQA accuracy over ten answers, no OCR tokens in the prompt: the paper's 39.5 for "
            "LLaVA-1.5 fits this, not the 58.2 others publish with OCR tokens.",
        ),
        Benchmark(
            "TextVQA with OCR hints", "textvqa_val_ocr", "exact_match", "lmms-lab-encoder/textvqa",
            "As textvqa_val, with the data set's OCR tokens in the prompt: a model can then answer without the image.",
        ),
        Benchmark(
            "ChartQA", "chartqa", "relaxed_overall", "lmms-lab-encoder/ChartQA",
            "Test split, human and augmented questions together, relaxed accuracy (numbers within 5 %).",
        ),
    )
}  # fmt: skip
