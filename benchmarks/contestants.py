"""Ways to score pairs of texts, ours and others', behind one seam: load once, then texts in, float32 logits out.

Nothing is imported before a contestant is loaded, so that each runs in the environment of its own.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

Pairs = list[tuple[str, str]]
BUDGETS = {"cpu": 4096, "cuda": 32768}
"""Tokens a batch of the ablation."""
PEAK_SIZES = {"cpu": (1024, 2048), "cuda": (4096, 8192)}


@dataclass(frozen=True)
class Entry:
    """A contestant as it is named on the command line: `kind:dtype` and perhaps `:batch`.

    `batch` is a number of pairs, or `best`: whichever of a few is quickest on some pairs of the workload, found before
    the first round. Without one the contestant's own default holds.
    """

    kind: str
    dtype: str
    batch: str = ""

    @classmethod
    def parse(cls, text: str) -> Entry:
        kind, _, rest = text.partition(":")
        dtype, _, batch = rest.partition(":")
        if kind not in KINDS or dtype not in DTYPES or not (batch in ("", "best") or batch.isdigit()):
            raise ValueError(
                f"{text!r} is not KIND:DTYPE or KIND:DTYPE:BATCH. Kinds: {', '.join(KINDS)}; dtypes: "
                f"{', '.join(DTYPES)}; batch: a number, or best."
            )
        return cls(kind, dtype, batch)

    def __str__(self) -> str:
        return ":".join(part for part in (self.kind, self.dtype, self.batch) if part)


class Contestant(Protocol):
    """A loaded model. `batch_size` may be set between calls."""

    batch_size: int | None
    computed_tokens: int | None
    """Tokens that the last call put through the model, padding included; None where it cannot be seen."""

    def score(self, pairs: Pairs) -> Any:
        """One raw logit a pair, in order."""


class Ours:
    """This package, from texts: every distinct text is tokenized once, pairs are put together from ids."""

    batch_size = None

    def __init__(self, folder: Path, entry: Entry, *, device: str, recipe: str, max_tokens: int) -> None:
        from reranker_batch.model.checks.start import start_scorer
        from reranker_batch.model.encoding.tokenizing import load_pair_encoder
        from reranker_batch.model.recipes import choose_recipe
        from reranker_batch.model.source.files import read_config

        found = choose_recipe(folder, read_config(folder), model=str(folder), name=recipe).recipe
        self._encoder = load_pair_encoder(folder, recipe=found)
        self._scorer = start_scorer(folder, recipe=found, dtype=entry.dtype, device=device)
        self._inputs: Any = None

    @property
    def computed_tokens(self) -> int:
        forward = self._scorer.forward
        batches = forward.micro_batches(self._inputs, max_batch_tokens=self._scorer.max_batch_tokens)
        return sum(forward.tokens(self._inputs, rows) for rows in batches)

    def score(self, pairs: Pairs) -> Any:
        queries, query_at = self._read([query for query, _ in pairs])
        documents, document_at = self._read([document for _, document in pairs])
        self._inputs = self._encoder.encode_pairs(
            queries, documents, query_at, document_at, max_pair_tokens=self._encoder.max_pair_tokens
        ).inputs
        return self._scorer.score(self._inputs).logits

    def _read(self, texts: list[str]) -> tuple[Any, Any]:
        place = {text: at for at, text in enumerate(dict.fromkeys(texts))}
        at = np.fromiter((place[text] for text in texts), dtype=np.int64, count=len(texts))
        return self._encoder.encode_texts(list(place), max_tokens=None), at


class CrossEncoder:
    """sentence-transformers: `predict`, which sorts by characters and pads batches of 32."""

    backend = "torch"

    def __init__(self, folder: Path, entry: Entry, *, device: str, recipe: str, max_tokens: int) -> None:
        import sentence_transformers
        import torch

        # A checkpoint would else be loaded in the dtype it was saved in. OpenVINO chooses its own.
        kwargs = {"dtype": getattr(torch, entry.dtype)} if self.backend == "torch" else {}
        self._model = sentence_transformers.CrossEncoder(
            str(folder), device=device, backend=self.backend, model_kwargs=kwargs, local_files_only=True
        )
        self._activation = torch.nn.Identity()
        self._count_tokens()
        self.batch_size = None

    def _count_tokens(self) -> None:
        """Look at what goes into the model, where the version of sentence-transformers has a place for it."""
        self.computed_tokens = None
        preprocess = getattr(self._model, "preprocess", None)
        if preprocess is None:
            return
        self.computed_tokens = 0

        def counting(*args: Any, **kwargs: Any) -> Any:
            features = preprocess(*args, **kwargs)
            self.computed_tokens += features["input_ids"].numel()
            return features

        self._model.preprocess = counting

    def score(self, pairs: Pairs) -> Any:
        self.computed_tokens = None if self.computed_tokens is None else 0
        batch: dict[str, Any] = {"batch_size": self.batch_size} if self.batch_size else {}
        return self._model.predict(pairs, activation_fn=self._activation, show_progress_bar=False, **batch)


class OpenVino(CrossEncoder):
    """sentence-transformers with its OpenVINO backend, which picks bfloat16 by itself where the CPU has it."""

    backend = "openvino"


class Transformers:
    """Plain transformers and twenty lines: sort by token length, pad batches of a token budget. The honest ablation."""

    def __init__(self, folder: Path, entry: Entry, *, device: str, recipe: str, max_tokens: int) -> None:
        import torch
        from transformers import AutoConfig, AutoTokenizer

        self._torch = torch
        self._device = device
        self._tokenizer = AutoTokenizer.from_pretrained(folder)
        self._is_causal = AutoConfig.from_pretrained(folder).architectures[0].endswith("ForCausalLM")
        settings = {"dtype": getattr(torch, entry.dtype), "attn_implementation": "sdpa"}
        self._model = self._model_class.from_pretrained(folder, **settings).to(device).eval()
        self._budget = max(BUDGETS[device], max_tokens)
        self.batch_size = None
        self.computed_tokens = 0

    @property
    def _model_class(self) -> Any:
        import transformers

        task = "CausalLM" if self._is_causal else "SequenceClassification"
        return getattr(transformers, f"AutoModelFor{task}")

    def score(self, pairs: Pairs) -> Any:
        encodings = self._encode(pairs)
        lengths = [len(ids) for ids in encodings["input_ids"]]
        logits = np.empty(len(pairs), dtype=np.float32)
        self.computed_tokens = 0
        batches, done = self._batches(pairs, lengths), []
        for rows in batches:
            batch = {name: [values[row] for row in rows] for name, values in encodings.items()}
            inputs = self._tokenizer.pad(batch, return_tensors="pt").to(self._device)
            self.computed_tokens += inputs["input_ids"].numel()
            with self._torch.inference_mode():
                done.append(self._logits(inputs))
        logits[[row for rows in batches for row in rows]] = self._torch.cat(done).float().cpu().numpy()
        return logits

    def _encode(self, pairs: Pairs) -> Any:
        if not self._is_causal:
            return self._tokenizer([query for query, _ in pairs], [document for _, document in pairs])
        messages = (
            [{"role": "query", "content": query}, {"role": "document", "content": document}]
            for query, document in pairs
        )
        texts = [self._tokenizer.apply_chat_template(message, tokenize=False) for message in messages]
        return self._tokenizer(texts, add_special_tokens=False)

    def _logits(self, inputs: Any) -> Any:
        if not self._is_causal:
            return self._model(**inputs).logits[:, 0]
        yes, no = (self._tokenizer.convert_tokens_to_ids(answer) for answer in ("yes", "no"))
        last = self._model(**inputs, logits_to_keep=1, use_cache=False).logits[:, -1].float()
        return last[:, yes] - last[:, no]

    def _batches(self, pairs: Pairs, lengths: Sequence[int]) -> list[list[int]]:
        batches: list[list[int]] = []
        room = 0
        for row in sorted(range(len(lengths)), key=lambda row: -lengths[row]):
            if not room:
                batches.append([])
                room = self.batch_size or self._budget // lengths[row]
            batches[-1].append(row)
            room -= 1
        return batches


class ByCharacters(Transformers):
    """Plain transformers batched as sentence-transformers batches, where that is not installed."""

    def _batches(self, pairs: Pairs, lengths: Sequence[int]) -> list[list[int]]:
        rows = sorted(range(len(pairs)), key=lambda row: -len(pairs[row][0]) - len(pairs[row][1]))
        size = self.batch_size or 32
        return [rows[at : at + size] for at in range(0, len(rows), size)]


class FlagEmbedding:
    """FlagReranker of FlagEmbedding, whose default is batches of 128."""

    computed_tokens = None

    def __init__(self, folder: Path, entry: Entry, *, device: str, recipe: str, max_tokens: int) -> None:
        from FlagEmbedding import FlagReranker

        self._model = FlagReranker(
            str(folder),
            use_fp16=entry.dtype == "float16",
            use_bf16=entry.dtype == "bfloat16",
            devices=device,
            max_length=max_tokens,
        )
        self.batch_size = None

    def score(self, pairs: Pairs) -> Any:
        batch: dict[str, Any] = {"batch_size": self.batch_size} if self.batch_size else {}
        return self._model.compute_score([list(pair) for pair in pairs], normalize=False, **batch)


class Vllm:
    """vLLM's offline engine as a cross-encoder; the build for CPUs has no choice of batch but its own scheduler."""

    computed_tokens = None

    def __init__(self, folder: Path, entry: Entry, *, device: str, recipe: str, max_tokens: int) -> None:
        os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
        os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
        # It would use one thread a physical core, and leave one of them to a server that is not there.
        cores = os.cpu_count() or 1
        os.environ.setdefault("OMP_NUM_THREADS", str(cores))
        os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", f"0-{cores - 1}")
        os.environ.setdefault("VLLM_CPU_NUM_OF_RESERVED_CPU", "0")
        from vllm import LLM, PoolingParams

        self._model = LLM(
            model=str(folder),
            runner="pooling",
            dtype=entry.dtype,
            max_model_len=max_tokens,
            max_num_batched_tokens=8192,
            max_num_seqs=128,
        )
        self._raw = PoolingParams(use_activation=False)
        self.batch_size = None

    def score(self, pairs: Pairs) -> Any:
        outputs = self._model.score(
            [query for query, _ in pairs],
            [document for _, document in pairs],
            pooling_params=self._raw,
            use_tqdm=False,
        )
        return [output.outputs.score for output in outputs]


