"""Encoders that read query and document as one pair: bge-reranker, gte, mxbai-rerank v1, ms-marco."""

from __future__ import annotations

from reranker_batch.model.recipes.recipe import Recipe

CROSS_ENCODER = Recipe(
    name="cross-encoder",
    description="Encoder that reads query and document as one pair; a head on top gives one logit.",
    source="https://huggingface.co/docs/transformers/en/model_doc/auto (AutoModelForSequenceClassification); "
    "https://github.com/FlagOpen/FlagEmbedding (bge-reranker); https://sbert.net/docs/cross_encoder",
    version=1,
    model_types=frozenset(
        {
            "albert",
            "bert",
            "big_bird",
            "camembert",
            "convbert",
            "data2vec-text",
            "deberta",
            "deberta-v2",
            "distilbert",
            "electra",
            "ernie",
            "eurobert",
            "fnet",
            "gte",
            "longformer",
            "megatron-bert",
            "mobilebert",
            "modernbert",
            "mpnet",
            "nomic_bert",
            "rembert",
            "roberta",
            "roberta-prelayernorm",
            "roformer",
            "squeezebert",
            "xlm-roberta",
            "xlm-roberta-xl",
        }
    ),
    architectures=("ForSequenceClassification",),
    examples=(
        "BAAI/bge-reranker-v2-m3, -base, -large",
        "Alibaba-NLP/gte-multilingual-reranker-base, alibaba-nlp-community/gte-multilingual-reranker-base",
        "Alibaba-NLP/gte-reranker-modernbert-base",
        "jinaai/jina-reranker-v2-base-multilingual",
        "mixedbread-ai/mxbai-rerank-xsmall-v1, -base-v1, -large-v1",
        "cross-encoder/ms-marco-MiniLM-L6-v2, -L12-v2, TinyBERT-L2-v2, electra-base",
    ),
    types_with_positions_after_padding=frozenset(
        {
            "camembert",
            "data2vec-text",
            "longformer",
            "mpnet",
            "roberta",
            "roberta-prelayernorm",
            "xlm-roberta",
            "xlm-roberta-xl",
        }
    ),
)
