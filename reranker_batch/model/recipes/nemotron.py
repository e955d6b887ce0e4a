"""llama-nemotron-rerank: Llama without a causal mask, whose mean state a linear layer turns into the logit."""

from __future__ import annotations

from reranker_batch.model.recipes.recipe import Prompt, Recipe

LLAMA_NEMOTRON_RERANK = Recipe(
    name="llama-nemotron-rerank",
    description="Bidirectional Llama that reads question and passage in one text; a head on the mean gives the logit.",
    source="https://huggingface.co/nvidia/llama-nemotron-rerank-1b-v2 (model card, llama_bidirectional_model.py)",
    version=1,
    model_types=frozenset({"llama"}),
    architectures=("LlamaBidirectionalForSequenceClassification",),
    examples=("nvidia/llama-nemotron-rerank-1b-v2, -500m-v2", "nvidia/llama-3.2-nv-rerankqa-1b-v2"),
    prompt=Prompt(
        pieces=("<|begin_of_text|>", "question:{query} \n \n passage:{document}"),
        positive=None,
        negative=None,
        lead=":",
    ),
    max_tokens=8192,
    repositories=r"nvidia/llama-nemotron-rerank-(1b|500m)-v2|nvidia/llama-3\.2-nv-rerankqa-1b-v2",
    converted_from="llama_bidirec",
)
