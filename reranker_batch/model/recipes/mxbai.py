"""mxbai-rerank-v2: a Qwen2 that answers 1 or 0, its two sizes with a shift of their own before the sigmoid.

A conversion to a single label has the weights of 1 less those of 0 in its head, and the same prompt.
"""

from __future__ import annotations

from reranker_batch.core.activation import Activation
from reranker_batch.model.recipes.recipe import Prompt, Recipe

_PROMPT = Prompt(
    pieces=(
        "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\n"
        "<|im_start|>user\n",
        "{instruct}query: {query}",
        "\n",
        "document: {document}",
        "\n",
        "You are a search relevance expert who evaluates how well documents match search queries. For each "
        "query-document pair, carefully analyze the semantic relationship between them, then provide your binary "
        "relevance judgment (0 for not relevant, 1 for relevant).\nRelevance:",
        "<|im_end|>\n<|im_start|>assistant\n",
    ),
    positive="1",
    negative="0",
    instruct_line="instruction: {}\n",
)
_SOURCE = "https://github.com/mixedbread-ai/mxbai-rerank (mxbai_rerank_v2.py: prompt, estimated_max / 2 as the shift)"


def _size(name: str, *, hidden_size: int, shift: float) -> Recipe:
    return Recipe(
        name=f"mxbai-rerank-{name}-v2",
        description="Generative model that judges a document by the query; the logit is 1 minus 0, shifted for 0..1.",
        source=_SOURCE,
        version=1,
        model_types=frozenset({"qwen2"}),
        architectures=("Qwen2ForCausalLM", "Qwen2ForSequenceClassification"),
        examples=(f"mixedbread-ai/mxbai-rerank-{name}-v2",),
        activation=Activation(shift=shift),
        prompt=_PROMPT,
        max_tokens=8192,
        repositories=rf"mixedbread-ai/mxbai-rerank-{name}-v2",
        hidden_sizes=frozenset({hidden_size}),
    )


MXBAI_RERANK_BASE_V2 = _size("base", hidden_size=896, shift=4.5)
MXBAI_RERANK_LARGE_V2 = _size("large", hidden_size=1536, shift=6.0)
