"""Encoders whose head is a chain of sentence-transformers modules: ettin-reranker."""

from __future__ import annotations

from reranker_batch.model.recipes.recipe import Recipe

MODULE_CHAIN = Recipe(
    name="module-chain",
    description="Encoder that reads query and document as one pair; modules of sentence-transformers make the logit.",
    source="https://huggingface.co/cross-encoder/ettin-reranker-150m-v1 (modules.json); "
    "https://github.com/huggingface/sentence-transformers (Transformer, Pooling, Dense, LayerNorm)",
    version=1,
    model_types=frozenset(
        {
            "bert",
            "camembert",
            "deberta-v2",
            "distilbert",
            "electra",
            "gte",
            "modernbert",
            "mpnet",
            "roberta",
            "xlm-roberta",
        }
    ),
    architectures=("Model",),
    examples=("cross-encoder/ettin-reranker-17m-v1, -32m-, -68m-, -150m-, -400m-, -1b-v1",),
    types_with_positions_after_padding=frozenset({"camembert", "mpnet", "roberta", "xlm-roberta"}),
    has_module_head=True,
)