class Peak:
    """No model: what the machine gives for a matrix product alone."""

    seconds = 0.5

    def __init__(self, entry: Entry, *, device: str) -> None:
        import torch

        self._torch = torch
        self._dtype = getattr(torch, entry.dtype)
        self._device = device

    def measure(self) -> float:
        """Floating-point operations a second: the best of some square products, each repeated for half a second."""
        return max(self._rate(size) for size in PEAK_SIZES[self._device])

    def _rate(self, size: int) -> float:
        import time

        one, other = (self._torch.randn(size, size, device=self._device).to(self._dtype) for _ in range(2))
        self._products(one, other, 2)
        count, start = 0, time.perf_counter()
        while (spent := time.perf_counter() - start) < self.seconds:
            self._products(one, other, 5)
            count += 5
        return 2 * math.pow(size, 3) * count / spent

    def _products(self, one: Any, other: Any, count: int) -> None:
        for _ in range(count):
            one @ other
        if self._device == "cuda":
            self._torch.cuda.synchronize()


KINDS: dict[str, type] = {
    "ours": Ours,
    "crossencoder": CrossEncoder,
    "transformers": Transformers,
    "bycharacters": ByCharacters,
    "openvino": OpenVino,
    "flagembedding": FlagEmbedding,
    "vllm": Vllm,
    "peak": Peak,
}
DTYPES = ("float32", "bfloat16", "float16", "auto")
