"""The sections about what a finished output is compared with, and which limits it must keep."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated

from pydantic import AfterValidator, Field

from reranker_batch.config.sections import EarlierOutput, Place, Section, is_share


def _is_share_of_a_whole(text: str) -> str:
    if not is_share(text) or Decimal(text.removesuffix("%")) > 100:
        raise ValueError(f"{text!r} is no share like '30%'")
    return text


Share = Annotated[str, AfterValidator(_is_share_of_a_whole)]
Mean = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False, strict=False)]


class ReportConfig(Section):
    """What the result is compared with at the end of a run."""

    compare_with: EarlierOutput | None = Field(
        None,
        description="A finished output, to tell what has moved since; or latest:FOLDER, the output below FOLDER that "
        "was complete last. null: the output of reuse.from, or without it the first stage alone.",
    )
    qrels: Place | None = Field(
        None,
        description="Relevance judgments for metrics: a TREC file or a Parquet file with query_id, doc_id and "
        "relevance. Needs the extra eval. null: no metrics.",
    )


class GatesConfig(Section):
    """Limits that a finished output must keep. One that does not ends with exit code 4 and has no _SUCCESS until
    somebody accepts it."""

    max_queries_changed: Share | None = Field(
        None,
        description="Share of the queries whose ordered first ten documents may differ from those of the earlier "
        "output, such as 30%; of the queries that both outputs have. null: no limit.",
    )
    min_overlap_at_10: Mean | None = Field(
        None,
        description="Least mean overlap, from 0 to 1, of the first ten documents with those of the earlier output. "
        "null: no limit.",
    )
    min_ndcg_at_10: Mean | None = Field(
        None, description="Least mean nDCG@10 of the queries that `report.qrels` judges. null: no limit."
    )
    max_truncated: Share | None = Field(
        None, description="Share of the scored pairs that may lose text to a limit, such as 5%. null: no limit."
    )

    @property
    def on_movement(self) -> list[str]:
        """The limits that are set and need an earlier output."""
        limits = {"max_queries_changed": self.max_queries_changed, "min_overlap_at_10": self.min_overlap_at_10}
        return [name for name, limit in limits.items() if limit is not None]
