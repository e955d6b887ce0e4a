"""zerank: a Qwen3 with the query as the system text and the document as the user's; the logit of "Yes" is the score."""

from __future__ import annotations

from reranker_batch.core.activation import Activation
from reranker_batch.model.recipes.recipe import Prompt, Recipe

_BEFORE = "<|im_start|>system"
_AFTER = ("<|im_end|>\n<|im_start|>user", "\n{document}", "<|im_end|>\n<|im_start|>assistant\n")

ZERANK = Recipe(
    name="zerank",
    description='Generative model that reads the query as system text; the logit is that of "Yes", a fifth for 0..1.',
    source="https://huggingface.co/zeroentropy/zerank-2 (chat template, 1_LogitScore, model card: sigmoid(score / 5))",
    version=1,
    model_types=frozenset({"qwen3"}),
    architectures=("Qwen3ForCausalLM",),
    examples=("zeroentropy/zerank-1, zerank-1-small, zerank-2",),
    activation=Activation(scale=0.2),
    prompt=Prompt(
        pieces=(_BEFORE, "\n{query}", *_AFTER),
        instructed_pieces=(_BEFORE, "\n<query>{query}</query>\n<instruction>{instruct}</instruction>", *_AFTER),
        positive="Yes",
        negative=None,
        lead="\n",
        is_one_text=True,
    ),
    max_tokens=32768,
    repositories=r"zeroentropy/zerank-(1|1-small|2)(-reranker)?",
)
