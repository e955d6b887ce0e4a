"""Training sets as trainers take them: columns, order, ids, and one real step with each loss."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow.parquet as pq
import pytest
from tables import Group
from teachers import Bench, ChosenScorer, chosen

from reranker_batch.config.labels import ExportFormat
from reranker_batch.errors import ConfigError, InputError
from reranker_batch.exporting.export import export
from reranker_batch.exporting.training import TRAINING_SETS

MINI = Path(__file__).parents[2] / "reranker_batch" / "builtin" / "mini"
FORMATS = [each.name for each in TRAINING_SETS]
GROUPS: list[Group] = [
    chosen("one", ("a", 9.0), ("b", 4.0), ("c", 3.0), ("d", 2.0)),
    chosen("two", ("a", 1.0), ("e", 8.0), ("f", -1.0), ("g", -2.0)),
    chosen("few", ("h", 5.0), ("i", 0.0)),
    chosen("alone", ("j", 7.0)),
]


def labelled(folder: Path, groups: list[Group] = GROUPS, **labels: Any) -> Path:
    """Labels of one teacher; of query `one` two candidates are relevant."""
    bench = Bench(folder, settings={"unit_pairs": 5})
    bench.write_input(groups, row_group_size=1)
    bench.teach("one", ChosenScorer(0))
    (folder / "qrels.txt").write_text("one 0 a 1\none 0 b 1\ntwo 0 e 1\nfew 0 h 1\nalone 0 j 1\n")
    positives = {"from": "qrels", "qrels": str(folder / "qrels.txt")}
    rules = {"scale": "none", "negatives": {"num": 2, "min_num": 0}, "positives": positives}
    bench.label(["one"], **{**rules, **labels})
    return folder / "labels"


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return labelled(tmp_path_factory.mktemp("labels"))


def rows_of(target: Path, folder: str = "data") -> list[dict[str, Any]]:
    files = sorted((target / folder).iterdir())
    if files[0].suffix == ".parquet":
        return pl.concat([pl.read_parquet(file) for file in files]).to_dicts()
    return [json.loads(line) for file in files for line in file.read_text(encoding="utf-8").splitlines()]


def text(doc_id: str, query: str, logit: float) -> str:
    return f"{doc_id} of {query}|{logit}"


def test_pairs_are_every_label_with_its_score(labels: Path, tmp_path: Path) -> None:
    exported = export(str(labels), str(tmp_path / "set"), format="st-pair")
    rows = rows_of(tmp_path / "set")
    assert [*rows[0]] == ["anchor", "document", "score"]
    assert [tuple(row.values()) for row in rows[:2]] == [
        ("query one", text("a", "one", 9.0), 9.0),
        ("query one", text("b", "one", 4.0), 4.0),
    ]
    assert (exported.rows, exported.queries, exported.left_out) == (len(rows), 4, {})
    ids = [(row["query_id"], row["doc_id"]) for row in rows_of(tmp_path / "set", "ids")]
    assert ids[:5] == [("one", "a"), ("one", "b"), ("one", "c"), ("one", "d"), ("two", "e")]
    assert ids[5:] == [("two", "a"), ("two", "f"), ("few", "h"), ("few", "i"), ("alone", "j")]


def test_labeled_pairs_are_the_same_with_one_and_zero(labels: Path, tmp_path: Path) -> None:
    """For losses that take probabilities: with a logit of 9 as its goal cross-entropy falls without end."""
    for name in ("st-pair", "st-labeled-pair"):
        export(str(labels), str(tmp_path / name), format=name)
    scored, labeled = (rows_of(tmp_path / name) for name in ("st-pair", "st-labeled-pair"))
    assert [(row["anchor"], row["document"]) for row in labeled] == [(row["anchor"], row["document"]) for row in scored]
    assert [*labeled[0]] == ["anchor", "document", "label"]
    assert [row["label"] for row in labeled] == [1, 1, 0, 0, 1, 0, 0, 1, 0, 1]
    assert rows_of(tmp_path / "st-pair", "ids") == rows_of(tmp_path / "st-labeled-pair", "ids")


def test_triplets_are_every_positive_with_every_negative(labels: Path, tmp_path: Path) -> None:
    exported = export(str(labels), str(tmp_path / "set"), format="st-triplet")
    rows = rows_of(tmp_path / "set")
    assert [*rows[0]] == ["anchor", "positive", "negative", "scores"]
    assert [row["scores"] for row in rows] == [
        [9.0, 3.0],
        [9.0, 2.0],
        [4.0, 3.0],
        [4.0, 2.0],
        [8.0, 1.0],
        [8.0, -1.0],
        [5.0, 0.0],
    ]
    ids = [tuple(row.values()) for row in rows_of(tmp_path / "set", "ids")]
    assert ids[:3] == [("one", "a", "c"), ("one", "a", "d"), ("one", "b", "c")]
    assert exported.left_out == {"no_negatives": 1}


def test_tuples_have_as_many_negatives_as_the_rules_say(labels: Path, tmp_path: Path) -> None:
    exported = export(str(labels), str(tmp_path / "set"), format="st-n-tuple")
    rows = rows_of(tmp_path / "set")
    assert [*rows[0]] == ["anchor", "positive", "negative_1", "negative_2", "scores"]
    assert [row["scores"] for row in rows] == [[9.0, 3.0, 2.0], [4.0, 3.0, 2.0], [8.0, 1.0, -1.0]]
    assert exported.left_out == {"too_few_negatives": 2}


def test_lists_may_differ_in_length(labels: Path, tmp_path: Path) -> None:
    export(str(labels), str(tmp_path / "set"), format="st-list")
    rows = rows_of(tmp_path / "set")
    assert [*rows[0]] == ["query", "docs", "scores"]
    assert [row["scores"] for row in rows] == [[9.0, 4.0, 3.0, 2.0], [8.0, 1.0, -1.0], [5.0, 0.0], [7.0]]
    assert rows_of(tmp_path / "set", "ids")[1] == {"query_id": "two", "doc_ids": ["e", "a", "f"]}


def test_flagembedding_lines_have_both_lists_of_scores_and_no_empty_list(labels: Path, tmp_path: Path) -> None:
    export(str(labels), str(tmp_path / "set"), format="flagembedding")
    rows = rows_of(tmp_path / "set")
    assert rows[2] == {
        "query": "query few",
        "pos": [text("h", "few", 5.0)],
        "neg": [text("i", "few", 0.0)],
        "pos_scores": [5.0],
        "neg_scores": [0.0],
    }
    assert all(row["pos"] and row["neg"] and None not in row.values() for row in rows)
    assert len(rows) == 3


def test_ms_swift_and_tevatron_have_their_own_words(labels: Path, tmp_path: Path) -> None:
    export(str(labels), str(tmp_path / "swift"), format="ms-swift")
    assert rows_of(tmp_path / "swift")[2] == {
        "messages": [{"role": "user", "content": "query few"}],
        "positive_messages": [[{"role": "assistant", "content": text("h", "few", 5.0)}]],
        "negative_messages": [[{"role": "assistant", "content": text("i", "few", 0.0)}]],
    }
    export(str(labels), str(tmp_path / "tevatron"), format="tevatron")
    assert rows_of(tmp_path / "tevatron")[2] == {
        "query_id": "few",
        "query": "query few",
        "positive_passages": [{"docid": "h", "title": "", "text": text("h", "few", 5.0)}],
        "negative_passages": [{"docid": "i", "title": "", "text": text("i", "few", 0.0)}],
    }


def test_labels_as_a_run_and_as_predictions(labels: Path, tmp_path: Path) -> None:
    export(str(labels), str(tmp_path / "run.trec"), format="trec", tag="teachers")
    lines = (tmp_path / "run.trec").read_text().splitlines()
    assert lines[:2] == ["one Q0 a 1 9 teachers", "one Q0 b 2 4 teachers"]
    assert len(lines) == 10
    export(str(labels), str(tmp_path / "predictions.json"), format="mteb")
    predictions = json.loads((tmp_path / "predictions.json").read_text())
    assert predictions["default"]["test"]["two"] == {"e": 8.0, "a": 1.0, "f": -1.0}
    assert predictions["mteb_model_meta"] == {"model_name": "one", "revision": None}


@pytest.mark.parametrize("name", FORMATS)
def test_equal_labels_give_equal_bytes_and_a_finished_set_is_left_as_it_is(
    labels: Path, tmp_path: Path, name: ExportFormat
) -> None:
    made = []
    for target in (tmp_path / "one", tmp_path / "two"):
        export(str(labels), str(target), format=name)
        made.append({str(path.relative_to(target)): path.read_bytes() for path in target.rglob("*") if path.is_file()})
    assert made[0] == made[1]
    assert {path.partition("/")[0] for path in made[0]} == {"data", "ids", "README.md", "export.json"}
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "one").rglob("*")}
    again = export(str(labels), str(tmp_path / "one"), format=name)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "one").rglob("*")} == times
    assert again.rows == json.loads((tmp_path / "one" / "export.json").read_text())["rows"]
    assert len(rows_of(tmp_path / "one", "ids")) == len(rows_of(tmp_path / "one")) == again.rows


def test_an_interrupted_set_is_finished_and_another_folder_is_refused(labels: Path, tmp_path: Path) -> None:
    export(str(labels), str(tmp_path / "set"), format="st-list")
    whole = {path: path.read_bytes() for path in (tmp_path / "set").rglob("*") if path.is_file()}
    record = json.loads((tmp_path / "set" / "export.json").read_text())
    (tmp_path / "set" / "export.json").write_text(json.dumps({**record, "status": "unfinished"}))
    (tmp_path / "set" / "data" / "train-00001.parquet").unlink()
    export(str(labels), str(tmp_path / "set"), format="st-list")
    assert {path: path.read_bytes() for path in (tmp_path / "set").rglob("*") if path.is_file()} == whole
    with pytest.raises(ConfigError, match="holds another training set, of another format or of other labels"):
        export(str(labels), str(tmp_path / "set"), format="st-pair")
    (tmp_path / "set" / "export.json").unlink()
    with pytest.raises(ConfigError, match="holds files of something else"):
        export(str(labels), str(tmp_path / "set"), format="st-list")
    with pytest.raises(ConfigError, match="--format msmarco is not known for this folder. Known: st-pair"):
        export(str(labels), str(tmp_path / "other"), format="msmarco")


@pytest.mark.parametrize("lost", ["data/train-00000.parquet", "ids/train-00001.parquet", "README.md"])
def test_a_file_of_a_finished_set_that_is_gone_is_written_again(labels: Path, tmp_path: Path, lost: str) -> None:
    export(str(labels), str(tmp_path / "set"), format="st-list")
    content = (tmp_path / "set" / lost).read_bytes()
    (tmp_path / "set" / lost).unlink()
    export(str(labels), str(tmp_path / "set"), format="st-list")
    assert (tmp_path / "set" / lost).read_bytes() == content


def test_a_file_more_in_a_set_is_told(labels: Path, tmp_path: Path) -> None:
    """Readers take all files of the folder."""
    export(str(labels), str(tmp_path / "set"), format="st-list")
    shutil.copy(tmp_path / "set" / "data" / "train-00000.parquet", tmp_path / "set" / "data" / "train-more.parquet")
    with pytest.raises(ConfigError, match="train-more.parquet is no file of this training set"):
        export(str(labels), str(tmp_path / "set"), format="st-list")


@pytest.mark.parametrize("record", ["{", "[]", '{"format": "st-list"}'])
def test_a_record_of_a_set_that_is_not_ours_is_told(labels: Path, tmp_path: Path, record: str) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "export.json").write_text(record)
    with pytest.raises(ConfigError, match="holds another training set"):
        export(str(labels), str(tmp_path / "set"), format="st-list")


def test_what_a_killed_export_has_staged_is_in_no_way(labels: Path, tmp_path: Path) -> None:
    (tmp_path / "set" / ".staging").mkdir(parents=True)
    (tmp_path / "set" / ".staging" / "1").write_bytes(b"half")
    export(str(labels), str(tmp_path / "set"), format="st-list")
    assert not (tmp_path / "set" / ".staging").exists()


@pytest.mark.parametrize("name", ["st-triplet", "st-n-tuple", "flagembedding", "ms-swift", "tevatron"])
def test_labels_without_negatives_have_no_row_for_formats_that_need_them(tmp_path: Path, name: ExportFormat) -> None:
    labels = labelled(tmp_path, GROUPS[3:])
    with pytest.raises(InputError, match=f"has no row for --format {name}: 1 (no|too_few)_negatives"):
        export(str(labels), str(tmp_path / "set"), format=name)
    export(str(labels), str(tmp_path / "list"), format="st-list")
    assert len(rows_of(tmp_path / "list")) == 1


def test_unfinished_labels_are_not_exported(labels: Path, tmp_path: Path) -> None:
    shutil.copytree(labels, tmp_path / "labels")
    (tmp_path / "labels" / "labels" / "_SUCCESS").unlink()
    with pytest.raises(ConfigError, match="is not finished"):
        export(str(tmp_path / "labels"), str(tmp_path / "set"), format="st-list")


def test_a_place_without_labels_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="gone holds no labels, which --format st-pair is made of"):
        export(str(tmp_path / "gone"), str(tmp_path / "set"), format="st-pair")


def test_odd_texts_come_through_json_unchanged(tmp_path: Path) -> None:
    odd = 'tab\t "quotes" \\ line\nend \u2028 \x01 é 🙂|3'
    labels = labelled(tmp_path, [("one", odd, [("a", odd), ("x", 'other "text"\n|1')])])
    export(str(labels), str(tmp_path / "set"), format="flagembedding")
    (file,) = (tmp_path / "set" / "data").iterdir()
    (line,) = file.read_bytes().decode().split("\n")[:-1]
    row = json.loads(line)
    assert (row["query"], row["pos"]) == (odd, [odd])


LOSSES: dict[ExportFormat, list[tuple[str, Callable[[Any], Any]]]] = {
    "st-pair": [("MSELoss", lambda losses: losses.MSELoss)],
    "st-labeled-pair": [("BinaryCrossEntropyLoss", lambda losses: losses.BinaryCrossEntropyLoss)],
    "st-triplet": [("MarginMSELoss", lambda losses: losses.MarginMSELoss)],
    "st-n-tuple": [("MarginMSELoss", lambda losses: losses.MarginMSELoss)],
    "st-list": [
        (name, lambda losses, name=name: getattr(losses, name))  # type: ignore[misc]
        for name in ("LambdaLoss", "ListNetLoss", "ListMLELoss", "PListMLELoss", "RankNetLoss")
    ],
}
CASES = [(name, loss, get) for name, of_format in LOSSES.items() for loss, get in of_format]


@pytest.fixture(scope="module")
def trainers() -> Any:
    """Imports that take seconds; needs the extra of sentence-transformers for training."""
    pytest.importorskip("datasets")
    pytest.importorskip("accelerate")
    return pytest.importorskip("sentence_transformers.cross_encoder")


@pytest.mark.parametrize(("name", "loss", "get"), CASES, ids=[f"{name}-{loss}" for name, loss, _ in CASES])
def test_a_training_step_has_a_finite_loss(
    labels: Path, tmp_path: Path, trainers: Any, name: ExportFormat, loss: str, get: Callable[[Any], Any]
) -> None:
    export(str(labels), str(tmp_path / "set"), format=name)
    assert is_finite_step(trainers, tmp_path, get)


def test_triplets_without_scores_train_contrastively(labels: Path, tmp_path: Path, trainers: Any) -> None:
    export(str(labels), str(tmp_path / "set"), format="st-triplet")
    loss: Callable[[Any], Any] = lambda losses: losses.CachedMultipleNegativesRankingLoss  # noqa: E731
    assert is_finite_step(trainers, tmp_path, loss, without=["scores"])


def is_finite_step(trainers: Any, folder: Path, get: Callable[[Any], Any], without: list[str] | None = None) -> bool:
    """One step over the files as they are, read as the card says."""
    import math

    from datasets import load_dataset
    from sentence_transformers.cross_encoder import losses

    data = load_dataset(str(folder / "set"), split="train", cache_dir=str(folder / "cache"))
    data = data.remove_columns(without or [])
    model = trainers.CrossEncoder(str(MINI), device="cpu")
    settings = trainers.CrossEncoderTrainingArguments(
        output_dir=str(folder / "out"),
        max_steps=1,
        per_device_train_batch_size=2,
        report_to="none",
        save_strategy="no",
        logging_strategy="no",
        use_cpu=True,
        disable_tqdm=True,
    )
    trainer = trainers.CrossEncoderTrainer(model=model, args=settings, train_dataset=data, loss=get(losses)(model))
    return math.isfinite(trainer.train().training_loss)


def test_the_card_names_data_and_teachers(labels: Path, tmp_path: Path) -> None:
    export(str(labels), str(tmp_path / "set"), format="st-list")
    card = (tmp_path / "set" / "README.md").read_text()
    assert "path: data/*.parquet" in card
    assert "Scores are scaled logits" in card
    export(str(labels), str(tmp_path / "labeled"), format="st-labeled-pair")
    assert "Scores" not in (tmp_path / "labeled" / "README.md").read_text()
    assert "* one: oracle" in card
    (first, *_) = sorted((tmp_path / "set" / "data").iterdir())
    assert [str(field.type) for field in pq.read_schema(first)] == [
        "string",
        "list<element: string>",
        "list<element: float>",
    ]
