"""Tables of Delta Lake and Iceberg: the rows that they have now, or a refusal that says why."""

from __future__ import annotations

import json
import shutil
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import deltalake
import fsspec
import polars as pl
import pyarrow as pa
import pytest
from engine import SmallJob
from pyiceberg.catalog.memory import InMemoryCatalog
from pyiceberg.io.pyarrow import PyArrowFileIO
from pyiceberg.manifest import (
    DataFile,
    DataFileContent,
    FileFormat,
    ManifestContent,
    ManifestEntry,
    ManifestEntryStatus,
    ManifestWriterV2,
    write_manifest_list,
)
from pyiceberg.table import StaticTable, Table
from pyiceberg.typedef import Record
from pyiceberg.types import StringType
from tables import nested_table, random_groups

from reranker_batch.config import InputConfig
from reranker_batch.errors import ConfigError, FingerprintError, InputError
from reranker_batch.storage.input.planning import InputPlan, plan_input
from reranker_batch.storage.tables.table_files import open_table

GROUPS = random_groups(8, max_candidates=3, seed=2)
LANGS = ["e n", "d/e", None, "50%"]
DAYS = pa.array([20_000, 20_001, 20_000, None], pa.int32()).cast(pa.date32())


def rows(*numbers: int, **more: Any) -> pa.Table:
    return nested_table([GROUPS[number] for number in numbers], **more)


def plan_of(path: Path | str, **columns: Any) -> InputPlan:
    return plan_input(InputConfig.model_validate({"path": str(path), "columns": columns}), unit_pairs=1_000)


def read(path: Path | str, **columns: Any) -> dict[str, dict[str, Any]]:
    """The queries by their ids; no id comes twice."""
    plan = plan_of(path, **columns)
    queries = [row for unit in plan.units for row in plan.source.read(unit).queries.to_pylist()]
    assert len({row["query_id"] for row in queries}) == len(queries)
    return {row["query_id"]: row for row in queries}


def ids(*numbers: int) -> set[str]:
    return {GROUPS[number][0] for number in numbers}


def in_memory(folder: Path) -> str:
    """A copy of a folder in a store."""
    base = f"memory://{uuid.uuid4().hex}"
    fsspec.filesystem("memory").put(f"{folder}/", f"{base}/", recursive=True)
    return base


# --- Delta Lake


@pytest.fixture
def delta(tmp_path: Path) -> Path:
    folder = tmp_path / "delta"
    deltalake.write_deltalake(folder, rows(0, 1, 2, 3, lang=LANGS, day=DAYS), partition_by=["lang", "day"])
    return folder


def rewritten(folder: Path, change: Callable[[dict[str, Any]], None], version: int = 0) -> None:
    """Change the actions of a commit."""
    path = folder / "_delta_log" / f"{version:020d}.json"
    actions = [json.loads(line) for line in path.read_text().splitlines()]
    for action in actions:
        change(action)
    path.write_text("\n".join(map(json.dumps, actions)))


def with_feature(*names: str) -> Callable[[dict[str, Any]], None]:
    def change(action: dict[str, Any]) -> None:
        if "protocol" in action:
            versions = {"minReaderVersion": 3, "minWriterVersion": 7}
            action["protocol"] = versions | {"readerFeatures": [*names], "writerFeatures": [*names]}

    return change


def test_a_delta_table_has_the_rows_of_its_newest_version(delta: Path) -> None:
    assert read(delta).keys() == ids(0, 1, 2, 3)
    deltalake.write_deltalake(delta, rows(4, lang=["x"], day=DAYS[:1]), mode="append")
    deltalake.DeltaTable(delta).delete("lang = 'e n'")
    assert len([*delta.rglob("*.parquet")]) == 5
    assert read(delta).keys() == ids(1, 2, 3, 4)
    deltalake.write_deltalake(delta, rows(5, lang=["x"], day=DAYS[:1]), mode="overwrite")
    assert read(delta).keys() == ids(5)


