"""Why models of some families are not served, for messages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_HASHES = "its attention hashes at random, so that a pair has another score each time"
_APPROXIMATES = "its attention is an approximation that changes with the padding of a micro-batch"
_NEEDS_MORE = "it reads more than a query and a document (places on a page, entities or table cells)"
_DECODES = "its label is read where a decoder ends, which no recipe does"
_WRITTEN_IN_PYTHON = "its tokenizer is not one of the tokenizers library, which is needed to cut texts exactly"
_READS_CHARACTERS = "it reads characters or bytes, and recipes count and cut tokens"
_LISTWISE = "It scores all documents of a request at once, and is known here as a Qwen3 alone."

_TYPES: Mapping[str, str] = {
    "reformer": _HASHES,
    "yoso": _HASHES,
    "mra": _APPROXIMATES,
    "nystromformer": _APPROXIMATES,
    **dict.fromkeys(("layoutlm", "layoutlmv2", "layoutlmv3", "lilt", "luke", "markuplm", "tapas"), _NEEDS_MORE),
    **dict.fromkeys(("bart", "bigbird_pegasus", "led", "mbart", "mt5", "mvp", "plbart", "t5", "umt5"), _DECODES),
    "flaubert": _WRITTEN_IN_PYTHON,
    "xlm": _WRITTEN_IN_PYTHON,
    "canine": _READS_CHARACTERS,
    "perceiver": _READS_CHARACTERS,
    "funnel": "its tokenizer gives the first token a type of its own, which recipes do not pass on",
    "ibert": "it may compute in whole numbers, which was not compared with anything here",
    "xlnet": "its label is read at the last place of a row, which padding moves",
    "xmod": "it needs to be told the language of each text",
    "esm": "it reads proteins",
    "esmc": "it reads proteins",
}
"""By `model_type`, for models that transformers loads with a label."""
_CLASSES: Mapping[str, str] = {
    "JinaForRanking": _LISTWISE,
    "JinaVLForRanking": "It reads images.",
    "HF_ColBERT": "It embeds every token (late interaction), and is no cross-encoder.",
    "LayerWiseMiniCPMForCausalLM": "Its layers each give a score, by code of its own that is not run.",
    "CostWiseGemmaForCausalLM": "It drops tokens between layers, by code of its own that is not run.",
    "ForTokenClassification": "It labels single tokens.",
    "ForQuestionAnswering": "It finds answers within a text.",
    "ForMaskedLM": "It fills in masked words: a language model, or one of sparse embeddings (SPLADE).",
    "CLIPModel": "It embeds images and texts.",
}
"""By the end of a class in `architectures`."""


def reason_of_class(architectures: Sequence[str]) -> str | None:
    """Why models of one of these classes are not served, where that is known."""
    return next((why for end, why in _CLASSES.items() for item in architectures if item.endswith(end)), None)


def reason_of_type(config: Mapping[str, Any]) -> str | None:
    """Why a model with a label of this `model_type` is not served, where that is known."""
    why = _TYPES.get(str(config.get("model_type")))
    return None if why is None else f"It is a {config['model_type']} model: {why}. Use a reranker of another family."
