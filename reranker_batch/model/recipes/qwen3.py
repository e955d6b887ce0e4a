"""Qwen3-Reranker 0.6B, 4B and 8B, and its conversions to a model with one label."""

from __future__ import annotations

from reranker_batch.model.recipes.recipe import Prompt, Recipe

# One newline between the fields: two, as a widely copied recipe had, were a mistake (Qwen3-Embedding #81).
QWEN3_RERANKER = Recipe(
    name="qwen3-reranker",
    description="Generative model that judges a document by instruction and query; the logit is yes minus no.",
    source="https://huggingface.co/Qwen/Qwen3-Reranker-0.6B (model card, transformers usage); "
    "https://github.com/QwenLM/Qwen3-Embedding",
    version=1,
    model_types=frozenset({"qwen3"}),
    architectures=("Qwen3ForCausalLM", "Qwen3ForSequenceClassification"),
    examples=("Qwen/Qwen3-Reranker-0.6B, -4B, -8B", "tomaarsen/Qwen3-Reranker-0.6B-seq-cls, -4B-, -8B-"),
    prompt=Prompt(
        pieces=(
            "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the "
            'Instruct provided. Note that the answer can only be "yes" or "no".<|im_end|>\n<|im_start|>user\n',
            "<Instruct>: {instruct}\n<Query>: {query}\n<Document>: {document}",
            "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n",
        ),
        positive="yes",
        negative="no",
        default_instruct="Given a web search query, retrieve relevant passages that answer the query",
    ),
    max_tokens=8192,
    repositories=r"Qwen/Qwen3-Reranker-[\w.]+|tomaarsen/Qwen3-Reranker-[\w.]+-seq-cls",
)