def test_the_partitions_of_a_delta_table_are_columns(delta: Path) -> None:
    queries = read(delta, passthrough=["lang", "day"])
    assert [queries[group[0]]["lang"] for group in GROUPS[:4]] == LANGS
    assert [queries[group[0]]["day"] for group in GROUPS[:4]] == ["2024-10-04", "2024-10-05", "2024-10-04", None]


def test_a_delta_table_in_a_store_is_read_by_the_same_list(delta: Path) -> None:
    for number in range(4, 8):
        deltalake.write_deltalake(delta, rows(number, lang=["x"], day=DAYS[:1]), mode="append")
    table = deltalake.DeltaTable(delta)
    table.delete("lang = 'e n'")
    table.create_checkpoint()
    deltalake.DeltaTable(delta).delete("lang = 'd/e'")
    store = in_memory(delta)
    fsspec.filesystem("memory").rm(f"{store}/_delta_log/{0:020d}.json")  # as a clean-up leaves it
    assert read(store, passthrough=["lang"]) == read(delta, passthrough=["lang"])
    assert read(store).keys() == ids(2, 3, 4, 5, 6, 7)


def test_a_run_on_a_delta_table_is_resumed_only_with_the_same_files(delta: Path, tmp_path: Path) -> None:
    job = SmallJob(str(delta), str(tmp_path / "out"), columns={"passthrough": ["lang"]})
    job.run()
    scored = pl.read_parquet(tmp_path / "out" / "scores" / "part-*.parquet")
    langs = dict(zip([group[0] for group in GROUPS], LANGS, strict=False))
    assert {*scored.select("query_id", "lang").iter_rows()} <= {*langs.items()}
    job.run()
    deltalake.DeltaTable(delta).delete("lang = 'e n'")
    with pytest.raises(FingerprintError, match=r"input: lang=e%20n.* is gone"):
        job.run()


@pytest.mark.parametrize("kind", ["u", "i"])
def test_rows_deleted_by_deletion_vectors_are_refused(delta: Path, kind: str) -> None:
    vector = {"storageType": kind, "pathOrInlineDv": "ab^-aqEH.-t@S}K{vb[*k^", "sizeInBytes": 40, "cardinality": 1}

    def delete(action: dict[str, Any]) -> None:
        if "add" in action:
            action["add"]["deletionVector"] = vector | ({"offset": 4} if kind == "u" else {})

    rewritten(delta, with_feature("deletionVectors"))
    assert read(delta).keys() == ids(0, 1, 2, 3)
    rewritten(delta, delete)
    for place in (str(delta), in_memory(delta)):
        with pytest.raises(InputError, match="is a table of Delta Lake. Some of its rows are deleted .* plain Parquet"):
            plan_of(place)


def test_columns_with_other_names_in_the_files_are_refused(tmp_path: Path) -> None:
    fields = [pa.field("query", pa.string()), pa.field("candidates", pa.list_(pa.string()))]
    named = [
        {
            "name": field.name,
            "type": "string" if at == 0 else {"type": "array", "elementType": "string", "containsNull": True},
            "nullable": True,
            "metadata": {"delta.columnMapping.id": at + 1, "delta.columnMapping.physicalName": f"col-{at}"},
        }
        for at, field in enumerate(fields)
    ]

    def rename(action: dict[str, Any]) -> None:
        with_feature("columnMapping")(action)
        if "metaData" in action:
            action["metaData"]["configuration"] = {"delta.columnMapping.mode": "name"}
            action["metaData"]["schemaString"] = json.dumps({"type": "struct", "fields": named})

    deltalake.write_deltalake(tmp_path / "t", pa.table({"query": ["?"], "candidates": [["a"]]}, pa.schema(fields)))
    rewritten(tmp_path / "t", rename)
    with pytest.raises(InputError, match="other names in its files .delta.columnMapping.mode=name.* plain Parquet"):
        plan_of(tmp_path / "t")


