"""jina-reranker-v3 and v3.5: all documents of a request in one prompt, each scored by a cosine with the query."""

from __future__ import annotations

from dataclasses import replace

from reranker_batch.core.activation import Activation
from reranker_batch.model.recipes.list_prompt import ListPrompt
from reranker_batch.model.recipes.recipe import Recipe

_QUERY = "Rank the passages based on their relevance to query: {query}"
_V3 = ListPrompt(
    head="<|im_start|>system\n"
    "You are a search relevance expert who can determine a ranking of the passages based on how relevant they are to "
    "the query. If the query is a question, how relevant a passage is depends on how well it answers the question. If "
    "not, try to analyze the intent of the query and assess how well each passage satisfies the intent. If an "
    "instruction is provided, you should follow the instruction when determining the ranking."
    "<|im_end|>\n<|im_start|>user\n"
    "I will provide you with {documents} passages, each indicated by a numerical identifier. "
    f"{_QUERY}\n{{instruct}}",
    passage='<passage id="{number}">\n{document}<|embed_token|>\n</passage>\n',
    tail="<query>\n{query}<|rerank_token|>\n</query><|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n",
    document_mark="<|embed_token|>",
    query_mark="<|rerank_token|>",
    max_document_tokens=2048,
    max_query_tokens=512,
)
_V3_5 = replace(
    _V3,
    head=_V3.head.replace(_QUERY, f"{_QUERY}<|rerank_token|>"),
    max_document_tokens=8192,
    max_query_tokens=1024,
)

JINA_RERANKER_V3 = Recipe(
    name="jina-reranker-v3",
    description="Reads all documents of a request together; the logit of each is its cosine with the query, -1..1.",
    source="https://huggingface.co/jinaai/jina-reranker-v3 (modeling.py, rerank)",
    version=1,
    model_types=frozenset({"qwen3"}),
    architectures=("JinaForRanking",),
    examples=("jinaai/jina-reranker-v3",),
    activation=Activation("cosine"),
    list_prompt=_V3,
    has_sliding_layers=False,
    max_tokens=131_072,
)
JINA_RERANKER_V3_5 = replace(
    JINA_RERANKER_V3,
    name="jina-reranker-v3.5",
    description="As jina-reranker-v3, with the query marked twice, longer documents and layers that see a window.",
    source="https://huggingface.co/jinaai/jina-reranker-v3.5 (modeling.py, revision e8a93f33), by the port in "
    "https://github.com/jundot/omlx/pull/2494",
    examples=("jinaai/jina-reranker-v3.5",),
    list_prompt=_V3_5,
    has_sliding_layers=True,
)
