"""Qwen3-VL-Reranker 2B and 8B, for text alone: their language model is a Qwen3."""

from __future__ import annotations

from reranker_batch.model.recipes.recipe import Prompt, Recipe

QWEN3_VL_RERANKER = Recipe(
    name="qwen3-vl-reranker",
    description="The language model of a Qwen3-VL judges a document by the query; the logit is yes minus no.",
    source="https://huggingface.co/Qwen/Qwen3-VL-Reranker-2B (additional_chat_templates/reranker.jinja); "
    "https://github.com/QwenLM/Qwen3-VL-Embedding (qwen3_vl_reranker.py: prompt, NULL, 10,240 tokens)",
    version=1,
    model_types=frozenset({"qwen3"}),
    architectures=("Qwen3ForCausalLM",),
    examples=("Qwen/Qwen3-VL-Reranker-2B, -8B",),
    prompt=Prompt(
        pieces=(
            "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the Instruct "
            'provided. Note that the answer can only be "yes" or "no".<|im_end|>\n<|im_start|>user',
            "\n<Instruct>: {instruct}<Query>:{query}\n<Document>:{document}",
            "<|im_end|>\n<|im_start|>assistant\n",
        ),
        positive="yes",
        negative="no",
        default_instruct="Given a search query, retrieve relevant candidates that answer the query.",
        lead=">:",
        empty="NULL",
        is_one_text=True,
    ),
    max_tokens=10240,
    repositories=r"Qwen/Qwen3-VL-Reranker-(2B|8B)",
    converted_from="qwen3_vl",
)
