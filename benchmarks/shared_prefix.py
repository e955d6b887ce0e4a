"""Time a causal reranker with and without sharing what all documents of a query have in common.

Both run the same packed forward in turns on the same pairs; only the prefixes (system text, instruction and query) are
computed once a query or once a pair. Weights are random: time does not depend on them.

    python benchmarks/shared_prefix.py --document-tokens 75 --documents 50 --queries 4
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace

import numpy as np
import torch
from transformers import AutoModelForCausalLM, Qwen3Config

from reranker_batch.core.inputs import TokenInputs
from reranker_batch.core.ragged import Ragged
from reranker_batch.model.forward.causal import SharedPrefixForward

# The sizes of Qwen3-Reranker-0.6B; fewer layers and words, which the ratio does not depend on.
_SIZES = {
    "hidden_size": 1024,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "intermediate_size": 3072,
    "vocab_size": 1000,
    "max_position_embeddings": 32_768,
}
_PREFIX_TOKENS, _SUFFIX_TOKENS = 85, 9


def draw_pairs(queries: int, documents: int, document_tokens: int) -> TokenInputs:
    """Queries of 8 to 24 tokens behind the fixed text, documents of the asked length give or take a third."""
    rng = np.random.default_rng(0)
    inputs, groups, prefix_tokens = [], [], []
    for query in range(queries):
        prefix = rng.integers(0, 1000, _PREFIX_TOKENS - 16 + rng.integers(8, 25))
        for _ in range(documents):
            length = rng.integers(document_tokens * 2 // 3, document_tokens * 4 // 3 + 1)
            inputs.append(np.concatenate([prefix, rng.integers(0, 1000, length + _SUFFIX_TOKENS)]))
            groups.append(query)
            prefix_tokens.append(len(prefix))
    return replace(
        TokenInputs.of_ids(Ragged.from_lists(inputs)),
        groups=np.array(groups, dtype=np.int64),
        prefix_tokens=np.array(prefix_tokens, dtype=np.int32),
    )


def score(forward: SharedPrefixForward, pairs: TokenInputs, budget: int) -> tuple[float, torch.Tensor, int]:
    """Seconds, logits in order, and tokens computed."""
    started = time.perf_counter()
    batches = list(forward.micro_batches(pairs, max_batch_tokens=budget))
    with torch.inference_mode():
        parts = torch.cat([forward(pairs, rows) for rows in batches]).cpu()
    seconds = time.perf_counter() - started
    logits = torch.empty(len(pairs))
    logits[torch.from_numpy(np.concatenate(batches))] = parts
    return seconds, logits, sum(forward.tokens(pairs, rows) for rows in batches)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--queries", type=int, default=2)
    parser.add_argument("--documents", type=int, default=50)
    parser.add_argument("--document-tokens", type=int, default=75)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--budget", type=int, default=4096)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--dtype", default="float32")
    asked = parser.parse_args()
    if asked.threads:
        torch.set_num_threads(asked.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(Qwen3Config(**_SIZES, num_hidden_layers=asked.layers))
    model = model.to(device, getattr(torch, asked.dtype)).eval()
    drawn = draw_pairs(asked.queries, asked.documents, asked.document_tokens)
    weights = torch.randn(_SIZES["hidden_size"]) / _SIZES["hidden_size"] ** 0.5
    forward = SharedPrefixForward(model, weights, device)
    inputs = {False: TokenInputs.of_ids(drawn.ids), True: drawn}
    seconds: dict[bool, list[float]] = {False: [], True: []}
    logits: dict[bool, torch.Tensor] = {}
    tokens: dict[bool, int] = {}
    for _ in range(asked.rounds + 1):
        for is_shared, pairs in inputs.items():
            spent, logits[is_shared], tokens[is_shared] = score(forward, pairs, asked.budget)
            seconds[is_shared].append(spent)
    apart, shared = (min(seconds[is_shared][1:]) for is_shared in (False, True))
    size = f"{asked.documents} documents a query of about {asked.document_tokens} tokens"
    print(f"{len(drawn)} pairs, {size}, {device}, {asked.dtype}")
    print(f"tokens: {tokens[False]:,} apart, {tokens[True]:,} shared: {tokens[False] / tokens[True]:.2f}x")
    print(f"seconds (best of {asked.rounds}): {apart:.2f} apart, {shared:.2f} shared: {apart / shared:.2f}x")
    print(f"largest difference of a logit: {(logits[True] - logits[False]).abs().max():.2g}")


if __name__ == "__main__":
    main()