def test_features_that_are_not_known_are_refused_by_name(delta: Path) -> None:
    rewritten(delta, with_feature("timestampNtz"))
    assert read(delta).keys() == ids(0, 1, 2, 3)
    rewritten(delta, with_feature("variantType", "timestampNtz"))
    with pytest.raises(InputError, match="features that are not read: variantType. Or write"):
        plan_of(delta)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"path": "file:///elsewhere/a.parquet"}, "file file:///elsewhere/a.parquet lies outside of its folder"),
        ({"path": "/elsewhere/a.parquet"}, "lies outside"),
        ({"path": "../a.parquet"}, "lies outside"),
        ({"partitionValues": {"lang": "other", "day": None}}, "does not have the value that its log has"),
        ({"size": 7}, "had 7 bytes when it was listed"),
        ({"path": "gone.parquet"}, "gone.parquet cannot be used: .*No such file"),
    ],
)
def test_a_delta_table_whose_log_and_files_do_not_agree_is_refused(
    delta: Path, change: dict[str, Any], message: str
) -> None:
    done: list[str] = []

    def damage(action: dict[str, Any]) -> None:
        if "add" in action and not done:
            done.append(action["add"]["path"])
            action["add"] |= change

    rewritten(delta, damage)
    with pytest.raises(InputError, match=message):
        plan_of(delta)


def test_a_log_that_cannot_be_read_is_named(delta: Path) -> None:
    (delta / "_delta_log" / f"{0:020d}.json").write_text("{}")
    with pytest.raises(InputError, match=f"{delta} is a table of Delta Lake. Its log cannot be read: .*plain Parquet"):
        plan_of(delta)


# --- Iceberg


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[InMemoryCatalog]:
    catalog = InMemoryCatalog("test", warehouse=f"file://{tmp_path}/warehouse")
    catalog.create_namespace("n")
    yield catalog
    catalog.close()


@pytest.fixture
def iceberg(catalog: InMemoryCatalog) -> Table:
    table = catalog.create_table("n.t", rows(0, lang=["x"]).schema)
    with table.update_spec() as spec:
        spec.add_identity("lang")
    table.append(rows(0, 1, 2, 3, lang=LANGS))
    return table


def folder_of(table: Table) -> Path:
    return Path(table.location().removeprefix("file://"))


def test_an_iceberg_table_has_the_rows_of_its_newest_state(iceberg: Table) -> None:
    folder = folder_of(iceberg)
    assert read(folder).keys() == ids(0, 1, 2, 3)
    iceberg.append(rows(4, lang=["x"]))
    iceberg.delete("lang = 'e n'")
    assert len([*folder.rglob("*.parquet")]) == 5
    assert read(folder).keys() == ids(1, 2, 3, 4)
    iceberg.overwrite(rows(5, lang=["x"]))
    assert read(folder).keys() == ids(5)


def test_columns_of_an_iceberg_table_stand_in_its_files_and_not_in_its_folders(
    catalog: InMemoryCatalog, iceberg: Table
) -> None:
    queries = read(folder_of(iceberg), passthrough=["lang"])
    assert [queries[group[0]]["lang"] for group in GROUPS[:4]] == LANGS
    other = catalog.create_table("n.other", rows(0, lang=["x"]).schema)
    with other.update_spec() as spec:
        spec.add_field("lang", "identity", "part")
    other.append(rows(4, lang=["y"]))
    with pytest.raises(InputError, match="'part' is missing in data/part=y/"):
        read(folder_of(other), passthrough=["part"])


def test_an_iceberg_table_that_was_moved_or_lies_in_a_store_is_read(iceberg: Table, tmp_path: Path) -> None:
    iceberg.append(rows(4, lang=["x"]))
    folder = folder_of(iceberg)
    expected = read(folder, passthrough=["lang"])
    store = in_memory(folder)
    shutil.move(folder, tmp_path / "moved")
    assert read(tmp_path / "moved", passthrough=["lang"]) == read(store, passthrough=["lang"]) == expected


