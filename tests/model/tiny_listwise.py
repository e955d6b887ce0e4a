"""Random-weight models in the layouts of jina-reranker-v3 and v3.5, and what the vendor's code makes of a request.

The reference is written out from the vendor's code: the prompt as one string, read by the raw tokenizer; transformers'
Qwen3 and two linear layers.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import transformers
from families import enlarge
from safetensors.torch import load_file, save_file
from tiny_causal import jina
from tokenizers import Tokenizer
from torch.nn import functional

HIDDEN, DIMENSIONS = 32, 24
WINDOW = 16
EMBED, RERANK = "<|embed_token|>", "<|rerank_token|>"
_SIZES = {
    "hidden_size": HIDDEN,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "intermediate_size": 48,
    "max_position_embeddings": 131_072,
    "tie_word_embeddings": True,
}
_LAYERS = {
    "jina-reranker-v3": {},
    "jina-reranker-v3.5": {
        "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
        "use_sliding_window": True,
        "sliding_window": WINDOW,
    },
}
VERSIONS = tuple(_LAYERS)
LIMITS = {"jina-reranker-v3": (512, 2048), "jina-reranker-v3.5": (1024, 8192)}
Vectors = npt.NDArray[np.float64]


def save_listwise(
    name: str, folder: Path, *, dtype: torch.dtype = torch.float32, maximum: int = 131_072, **changes: Any
) -> Path:
    """A folder as published. The two layers of the projector are those of `projector` in `changes`, if given."""
    more = changes.pop("weights", {})
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = jina()
    tokenizer.save_pretrained(folder)
    _change(folder / "tokenizer_config.json", model_max_length=maximum)
    special = {"pad_token_id": tokenizer.pad_token_id, "bos_token_id": None, "eos_token_id": None}
    config = transformers.Qwen3Config(**{**_SIZES, "vocab_size": len(tokenizer), **special, **_LAYERS[name], **changes})
    model = transformers.Qwen3Model(config)
    enlarge(model, 0)
    config.save_pretrained(folder)
    own = {"architectures": ["JinaForRanking"], "auto_map": {"AutoModel": "modeling.JinaForRanking"}}
    _change(folder / "config.json", **own, **_LAYERS[name])
    rng = torch.Generator().manual_seed(1)
    weights = {f"model.{key}": weight.to(dtype) for key, weight in model.state_dict().items()}
    weights["projector.0.weight"] = (torch.randn(HIDDEN // 2, HIDDEN, generator=rng) * 0.3).to(dtype)
    weights["projector.2.weight"] = (torch.randn(DIMENSIONS, HIDDEN // 2, generator=rng) * 0.3).to(dtype)
    weights |= more
    kept = {key: weight.contiguous() for key, weight in weights.items() if weight is not None}
    save_file(kept, folder / "model.safetensors", {"format": "pt"})
    return folder


def _change(path: Path, **values: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def prompt_of(name: str, query: str, documents: Sequence[str], instruct: str | None = None) -> str:
    """The whole prompt of one block, as the vendor's code writes it."""
    prefix = (
        "<|im_start|>system\nYou are a search relevance expert who can determine a ranking of the passages based on how"
        " relevant they are to the query. If the query is a question, how relevant a passage is depends on how well it "
        "answers the question. If not, try to analyze the intent of the query and assess how well each passage "
        "satisfies the intent. If an instruction is provided, you should follow the instruction when determining the "
        "ranking.<|im_end|>\n<|im_start|>user\n"
    )
    first = f"{query}{RERANK}" if name == "jina-reranker-v3.5" else query
    prompt = f"I will provide you with {len(documents)} passages, each indicated by a numerical identifier. "
    prompt += f"Rank the passages based on their relevance to query: {first}\n"
    if instruct:
        prompt += f"<instruct>\n{instruct}\n</instruct>\n"
    passages = [f'<passage id="{at}">\n{text}{EMBED}\n</passage>' for at, text in enumerate(documents)]
    prompt += "\n".join(passages) + f"\n<query>\n{query}{RERANK}\n</query>"
    return f"{prefix}{prompt}<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"


@dataclass(frozen=True)
class Vendor:
    """What the vendor's code computes with a folder."""

    name: str
    folder: Path
    maximum: int = 131_072
    instruct: str | None = None

    @cached_property
    def raw(self) -> Tokenizer:
        return Tokenizer.from_file(str(self.folder / "tokenizer.json"))

    @cached_property
    def weights(self) -> dict[str, torch.Tensor]:
        return {key: weight.float() for key, weight in load_file(self.folder / "model.safetensors").items()}

    @cached_property
    def model(self) -> Any:
        settings = json.loads((self.folder / "config.json").read_text())
        config = transformers.Qwen3Config(**{key: value for key, value in settings.items() if key != "auto_map"})
        config._attn_implementation = "sdpa"
        model = transformers.Qwen3Model(config).eval()
        own = {key[6:]: weight for key, weight in self.weights.items() if key.startswith("model.")}
        model.load_state_dict(own)
        return model

    def cut(self, text: str, limit: int) -> tuple[str, int]:
        """The text without marks, up to the token after the last that is kept; and its tokens."""
        bare = text.replace(RERANK, "").replace(EMBED, "")
        read = self.raw.encode(bare)
        if len(read.ids) <= limit:
            return bare, len(read.ids)
        return bare[: read.offsets[limit][0]], limit

    def blocks(self, query: str, documents: Sequence[str]) -> list[str]:
        """The prompts of all blocks."""
        most_query, most_document = LIMITS[self.name]
        most_query, most_document = min(most_query, self.maximum // 8), min(most_document, self.maximum // 2)
        query, query_tokens = self.cut(query, most_query)
        capacity, block, blocks = self.maximum - 2 * query_tokens, list[str](), list[list[str]]()
        for text in documents:
            kept, tokens = self.cut(text, most_document)
            block.append(kept)
            capacity -= tokens
            if len(block) >= 125 or capacity <= most_document:
                blocks.append(block)
                capacity, block = self.maximum - 2 * query_tokens, []
        blocks += [block] if block else []
        return [prompt_of(self.name, query, block, self.instruct) for block in blocks]

    def vectors(self, prompt: str) -> tuple[Vectors, Vectors]:
        """Those of the documents, and that of the query."""
        read = self.raw.encode(prompt)
        with torch.inference_mode():
            states = self.model(input_ids=torch.tensor([read.ids]), use_cache=False).last_hidden_state[0]
            hidden = functional.relu(states @ self.weights["projector.0.weight"].T)
            vectors = (hidden @ self.weights["projector.2.weight"].T).double().numpy()
        spelled = np.array(read.tokens)
        return vectors[spelled == EMBED], vectors[spelled == RERANK][-1]

    def scores(self, query: str, documents: Sequence[str]) -> Vectors:
        each = [self.vectors(prompt) for prompt in self.blocks(query, documents)]
        weights = [((1 + _cosines(found, asked)) / 2).max() for found, asked in each]
        mean = np.average([asked for _, asked in each], axis=0, weights=weights)
        return _cosines(np.concatenate([found for found, _ in each]), mean)


def _cosines(documents: Vectors, query: Vectors) -> Vectors:
    norms = np.linalg.norm(documents, axis=1) * np.linalg.norm(query)
    cosines: Vectors = documents @ query / norms
    return cosines
