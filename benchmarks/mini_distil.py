"""First lesson of `builtin:mini`: give texts the vectors that the whole starting model gives them.

Cutting layers and features out of a model breaks what it knows. A vector a text is a far richer signal than a
label a pair, so that a few hundred steps bring most of it back before the model learns to read pairs.
"""

import random
import time

import numpy as np
import torch
from torch.nn import functional

BATCH_TEXTS = 64
TEXT_TOKENS = 96
PEAK_RATE = 6e-4
WARM_UP_STEPS = 40
STEPS_TO_ZERO = 600
"""The learning rate falls in a line that would end here; training may end before."""
SIMILARITY_WEIGHT = 5.0


def distil(encoder, tokenizer, texts: list[str], vectors: torch.Tensor, *, num_steps: int, seed: int) -> None:
    """Teach mean-pooled token states to equal `vectors` [texts, hidden], and their similarities within a batch."""
    optimizer = torch.optim.AdamW(encoder.parameters(), lr=PEAK_RATE, weight_decay=0.01, fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / WARM_UP_STEPS, max(0.02, 1 - step / STEPS_TO_ZERO))
    )
    encoder.train()
    started, distances = time.monotonic(), []
    for step, places in enumerate(text_batches(texts, num_steps, seed), start=1):
        pooled = pool(encoder, tokenizer, [texts[place] for place in places])
        expected = vectors[places]
        distance = (1 - (pooled * expected).sum(-1)).mean()
        similarity = functional.mse_loss(pooled @ pooled.T, expected @ expected.T)
        (distance + SIMILARITY_WEIGHT * similarity).backward()
        torch.nn.utils.clip_grad_norm_(encoder.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        distances.append(distance.item())
        if step % 25 == 0:
            passed = time.monotonic() - started
            print(f"step {step}/{num_steps}, distance {np.mean(distances[-25:]):.4f}, {passed:.0f} s", flush=True)


def pool(encoder, tokenizer, texts: list[str]) -> torch.Tensor:
    """Normalized mean of the token states of each text, [texts, hidden]."""
    inputs = tokenizer(texts, truncation=True, max_length=TEXT_TOKENS, padding=True, return_tensors="pt")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        states = encoder(**inputs).last_hidden_state.float()
    mask = inputs["attention_mask"][..., None].float()
    return functional.normalize((states * mask).sum(1) / mask.sum(1), dim=-1)


def text_batches(texts: list[str], num_batches: int, seed: int) -> list[list[int]]:
    """Batches of texts of similar length, in random order."""
    chance = random.Random(seed)
    window = 64 * BATCH_TEXTS
    batches: list[list[int]] = []
    while len(batches) < num_batches:
        places = list(range(len(texts)))
        chance.shuffle(places)
        for start in range(0, len(places) - window, window):
            near = sorted(places[start : start + window], key=lambda place: len(texts[place]))
            cut = [near[at : at + BATCH_TEXTS] for at in range(0, window, BATCH_TEXTS)]
            chance.shuffle(cut)
            batches += cut
    return batches[:num_batches]
