"""However a repository stores the weights and settings of a cross-encoder, its logits are those of transformers."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from tiny_models import save_model

from reranker_batch.errors import ModelError
from reranker_batch.model.checks.start import score_pairs, start_scorer
from reranker_batch.model.encoding.tokenizing import load_pair_encoder
from reranker_batch.model.quiet import quiet_loading
from reranker_batch.model.recipes import choose_recipe
from reranker_batch.model.source.files import resolve_model

Weights = dict[str, torch.Tensor]
Change = Callable[[Path], None]
PAIRS = [("what is a panda?", "A bear."), ("мир", "東京都 " * 9), ("", ""), ("a", "def f(x): return 3.14")]
LAYER = "bert.encoder.layer.0.attention.output"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with quiet_loading():
        return save_model("bert", tmp_path_factory.mktemp("bert"))


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "model"))


def weights(change: Callable[[Weights], Weights]) -> Change:
    def rewrite(folder: Path) -> None:
        path = folder / "model.safetensors"
        changed = {name: weight.contiguous() for name, weight in change(load_file(path)).items()}
        save_file(changed, path, metadata={"format": "pt"})

    return rewrite


def settings(name: str, **values: Any) -> Change:
    def rewrite(folder: Path) -> None:
        path = folder / name
        content = json.loads(path.read_text()) | values
        path.write_text(json.dumps({key: value for key, value in content.items() if value != "gone"}))

    return rewrite


def older_names(found: Weights) -> Weights:
    """As checkpoints converted from TensorFlow have them."""
    return {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): weight
        for name, weight in found.items()
    }


def sharded(folder: Path) -> None:
    found = load_file(folder / "model.safetensors")
    names = sorted(found)
    (folder / "model.safetensors").unlink()
    places: dict[str, str] = {}
    for at, part in enumerate((names[::2], names[1::2])):
        file = f"model-0000{at + 1}-of-00002.safetensors"
        save_file({name: found[name] for name in part}, folder / file, metadata={"format": "pt"})
        places |= dict.fromkeys(part, file)
    index = {"metadata": {"total_size": 1}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def with_truncation(folder: Path) -> None:
    path = folder / "tokenizer.json"
    cut: dict[str, Any] = {"direction": "Right", "max_length": 8, "strategy": "LongestFirst", "stride": 0}
    pad: dict[str, Any] = {"strategy": {"Fixed": 64}, "direction": "Right", "pad_to_multiple_of": None}
    pad |= {"pad_id": 0, "pad_type_id": 0, "pad_token": "[PAD]"}
    path.write_text(json.dumps(json.loads(path.read_text()) | {"truncation": cut, "padding": pad}))


def vocabulary_alone(folder: Path) -> None:
    vocab = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]
    (folder / "vocab.txt").write_text("\n".join(sorted(vocab, key=vocab.__getitem__)) + "\n")
    (folder / "tokenizer.json").unlink()


def as_modules(folder: Path) -> None:
    module = {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"}
    (folder / "modules.json").write_text(json.dumps([module]))
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 64, "do_lower_case": False}))


def half(dtype: torch.dtype) -> Change:
    return weights(lambda found: {name: weight.to(dtype) for name, weight in found.items()})


LAYOUTS: dict[str, Change] = {
    "as saved": lambda folder: None,
    "bfloat16": half(torch.bfloat16),
    "float16": half(torch.float16),
    "several files": sharded,
    "older names": weights(older_names),
    "position_ids": weights(lambda found: found | {"bert.embeddings.position_ids": torch.arange(64)[None]}),
    "heads of its training": weights(
        lambda found: found | {"cls.predictions.bias": torch.zeros(800), "cls.seq_relationship.bias": torch.zeros(2)}
    ),
    "no class named": settings("config.json", architectures="gone"),
    "num_labels": settings("config.json", id2label="gone", label2id="gone", num_labels=1),
    "return_dict": settings("config.json", return_dict=False, output_hidden_states=True),
    "attention of its author": settings("config.json", attn_implementation="flash_attention_2"),
    "no maximum of tokens": settings("tokenizer_config.json", model_max_length=10**30),
    "null as maximum": settings("tokenizer_config.json", model_max_length=None),
    "left padding": settings("tokenizer_config.json", padding_side="left"),
    "truncation and padding saved": with_truncation,
    "a vocabulary alone": vocabulary_alone,
    "modules": as_modules,
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_logits_are_those_of_transformers_in_every_layout(folder: Path, name: str) -> None:
    LAYOUTS[name](folder)
    files = resolve_model(str(folder))
    recipe = choose_recipe(folder, files.config(), model=str(folder)).recipe
    ours = score_pairs(start_scorer(folder, recipe=recipe), load_pair_encoder(folder, recipe=recipe), PAIRS)
    with quiet_loading():
        tokenizer: Any = transformers.AutoTokenizer.from_pretrained(folder)
        model: Any = transformers.AutoModelForSequenceClassification.from_pretrained(
            folder, dtype=torch.float32, attn_implementation="eager", return_dict=True
        )
    tokenizer.backend_tokenizer.no_truncation()
    with torch.inference_mode():
        theirs = [model.eval()(**tokenizer([q], [d], return_tensors="pt")).logits.item() for q, d in PAIRS]
    np.testing.assert_allclose(ours, np.array(theirs, dtype=np.float32), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (
            weights(lambda found: {name: found[name] for name in found if name != "classifier.weight"}),
            "head of the model",
        ),
        (weights(lambda found: {name: found[name] for name in found if LAYER not in name}), "Weights are missing"),
        (weights(lambda found: found | {"bert.extra.weight": torch.zeros(2)}), "are not used by"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"half of a file"), "not a whole safetensors file"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b""), "not a whole safetensors file"),
    ],
    ids=["no head", "no layer", "one more", "cut", "empty"],
)
def test_weights_of_another_model_are_refused(folder: Path, change: Change, reason: str) -> None:
    """The twin is the layout as saved."""
    change(folder)
    recipe = choose_recipe(folder, resolve_model(str(folder)).config(), model=str(folder)).recipe
    with pytest.raises(ModelError, match=reason):
        start_scorer(folder, recipe=recipe)