def test_a_metadata_file_is_the_table_as_it_was_then(iceberg: Table) -> None:
    before = iceberg.metadata_location.removeprefix("file://")
    iceberg.append(rows(4, lang=["x"]))
    assert read(before).keys() == ids(0, 1, 2, 3)
    folder, newest = folder_of(iceberg), Path(iceberg.metadata_location.removeprefix("file://"))
    shutil.copy(newest, newest.with_name(f"{newest.name[:5]}-other.metadata.json"))
    with pytest.raises(InputError, match=r"-other.metadata.json may both be its newest state: give one .* input.path"):
        read(folder)
    assert read(newest).keys() == ids(0, 1, 2, 3, 4)


def test_a_run_on_an_iceberg_table_is_resumed_only_with_the_same_files(iceberg: Table, tmp_path: Path) -> None:
    job = SmallJob(str(folder_of(iceberg)), str(tmp_path / "out"), columns={"passthrough": ["lang"]})
    job.run()
    job.run()
    iceberg.append(rows(4, lang=["x"]))
    with pytest.raises(FingerprintError, match="input: data/lang=x.* is new"):
        job.run()


def test_a_renamed_column_is_refused_where_it_is_asked_for(iceberg: Table) -> None:
    with iceberg.update_schema() as schema:
        schema.rename_column("lang", "language")
    assert read(folder_of(iceberg)).keys() == ids(0, 1, 2, 3)
    for name in ("lang", "language"):
        with pytest.raises(InputError, match=r"Column 'lang' of data/.* is not the one that the table calls so now"):
            read(folder_of(iceberg), passthrough=[name])
    iceberg.overwrite(rows(5).append_column("language", pa.array(["x"])))
    assert read(folder_of(iceberg), passthrough=["language"])[GROUPS[5][0]]["language"] == "x"


def test_who_reads_tables_of_all_forms_reads_no_iceberg_table_whose_columns_changed(iceberg: Table) -> None:
    folder = folder_of(iceberg)
    assert [file.form for file in open_table(str(folder)).files] == ["parquet"] * 4
    with iceberg.update_schema() as schema:
        schema.rename_column("lang", "language")
    with pytest.raises(InputError, match="is a table of Iceberg. A column of it was renamed"):
        open_table(str(folder))


def test_a_renamed_field_of_the_candidates_is_refused(iceberg: Table) -> None:
    with iceberg.update_schema() as schema:
        schema.rename_column("candidates.text", "body")
    with pytest.raises(InputError, match=r"Column 'candidates.element.text' of data/"):
        read(folder_of(iceberg), document="body")


def test_a_column_that_was_dropped_and_added_again_does_not_come_back_with_its_old_values(iceberg: Table) -> None:
    iceberg.append(rows(6, lang=["x"]))
    with iceberg.update_schema(allow_incompatible_changes=True) as schema:
        schema.add_column("more", StringType())
    iceberg.overwrite(rows(7, lang=["x"], more=["old"]))
    with iceberg.update_schema(allow_incompatible_changes=True) as schema:
        schema.delete_column("more")
    with iceberg.update_schema() as schema:
        schema.add_column("more", StringType())
    with pytest.raises(InputError, match=r"Column 'more' of data/.* dropped and added again"):
        read(folder_of(iceberg), passthrough=["more"])


def test_files_without_field_ids_are_read_by_name_as_long_as_no_column_changed(
    catalog: InMemoryCatalog, tmp_path: Path
) -> None:
    table = catalog.create_table("n.added", rows(0).schema)
    plain = folder_of(table) / "data" / "plain.parquet"
    plain.parent.mkdir(parents=True)
    pl.from_arrow(rows(0, 1)).write_parquet(plain)  # type: ignore[union-attr]
    table.add_files([str(plain)])
    assert read(folder_of(table)).keys() == ids(0, 1)
    with table.update_schema() as schema:
        schema.rename_column("query", "question")
    with pytest.raises(InputError, match=r"Column 'query.*' of data/plain.parquet is not the one"):
        read(folder_of(table))


