from __future__ import annotations

import pyarrow as pa
import pytest

from ops.files.storage import StorageError, write_bytes
from ops.store.tables import (
    BOXES,
    CLIPS,
    MANIFEST,
    PARTS,
    PROBLEMS,
    SEGMENTS,
    VIDEOS,
    from_rows,
    read_table,
    read_tables,
    write_table,
)

ROW = {
    "dataset": "d",
    "file": "a.csv",
    "line": 3,
    "field": "label",
    "found": "x",
    "kind": "unknown_label",
    "allowed": False,
    "reason": "?",
}


@pytest.mark.parametrize("root", ["local", "s3"])
def test_a_table_comes_back_equal(root, tmp_path, request):
    folder = str(tmp_path) if root == "local" else request.getfixturevalue("s3").bucket
    table = from_rows([ROW, {**ROW, "line": 4}], PROBLEMS)
    write_table(f"{folder}/t/x.parquet", table)
    assert read_table(f"{folder}/t/x.parquet").equals(table)


def test_tables_are_joined_in_order_and_missing_ones_skipped(tmp_path):
    for name in "ab":
        write_table(str(tmp_path / name), from_rows([{**ROW, "file": name}], PROBLEMS))
    table = read_tables([str(tmp_path / name) for name in "bxa"], PROBLEMS)
    assert table["file"].to_pylist() == ["b", "a"] and table.schema == PROBLEMS


@pytest.mark.parametrize("schema", [VIDEOS, CLIPS, SEGMENTS, BOXES, PARTS, PROBLEMS, MANIFEST])
def test_no_table_at_all_is_an_empty_one(schema, tmp_path):
    table = read_tables([str(tmp_path / "none")], schema)
    assert table.num_rows == 0 and table.schema == schema
    write_table(str(tmp_path / "empty"), table)
    assert read_table(str(tmp_path / "empty")).schema == schema


def test_a_table_of_another_schema_is_named(tmp_path):
    uri = str(tmp_path / "x")
    write_table(uri, pa.table({"a": [1]}))
    with pytest.raises(StorageError, match=f"{uri}: columns"):
        read_tables([uri], PROBLEMS)


def test_a_damaged_table_is_named(tmp_path):
    uri = str(tmp_path / "x")
    write_bytes(uri, b"PAR1 not really")
    with pytest.raises(StorageError, match=f"{uri}: not a readable Parquet file"):
        read_table(uri)


def test_rows_must_fit_the_schema():
    with pytest.raises(KeyError, match="reason"):
        from_rows([{name: value for name, value in ROW.items() if name != "reason"}], PROBLEMS)
