"""Encrypted columns are found in the footer, before anything asks for them and the process ends."""

from __future__ import annotations

import base64
import contextlib
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.parquet.encryption as pe
import pytest
from fuzzing import fuzzed
from hypothesis import given
from hypothesis import strategies as st

from reranker_batch.config import InputConfig
from reranker_batch.errors import InputError
from reranker_batch.storage.input.encryption import encrypted_columns
from reranker_batch.storage.input.planning import plan_input

KEYS = {"footer": "0123456789112345", "column": "1234567890123450"}


class Keys(pe.KmsClient):  # type: ignore[misc]
    """Wraps a key by writing the master key before it."""

    def wrap_key(self, key_bytes: bytes, master_key_identifier: str) -> bytes:
        return base64.b64encode(KEYS[master_key_identifier].encode() + key_bytes)

    def unwrap_key(self, wrapped_key: bytes, master_key_identifier: str) -> bytes:
        return base64.b64decode(wrapped_key)[16:]


def table(num_rows: int = 4) -> pa.Table:
    struct = pa.struct([("doc_id", pa.string()), ("text", pa.string()), ("bm25", pa.float64())])
    rows = [[{"doc_id": "d", "text": "t", "bm25": 1.0}]] * num_rows
    return pa.table(
        {"query": ["?"] * num_rows, "candidates": pa.array(rows, pa.list_(struct)), "owner": ["x"] * num_rows}
    )


def write(path: Path, **options: Any) -> Path:
    """Two row groups, a plain footer, `options` of the encryption."""
    configuration = pe.EncryptionConfiguration(footer_key="footer", plaintext_footer=True, **options)
    factory = pe.CryptoFactory(lambda _: Keys())
    properties = factory.file_encryption_properties(pe.KmsConnectionConfig(), configuration)
    with pq.ParquetWriter(path, table().schema, encryption_properties=properties) as writer:
        writer.write_table(table(), row_group_size=2)
    return path


def footer_of(path: Path) -> bytes:
    content = path.read_bytes()
    return content[-8 - int.from_bytes(content[-8:-4], "little") : -8]


@pytest.mark.parametrize(
    ("columns", "numbers"),
    [
        (["candidates.list.element.text"], [2]),
        (["query"], [0]),
        (["owner", "query"], [0, 4]),
        (["candidates.list.element.bm25"], [3]),
    ],
)
def test_encrypted_columns_are_named_with_their_file(tmp_path: Path, columns: list[str], numbers: list[int]) -> None:
    path = write(tmp_path / "f.parquet", column_keys={"column": columns})
    for is_signed in (True, False):
        assert encrypted_columns(footer_of(path), is_signed=is_signed) == numbers
    pq.write_table(table(), tmp_path / "good.parquet")
    shown = ", ".join(repr(pq.ParquetFile(tmp_path / "good.parquet").schema.column(n).path) for n in numbers)
    with pytest.raises(InputError, match=f"f.parquet cannot be used: column {shown} is encrypted"):
        plan_input(InputConfig(path=str(tmp_path)), unit_pairs="auto")
    skipping = plan_input(InputConfig(path=str(tmp_path), skip_bad_files=True), unit_pairs="auto")
    assert skipping.skipped.keys() == {"f.parquet"}


def test_a_file_that_is_encrypted_with_one_key_is_refused_whole(tmp_path: Path) -> None:
    path = write(tmp_path / "f.parquet", uniform_encryption=True)
    with pytest.raises(InputError, match=r"f.parquet cannot be used: it is encrypted"):
        plan_input(InputConfig(path=str(path)), unit_pairs="auto")


def test_columns_encrypted_with_the_key_of_a_plain_footer_are_found() -> None:
    """One row group of two chunks, of which the second has `crypto_metadata.ENCRYPTION_WITH_FOOTER_KEY`."""
    chunks = [bytes.fromhex("260000"), bytes.fromhex("26006c1c000000")]
    footer = bytes.fromhex("491c192c") + b"".join(chunks) + b"\x00\x00"
    assert encrypted_columns(footer, is_signed=True) == encrypted_columns(footer, is_signed=False) == [1]


def test_files_without_encryption_have_no_such_columns(tmp_path: Path) -> None:
    written: list[dict[str, Any]] = [{}, {"store_schema": False}, {"version": "1.0"}, {"write_page_index": True}]
    for at, options in enumerate(written):
        pq.write_table(table(), tmp_path / f"{at}.parquet", row_group_size=1, **options)
        for is_signed in (True, False):
            assert encrypted_columns(footer_of(tmp_path / f"{at}.parquet"), is_signed=is_signed) == []


@pytest.fixture(scope="module")
def footer(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return footer_of(write(tmp_path_factory.mktemp("encrypted") / "f.parquet", column_keys={"column": ["query"]}))


@fuzzed
@given(places=st.lists(st.tuples(st.integers(0, 2**16), st.integers(0, 255)), max_size=4), cut=st.integers(0, 2**16))
def test_damaged_footers_end_in_an_answer_or_a_value_error(
    footer: bytes, places: list[tuple[int, int]], cut: int
) -> None:
    damaged = bytearray(footer)
    for at, value in places:
        damaged[at % len(footer)] = value
    with contextlib.suppress(ValueError):
        assert isinstance(encrypted_columns(bytes(damaged[: cut % len(footer)]), is_signed=True), list)