class DeletesWriter(ManifestWriterV2):
    def content(self) -> ManifestContent:
        return ManifestContent.DELETES

    def prepare_entry(self, entry: ManifestEntry) -> ManifestEntry:
        return entry


@pytest.mark.parametrize("content", [DataFileContent.POSITION_DELETES, DataFileContent.EQUALITY_DELETES])
def test_rows_deleted_by_delete_files_are_refused(iceberg: Table, content: DataFileContent) -> None:
    """No writer that can be installed here leaves such files, so the manifest of one is added."""
    with_deletes = add_deletes(iceberg, content)
    assert StaticTable.from_metadata(with_deletes).current_snapshot() is not None
    with pytest.raises(InputError, match="is a table of Iceberg. Some of its rows are deleted by delete files.* Run"):
        read(folder_of(iceberg))


def add_deletes(table: Table, content: DataFileContent) -> str:
    """Write the next state of a table by hand; its metadata file."""
    snapshot, io, folder = table.current_snapshot(), PyArrowFileIO(), f"{table.location()}/metadata"
    assert snapshot is not None
    assert snapshot.sequence_number is not None
    file = DataFile.from_args(
        content=content,
        file_path=f"{table.location()}/data/deletes.parquet",
        file_format=FileFormat.PARQUET,
        partition=Record("e n"),
        record_count=1,
        file_size_in_bytes=10,
        equality_ids=[1] if content == DataFileContent.EQUALITY_DELETES else None,
    )
    file.spec_id = table.spec().spec_id
    writer = DeletesWriter(
        table.spec(), table.schema(), io.new_output(f"{folder}/d.avro"), snapshot.snapshot_id, "null"
    )
    with writer:
        writer.add_entry(
            ManifestEntry.from_args(
                status=ManifestEntryStatus.ADDED, snapshot_id=snapshot.snapshot_id, sequence_number=1, data_file=file
            )
        )
    manifests = [*snapshot.manifests(io), writer.to_manifest_file()]
    listed = f"{folder}/list.avro"
    with write_manifest_list(
        2, io.new_output(listed), snapshot.snapshot_id, None, snapshot.sequence_number, "null"
    ) as target:
        target.add_manifests(manifests)
    metadata = json.loads(Path(table.metadata_location.removeprefix("file://")).read_text())
    metadata["snapshots"][-1]["manifest-list"] = listed
    path = folder_of(table) / "metadata" / "00099-x.metadata.json"
    path.write_text(json.dumps(metadata))
    return f"file://{path}"


def test_metadata_that_cannot_be_read_is_named(iceberg: Table) -> None:
    (folder_of(iceberg) / "metadata" / "00099-x.metadata.json").write_text("{}")
    with pytest.raises(InputError, match="is a table of Iceberg. Its metadata cannot be read: .*plain Parquet"):
        read(folder_of(iceberg))


def test_an_iceberg_table_without_rows_is_named(catalog: InMemoryCatalog) -> None:
    table = catalog.create_table("n.empty", rows(0).schema)
    with pytest.raises(InputError, match="table of Iceberg without rows"):
        read(folder_of(table))


# --- without the extras


@pytest.mark.parametrize(
    ("mark", "extra", "library"),
    [
        ("_delta_log/x.json", "delta", "deltalake"),
        ("metadata/v1.metadata.json", "iceberg", "pyiceberg.io.pyarrow"),
    ],
)
def test_a_table_without_its_extra_is_refused_by_the_name_of_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mark: str, extra: str, library: str
) -> None:
    (tmp_path / mark).parent.mkdir()
    (tmp_path / mark).write_text("{}")
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(
        ConfigError, match=rf"needs the extra '{extra}': pip install 'reranker-batch\[{extra}\]'.* plain"
    ):
        plan_of(tmp_path)
