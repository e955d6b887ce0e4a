"""Instructions that have a name: the two of the service's page, word for word."""

from __future__ import annotations

from collections.abc import Mapping

INSTRUCTS: Mapping[str, str] = {
    "qa_retrieval": "Given a web search query, retrieve relevant passages that answer the query.",
    "semantic_similarity": "Retrieve semantically similar text.",
}
"""Alibaba Cloud Model Studio, Improve search accuracy (2026-06): `instruct` of qwen3-rerank."""


def find_instruct(asked: str | None) -> str | None:
    """The text of a named instruction; any other text is one itself, and nothing is the vendor's default."""
    return None if not asked else INSTRUCTS.get(asked, asked)
