"""bge-reranker-v2-gemma: a Gemma 2B whose logit of "Yes" is the score, and its conversions to a single label."""

from __future__ import annotations

from reranker_batch.model.recipes.recipe import Prompt, Recipe

BGE_RERANKER_V2_GEMMA = Recipe(
    name="bge-reranker-v2-gemma",
    description='Generative model that is asked whether passage B answers query A; the logit is that of "Yes".',
    source="https://github.com/FlagOpen/FlagEmbedding (inference/reranker/decoder_only/base.py); "
    "https://huggingface.co/BAAI/bge-reranker-v2-gemma",
    version=1,
    model_types=frozenset({"gemma"}),
    architectures=("GemmaForCausalLM", "GemmaForSequenceClassification"),
    examples=("BAAI/bge-reranker-v2-gemma",),
    prompt=Prompt(
        pieces=(
            "<bos>",
            "A: {query}",
            "\n",
            "B: {document}",
            "\n",
            "Given a query A and a passage B, determine whether the passage contains an answer to the query by "
            "providing a prediction of either 'Yes' or 'No'.",
        ),
        positive="Yes",
        negative=None,
    ),
    max_tokens=1024,
    repositories=r"BAAI/bge-reranker-v2-gemma",
)
