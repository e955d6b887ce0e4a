"""Finding a model's files, and refusing what is missing or unsafe."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from reranker_batch.errors import ModelError
from reranker_batch.model.source.files import resolve_model

GetFolder = Callable[[str], Path]


def write(folder: Path, *names: str, **config: object) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"model_type": "bert"} | config))
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("{}" if name.endswith(".json") else name)
    return folder


def test_a_local_folder_is_used_in_place(model_folder: GetFolder) -> None:
    folder = model_folder("bert")
    files = resolve_model(str(folder))
    assert (files.folder, files.revision) == (folder.resolve(), None)
    assert files.config()["model_type"] == "bert"


def test_hashes_cover_the_content_of_what_changes_a_score_and_nothing_else(tmp_path: Path) -> None:
    scored = ["model.safetensors", "tokenizer.json", "vocab.txt", "spm.model", "1_Dense/config.json"]
    other = ["README.md", "expected_logits.json", "onnx/config.json", "pytorch_model.bin", "modeling.py"]
    hashes = resolve_model(str(write(tmp_path, *scored, *other))).hashes()
    assert set(hashes) == {"config.json", *scored}
    assert hashes["vocab.txt"] == hashlib.sha256(b"vocab.txt").hexdigest()


def test_the_same_content_elsewhere_has_the_same_hashes(tmp_path: Path) -> None:
    one, other = (resolve_model(str(write(tmp_path / name, "model.safetensors"))) for name in "ab")
    assert one.hashes() == other.hashes()


def test_code_is_hashed_where_it_is_run(tmp_path: Path) -> None:
    folder = write(tmp_path, "model.safetensors", "modeling.py", auto_map={"AutoModel": "modeling.Own"})
    assert "modeling.py" in resolve_model(str(folder), trust_remote_code=True).hashes()


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"nowhere does not exist"):
        resolve_model(str(tmp_path / "nowhere"))


def test_a_folder_without_config_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no config\.json"):
        resolve_model(str(tmp_path))


def test_a_damaged_config_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": ')
    with pytest.raises(ModelError, match="JSON"):
        resolve_model(str(tmp_path))


def test_pickled_weights_are_refused_with_the_remedy(tmp_path: Path) -> None:
    folder = write(tmp_path, "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"pytorch_model\.bin.*save_pretrained"):
        resolve_model(str(folder))
    assert resolve_model(str(folder), with_weights=False).folder == folder.resolve()


def test_missing_weights_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no model\.safetensors"):
        resolve_model(str(write(tmp_path)))


@pytest.mark.parametrize(
    "names", [["adapter_config.json"], ["adapter_config.json", "adapter_model.safetensors", "model.safetensors"]]
)
def test_an_adapter_is_refused_with_the_remedy(tmp_path: Path, names: list[str]) -> None:
    with pytest.raises(ModelError, match="merge"):
        resolve_model(str(write(tmp_path, *names)))


def test_settings_of_an_adapter_that_was_merged_do_not_matter(tmp_path: Path) -> None:
    folder = write(tmp_path, "model.safetensors", "adapter_config.json")
    assert resolve_model(str(folder)).folder == folder.resolve()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("onnx/model.onnx", "ONNX"),
        ("model-Q4_K_M.gguf", "GGUF"),
        ("model.fp16.safetensors", "safetensors under a name"),
    ],
)
def test_weights_of_another_format_are_named(tmp_path: Path, name: str, said: str) -> None:
    with pytest.raises(ModelError, match=rf"{name} \({said}"):
        resolve_model(str(write(tmp_path, name, "training_args.bin")))
    assert resolve_model(str(write(tmp_path, name, "model.safetensors"))).folder == tmp_path.resolve()


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "spm.model", "tokenizer_config.json"])
def test_a_git_lfs_pointer_in_place_of_a_file_is_named(tmp_path: Path, name: str) -> None:
    folder = write(tmp_path, "model.safetensors")
    (folder / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 90866120\n")
    with pytest.raises(ModelError, match=rf"{name} is a Git LFS pointer.*git lfs pull"):
        resolve_model(str(folder))


@pytest.mark.parametrize(
    "name",
    [
        "config.json",
        "modules.json",
        "config_sentence_transformers.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "added_tokens.json",
        "generation_config.json",
        "model.safetensors.index.json",
        "expected_logits.json",
        "1_LogitScore/config.json",
        "sentence_bert_config.json",
    ],
)
@pytest.mark.parametrize("content", [b'{"a": ', b"\xff\xfe{}", b"[" * 5000 + b"]" * 5000, b"", b'{"a": ' + b"9" * 9999])
def test_a_damaged_json_file_is_named(tmp_path: Path, name: str, content: bytes) -> None:
    folder = write(tmp_path, "model.safetensors", name)
    (folder / name).write_bytes(content)
    with pytest.raises(ModelError, match=rf"{name} cannot be read as JSON"):
        resolve_model(str(folder))


@pytest.mark.parametrize("method", ["gptq", "awq", "fp8", "bitsandbytes", None])
def test_a_quantized_model_is_refused_by_name(tmp_path: Path, method: str | None) -> None:
    folder = write(tmp_path, "model.safetensors", quantization_config={"quant_method": method, "bits": 4})
    with pytest.raises(ModelError, match=f"is quantized \\({method or 'quantization_config'}"):
        resolve_model(str(folder), with_weights=False)


@pytest.mark.parametrize(
    "settings",
    [
        {"num_hidden_layers": 10**9},
        {"n_layers": 10**9},
        {"hidden_size": 10**12},
        {"vocab_size": 10**10},
        {"max_position_embeddings": 10**15},
        {"num_labels": 10**9},
        {"num_hidden_layers": "3"},
        {"num_hidden_layers": 3.5},
        {"num_hidden_layers": True},
        {"hidden_size": 0},
        {"architectures": "BertForSequenceClassification"},
        {"id2label": ["LABEL_0"]},
        {"auto_map": ["x"]},
        {"model_type": 7},
        {"model_type": "new", "architectures": ["NewForSequenceClassification"], "rope_scaling": {"type": "ntk"}},
    ],
    ids=str,
)
def test_a_config_with_values_that_no_model_has_is_refused_before_anything_is_built(
    tmp_path: Path, settings: dict[str, object]
) -> None:
    with pytest.raises(ModelError, match=r"config\.json"):
        resolve_model(str(write(tmp_path, "model.safetensors", **settings)), with_weights=False)


def test_code_for_a_class_that_transformers_has_is_refused(tmp_path: Path) -> None:
    own = {"AutoModelForSequenceClassification": "modeling.Own"}
    folder = write(tmp_path, "model.safetensors", architectures=["BertForSequenceClassification"], auto_map=own)
    with pytest.raises(ModelError, match="code of its own for a class that transformers has too"):
        resolve_model(str(folder))
    assert resolve_model(str(folder), trust_remote_code=True).folder == folder.resolve()


def test_code_of_a_tokenizer_is_refused_too(tmp_path: Path) -> None:
    folder = write(tmp_path, "model.safetensors")
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps({"auto_map": {"AutoTokenizer": ["tokenization.Own", None]}}))
    with pytest.raises(ModelError, match="code of its own"):
        resolve_model(str(folder))
    path.write_text(json.dumps({"auto_map": {"AutoTokenizer": [None, None]}}))
    assert resolve_model(str(folder)).folder == folder.resolve()


def test_code_for_a_class_that_is_not_used_does_not_matter(tmp_path: Path) -> None:
    own = {"AutoModelForMaskedLM": "modeling.Own", "AutoConfig": "configuration.Own"}
    folder = write(tmp_path, "model.safetensors", architectures=["BertForSequenceClassification"], auto_map=own)
    assert resolve_model(str(folder)).folder == folder.resolve()


@pytest.mark.parametrize("kind", ["relative_key", "relative_key_query"])
def test_positions_that_transformers_no_longer_computes_are_refused(tmp_path: Path, kind: str) -> None:
    with pytest.raises(ModelError, match=f"position_embedding_type='{kind}'"):
        resolve_model(str(write(tmp_path, "model.safetensors", position_embedding_type=kind)))
    folder = write(tmp_path, "model.safetensors", position_embedding_type="absolute")
    assert resolve_model(str(folder)).folder == folder.resolve()


def test_the_planned_files_are_required_and_those_that_differ_are_named(tmp_path: Path) -> None:
    folder = write(tmp_path, "model.safetensors", "tokenizer.json", "vocab.txt")
    files = resolve_model(str(folder))
    planned = files.hashes()
    files.require(planned)
    (folder / "model.safetensors").write_text("other weights of a run that goes on")
    files.require(planned, with_weights=False)
    with pytest.raises(ModelError, match=r"\(other content: model\.safetensors\)"):
        files.require(planned)
    (folder / "vocab.txt").unlink()
    (folder / "merges.txt").write_text("new")
    with pytest.raises(ModelError, match=r"other content: model\.safetensors; missing: vocab\.txt; new: merges\.txt\)"):
        files.require(planned)


def test_a_file_is_hashed_again_only_where_it_has_changed(tmp_path: Path) -> None:
    """Content is replaced with size and time kept, which the second reading of an unchanged file would show."""
    folder = write(tmp_path, "model.safetensors")
    files, path = resolve_model(str(folder)), folder / "model.safetensors"
    before = files.hashes()["model.safetensors"]
    times = (path.stat().st_atime_ns, path.stat().st_mtime_ns)
    path.write_text("MODEL.safetensors")
    os.utime(path, ns=times)
    assert files.hashes()["model.safetensors"] == before
    os.utime(path, ns=(times[0], times[1] + 1))
    assert files.hashes()["model.safetensors"] == hashlib.sha256(b"MODEL.safetensors").hexdigest()


def test_a_model_that_needs_its_own_code_is_refused(tmp_path: Path) -> None:
    folder = write(tmp_path, "model.safetensors", model_type="own", auto_map={"AutoModel": "modeling.Own"})
    with pytest.raises(ModelError, match=r"auto_map.*pinned"):
        resolve_model(str(folder))


def test_code_from_a_repository_that_is_not_pinned_is_refused(tmp_path: Path) -> None:
    folder = write(tmp_path, "model.safetensors", model_type="own", auto_map={"AutoModel": "some/where--modeling.Own"})
    with pytest.raises(ModelError, match="does not pin"):
        resolve_model(str(folder), trust_remote_code=True)


@pytest.mark.parametrize("revision", [None, "main", "abc123"])
def test_code_of_a_hub_model_needs_a_commit(revision: str | None) -> None:
    with pytest.raises(ModelError, match="full commit hash"):
        resolve_model("some/model", revision=revision, trust_remote_code=True)


def test_a_revision_of_a_local_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="local folder"):
        resolve_model(str(write(tmp_path, "model.safetensors")), revision="main")


def test_a_model_trained_with_a_prompt_is_refused(tmp_path: Path) -> None:
    folder = write(tmp_path, "model.safetensors")
    path = folder / "config_sentence_transformers.json"
    path.write_text(json.dumps({"prompts": {"query": "Judge: "}, "default_prompt_name": None}))
    assert resolve_model(str(folder)).folder == folder.resolve()
    path.write_text(json.dumps({"prompts": {"query": "Judge: "}, "default_prompt_name": "query"}))
    with pytest.raises(ModelError, match="'Judge: '"):
        resolve_model(str(folder))


def test_an_embedding_model_of_sentence_transformers_is_refused(tmp_path: Path) -> None:
    folder = write(tmp_path, "model.safetensors")
    modules = [{"type": "sentence_transformers.models.Transformer"}, {"type": "sentence_transformers.models.Pooling"}]
    (folder / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(ModelError, match="Pooling"):
        resolve_model(str(folder))


def test_an_unknown_builtin_model_is_refused() -> None:
    with pytest.raises(ModelError, match="does not come with the package"):
        resolve_model("builtin:maxi")


@pytest.mark.parametrize("settings", [{"HF_HUB_OFFLINE": "1"}, {"HF_ENDPOINT": "http://127.0.0.1:9"}])
def test_a_model_downloaded_before_is_used_while_the_hub_is_away(tmp_path: Path, settings: dict[str, str]) -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    cache = tmp_path / "hub/models--some--model"
    write(cache / "snapshots" / commit, "model.safetensors")
    (cache / "refs").mkdir()
    (cache / "refs/main").write_text(commit)
    code = (
        "from reranker_batch.model.source.files import resolve_model; commit = resolve_model('some/model').revision; "
        "print(resolve_model('some/model', revision=commit).revision)"
    )
    environment = os.environ | {"HF_HOME": str(tmp_path)} | settings
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.stdout.strip() == commit
    told = done.stderr.count("the hub cannot be reached; some/model is taken from the local cache")
    assert told == 1, "a process asks for a commit once"


def test_an_unreachable_hub_is_named_with_a_way_out_and_no_secret(tmp_path: Path) -> None:
    """In a process of its own, because the hub client reads its settings when it is imported."""
    code = "from reranker_batch.model.source.files import resolve_model; resolve_model('some/model')"
    settings = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path), "HF_TOKEN": "hf_secret"}
    done = subprocess.run([sys.executable, "-c", code], env=os.environ | settings, capture_output=True, text=True)
    last = done.stderr.strip().splitlines()[-1]
    assert "ModelError: Model some/model is not a local folder, and the hub cannot be reached" in last
    assert "set model.name to it" in last
    assert "hf_secret" not in done.stderr
