"""README.md of a training set, which the Hub and `datasets` read too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reranker_batch.labels.record import LabelRecord

_USES = {
    "st-pair": "sentence-transformers, `CrossEncoderTrainer`: `MSELoss`",
    "st-labeled-pair": "sentence-transformers, `CrossEncoderTrainer`: `BinaryCrossEntropyLoss`",
    "st-triplet": "sentence-transformers, `CrossEncoderTrainer`: `MarginMSELoss`; without `scores` "
    "`CachedMultipleNegativesRankingLoss`",
    "st-n-tuple": "sentence-transformers, `CrossEncoderTrainer`: `MarginMSELoss`",
    "st-list": "sentence-transformers, `CrossEncoderTrainer`: `LambdaLoss`, `ListNetLoss`, `ListMLELoss`, "
    "`PListMLELoss`, `RankNetLoss`",
    "flagembedding": "FlagEmbedding, `AbsRerankerTrainDataset`, also with `knowledge_distillation`",
    "ms-swift": "ms-swift, reranker training",
    "tevatron": "Tevatron, reranker and retriever training",
}


_WITHOUT_SCORES = ("st-labeled-pair", "ms-swift", "tevatron")


def card_of(name: str, suffix: str, record: LabelRecord, counts: Mapping[str, Any]) -> str:
    """Markdown with the header that tells `datasets` which files are data. Equal labels give equal text."""
    left_out = ", ".join(f"{number:,} {reason}" for reason, number in counts["left_out"].items()) or "none"
    models = [f"* {name}: {record.settings['teachers'][name]['model'].get('name')}" for name in record.teachers]
    return "\n".join(
        [
            "---",
            "configs:",
            "- config_name: default",
            "  data_files:",
            "  - split: train",
            f"    path: data/*.{suffix}",
            "---",
            f"# Training set, format {name}",
            "",
            f"For {_USES[name]}.",
            "",
            f"{counts['rows']:,} rows of {counts['queries']:,} queries. Queries left out: {left_out}.",
            "",
            f"{_scores(name, record)}`ids/` has the ids of every row, in equal files and order.",
            "",
            "Teachers:",
            "",
            *models,
            "",
            f"Made by reranker-batch from labels with the fingerprint `{record.fingerprint}`.",
            "",
        ]
    )


def _scores(name: str, record: LabelRecord) -> str:
    if name in _WITHOUT_SCORES:
        return ""
    rules = record.settings["labels"]
    return (
        "Scores are scaled logits of the teachers, not probabilities: "
        f"`labels.scale` is `{rules['scale']}`, `labels.combine` is `{rules['combine']}`. "
    )
