"""docs/labels.md from its first command to a trained student, on a slice of the demo table with small teachers."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import ir_measures
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from ir_measures import Qrel, ScoredDoc, nDCG
from safetensors.torch import load_file, save_file

from reranker_batch import rerank_table
from reranker_batch.cli import run_command
from reranker_batch.labels.reasons import MEANINGS, NEGATIVES, POSITIVES
from reranker_batch.storage.files.filesystem import resolve
from reranker_batch.uris import BUILTIN_FOLDER

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "labels.md").read_text(encoding="utf-8")
QUERIES, CANDIDATES = 8, 9


def blocks(section: str, language: str = "") -> list[str]:
    text = PAGE.split(f"\n## {section}\n")[1].split("\n## ")[0]
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def demo_slice() -> pa.Table:
    """Queries with a relevant document among their first candidates."""
    _, path = resolve("builtin:demo")
    table = pl.read_parquet(path).with_columns(candidates=pl.col("candidates").list.head(CANDIDATES))
    relevance = pl.col("candidates").list.eval(pl.element().struct.field("relevance")).list.sum()
    return table.filter(relevance == 1).head(QUERIES).to_arrow()


def second_teacher(folder: Path) -> None:
    """The model of the package with a little noise in its weights."""
    shutil.copytree(BUILTIN_FOLDER / "mini", folder, ignore=shutil.ignore_patterns("expected_logits.json"))
    torch.manual_seed(1)
    weights = load_file(folder / "model.safetensors")
    noisy = {
        name: value + 0.02 * value.std() * torch.randn_like(value) if value.dim() > 1 else value
        for name, value in weights.items()
    }
    save_file(noisy, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the page: data, configs with small models, a student."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    table = demo_slice()
    (tmp_path / "data" / "candidates").mkdir(parents=True)
    pq.write_table(table, tmp_path / "data" / "candidates" / "a.parquet")
    judged = [
        f"{row['query_id']} 0 {candidate['doc_id']} {candidate['relevance']}\n"
        for row in table.to_pylist()
        for candidate in row["candidates"]
    ]
    (tmp_path / "data" / "qrels.txt").write_text("".join(judged))
    second_teacher(tmp_path / "models" / "second")
    shutil.copytree(BUILTIN_FOLDER / "mini", tmp_path / "models" / "student")
    for name, model in {"bge": "builtin:mini", "gemma": "models/second"}.items():
        path = tmp_path / "configs" / "teachers" / f"{name}.yaml"
        values = yaml.safe_load(path.read_text())
        values["model"] = {"name": model, "device": "cpu", "precision_sample": 0}
        path.write_text(yaml.safe_dump({**values, "runtime": {"engine": "local"}}))
    return tmp_path


def ndcg(model: str) -> float:
    table = demo_slice()
    ranked = rerank_table(pl.DataFrame(pl.from_arrow(table)), model=model)
    scored = [
        ScoredDoc(*row) for row in ranked.select("query_id", "doc_id", pl.col("logit").cast(pl.Float64)).iter_rows()
    ]
    qrels = [
        Qrel(row["query_id"], one["doc_id"], one["relevance"]) for row in table.to_pylist() for one in row["candidates"]
    ]
    return float(ir_measures.calc_aggregate([nDCG @ 10], qrels, scored)[nDCG @ 10])


@pytest.mark.timeout(600)
def test_the_page_leads_from_candidates_to_a_student(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (commands,) = blocks("From candidates to a training set")
    for line in commands.splitlines():
        program, *arguments = shlex.split(line)
        assert program == "reranker-batch"
        assert run_command(arguments) == 0, line
    said = capsys.readouterr().out
    assert f"with labels of {QUERIES}" in said
    report = json.loads((place / "out/labels/run/labels_report.json").read_text())
    assert report["candidates"] == QUERIES * CANDIDATES
    assert report["positives"] + report["negatives"] + sum(report["dropped"].values()) == QUERIES * CANDIDATES
    assert 0.3 < report["agreements"][0]["tau"] < 1
    page = (place / "out/labels/run/report.html").read_text()
    assert "Agreement of the teachers" in page
    assert "What was dropped, and why" in page
    assert run_command(["label", "configs/label.yaml"]) == 0
    assert "0 made by this command" in capsys.readouterr().out
    train(place)


def train(place: Path) -> None:
    """The Python of the page; needs the extra of sentence-transformers for training."""
    pytest.importorskip("datasets")
    pytest.importorskip("accelerate")
    before = ndcg(str(place / "models" / "student"))
    (code,) = blocks("Training a student", "python")
    quiet = code.replace(
        "per_device_train_batch_size=8", "per_device_train_batch_size=8, report_to='none', use_cpu=True"
    )
    exec(compile(quiet, "docs/labels.md", "exec"), {})
    after = ndcg(str(place / "models" / "trained"))
    print(f"nDCG@10 of the student: {before:.3f} before, {after:.3f} after")
    assert 0 < after <= 1
    weights = [load_file(place / "models" / name / "model.safetensors") for name in ("student", "trained")]
    assert any(not torch.equal(weights[0][name].float(), weights[1][name].float()) for name in weights[0])
    values: dict[str, Any] = {}
    (code,) = blocks("In Python", "python")
    exec(compile(code, "docs/labels.md", "exec"), values)
    assert values["report"].parts_made == 0
    assert (place / "out/sets/pair/export.json").exists()


def test_the_page_explains_every_reason() -> None:
    kept = {*POSITIVES, *NEGATIVES}
    for fate in MEANINGS:
        assert f"`{fate.code}`" in PAGE, fate.code
        assert fate in kept or f"| `{fate.code}`" in PAGE or f", `{fate.code}` |" in PAGE
