"""The ledger: what was committed last is what is read, at every point where a writer may die or a
reader may come in between.
"""

from __future__ import annotations

import json
import threading
import time

import pyarrow as pa
import pytest

import ops.store.lease as leases
import ops.store.ledger as ledgers
from ops.files.storage import exists, list_files, remove, write_bytes
from ops.store.lease import Busy, Lost
from ops.store.ledger import Ledger, LedgerError, lease_uri, parts_uri, read_ledger, read_ledgers
from ops.store.tables import MANIFEST, VIDEOS, from_rows, read_table, write_table

SCHEMA = pa.schema([("video_id", pa.string()), ("key", pa.string()), ("bytes", pa.int64())])


def row(video_id: str, key: str = "k", size: int = 1) -> dict:
    return {"video_id": video_id, "key": key, "bytes": size}


def state(uri: str) -> dict[str, str]:
    table = read_ledger(uri, SCHEMA)
    assert table.schema == SCHEMA and table["video_id"].to_pylist() == sorted(
        set(table["video_id"].to_pylist())
    )
    return dict(zip(table["video_id"].to_pylist(), table["key"].to_pylist(), strict=True))


@pytest.fixture(params=["local", "s3"])
def uri(request, tmp_path) -> str:
    root = str(tmp_path) if request.param == "local" else request.getfixturevalue("s3").bucket
    return f"{root}/manifest/0003.parquet"


def test_parts_lie_over_the_base_in_their_order_and_tombstones_hide(uri):
    assert state(uri) == {}
    with Ledger(uri, SCHEMA) as ledger:
        ledger.put([row("b"), row("a"), row("c")])
        assert ledger.uncommitted == 3 and state(uri) == {} and len(ledger.table()) == 3
        ledger.commit()
        ledger.put([row("b", "new")])
        ledger.drop(["a", "never there"])
        ledger.commit()
        assert (
            state(uri) == {"b": "new", "c": "k"}
            and not exists(uri)
            and len(list_files(parts_uri(uri))) == 2
        )
        ledger.put([row("a", "back")])
        ledger.commit()
        assert state(uri) == {"a": "back", "b": "new", "c": "k"}
    assert state(uri) == {"a": "back", "b": "new", "c": "k"}
    assert list_files(parts_uri(uri)) == [] and not exists(lease_uri(uri))
    assert read_ledger(uri, SCHEMA, ["video_id", "bytes"]).column_names == ["video_id", "bytes"]
    with Ledger(uri, SCHEMA) as again:  # numbers go on after a compaction
        again.drop(["c"])
        again.commit()
        assert [info.path_below for info in list_files(parts_uri(uri))] == ["00000004.parquet"]
    assert set(state(uri)) == {"a", "b"}


def test_nothing_changed_writes_nothing_and_asks_for_no_lease(tmp_path):
    uri = str(tmp_path / "m.parquet")
    with Ledger(uri, SCHEMA) as ledger:
        ledger.commit()
        assert len(ledger.table()) == 0
    assert list(tmp_path.iterdir()) == []


def test_a_plain_table_is_a_ledger_and_several_are_read_as_one(tmp_path):
    uris = [str(tmp_path / name) for name in ("a.parquet", "b.parquet", "none.parquet")]
    write_table(uris[0], from_rows([row("z"), row("y")], SCHEMA))
    with Ledger(uris[1], SCHEMA) as ledger:
        ledger.put([row("x")])
    assert read_ledgers(uris, SCHEMA)["video_id"].to_pylist() == ["y", "z", "x"]
    with Ledger(uris[0], SCHEMA) as ledger:
        ledger.put([row("y", "new")])
    assert state(uris[0]) == {"y": "new", "z": "k"}


def test_many_commits_compact_by_themselves(tmp_path, monkeypatch):
    monkeypatch.setattr(ledgers, "MAX_PARTS", 5)
    uri = str(tmp_path / "m.parquet")
    with Ledger(uri, SCHEMA) as ledger:
        for number in range(13):
            ledger.put([row(f"v{number:02d}")])
            ledger.commit()
            assert len(list_files(parts_uri(uri))) < 5 and len(state(uri)) == number + 1


class Crash(Exception):
    pass


def crash_points(monkeypatch) -> tuple[list[str], dict[str, int]]:
    """Every write and removal of the ledger is counted; the one whose number is `armed["at"]`
    fails, before or after it has worked.
    """
    done: list[str] = []
    armed = {"at": -1, "after": 0}
    for module, name in ((ledgers, "create_bytes"), (ledgers, "write_bytes"), (ledgers, "remove")):
        real = getattr(module, name)

        def act(*arguments, real=real, name=name):
            done.append(name)
            if len(done) - 1 == armed["at"] and not armed["after"]:
                raise Crash
            real(*arguments)
            if len(done) - 1 == armed["at"]:
                raise Crash

        monkeypatch.setattr(module, name, act)
    return done, armed


@pytest.mark.parametrize("after", [0, 1])
@pytest.mark.parametrize("at", range(5))
def test_a_crash_at_any_write_leaves_a_committed_state(at, after, tmp_path, monkeypatch):
    uri = str(tmp_path / "m.parquet")
    with Ledger(uri, SCHEMA) as ledger:
        ledger.put([row("old"), row("gone")])
    states = [
        {"old": "k", "gone": "k"},
        {"old": "k", "gone": "k", "one": "k"},
        {"old": "new", "one": "k"},
    ]
    done, armed = crash_points(monkeypatch)
    armed |= {"at": at, "after": after}
    reached = 0
    try:
        with Ledger(uri, SCHEMA) as ledger:
            ledger.put([row("one")])
            ledger.commit()
            reached = 1
            ledger.put([row("old", "new")])
            ledger.drop(["gone"])
            ledger.commit()
            reached = 2
    except Crash:
        pass
    assert state(uri) in states[reached : reached + 2]
    armed["at"] = -1
    remove(lease_uri(uri))
    with Ledger(uri, SCHEMA) as ledger:  # the next writer goes on from there
        ledger.put([row("one"), row("old", "new")])
        ledger.drop(["gone"])
        ledger.commit()
    assert state(uri) == states[2] and list_files(parts_uri(uri)) == []


def test_parts_left_over_by_a_compaction_go_with_the_next_one(tmp_path):
    """Where nothing is to be written too: else each run finds the ledger unfinished."""
    uri = str(tmp_path / "m.parquet")
    with Ledger(uri, SCHEMA) as ledger:
        ledger.put([row("a", "1")])
    write_bytes(f"{parts_uri(uri)}/00000001.parquet", b"taken in")
    with Ledger(uri, SCHEMA) as ledger:
        ledger.compact()
    assert state(uri) == {"a": "1"} and not list_files(parts_uri(uri))


def test_a_part_left_over_by_a_compaction_is_not_laid_over_the_base_again(tmp_path):
    uri = str(tmp_path / "m.parquet")
    ledger = Ledger(uri, SCHEMA)
    ledger.put([row("a", "1")])
    ledger.commit()
    stale = (tmp_path / "m.parts" / "00000001.parquet").read_bytes()
    ledger.put([row("a", "2")])
    ledger.close()
    write_bytes(f"{parts_uri(uri)}/00000001.parquet", stale)
    assert state(uri) == {"a": "2"}


def test_readers_beside_a_writer_see_whole_commits_only(tmp_path, monkeypatch):
    monkeypatch.setattr(ledgers, "MAX_PARTS", 3)
    uri = str(tmp_path / "m.parquet")
    with Ledger(uri, SCHEMA) as ledger:
        ledger.put([row(name, "0") for name in "abc"])
    ended, seen, failures = threading.Event(), [], []

    def read() -> None:
        while not ended.is_set():
            try:
                seen.append(set(state(uri).values()))
            except Exception as error:
                failures.append(error)
                return

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    with Ledger(uri, SCHEMA) as ledger:
        for number in range(60):
            ledger.put([row(name, str(number)) for name in "abc"])
            ledger.commit()
    ended.set()
    for reader in readers:
        reader.join()
    assert not failures and len(seen) > 10 and all(len(values) == 1 for values in seen)


def test_two_writers_are_refused(uri):
    first, second = Ledger(uri, SCHEMA), Ledger(uri, SCHEMA)
    first.put([row("a")])
    first.commit()
    second.put([row("b")])
    with pytest.raises(Busy, match="process .* is writing there"):
        second.commit()
    first.close()
    second.commit()
    second.close()
    assert set(state(uri)) == {"a", "b"}


def test_the_lease_of_a_dead_process_is_taken_at_once_and_a_distant_one_is_watched(
    tmp_path, monkeypatch
):
    uri = str(tmp_path / "m.parquet")
    monkeypatch.setattr(leases, "STALE_S", 0.4)
    monkeypatch.setattr(leases, "POLL_S", 0.05)
    dead = {**leases._me(), "pid": 2**22 + 1, "token": "x", "beat": 1, "time": time.time()}
    distant = {**dead, "machine": "another", "host": "far"}
    for record, waits in (
        (dead, False),
        (distant, True),
        ({**distant, "time": 0.0}, False),
        ({}, False),
    ):
        write_bytes(lease_uri(uri), json.dumps(record).encode())
        start = time.monotonic()
        ledger = Ledger(uri, SCHEMA)
        ledger.put([row("a")])
        ledger.close()
        assert (time.monotonic() - start > 0.35) == waits
    write_bytes(lease_uri(uri), json.dumps(distant).encode())
    beat = threading.Timer(
        0.15, lambda: write_bytes(lease_uri(uri), json.dumps({**distant, "beat": 2}).encode())
    )
    beat.start()
    ledger = Ledger(uri, SCHEMA)
    ledger.put([row("b")])
    with pytest.raises(Busy, match="on far"):
        ledger.commit()
    beat.join()


def test_a_writer_that_was_taken_over_fails_loudly(tmp_path, monkeypatch):
    uri = str(tmp_path / "m.parquet")
    slow = Ledger(uri, SCHEMA)
    slow.put([row("a")])
    slow.commit()
    remove(lease_uri(uri))  # as another machine does after a long silence
    with Ledger(uri, SCHEMA) as other:
        other.put([row("a", "other")])
        other.commit()
        slow.put([row("a", "slow")])
        with pytest.raises(Lost, match="another process has committed part 2"):
            slow.commit()
        monkeypatch.setattr(leases, "BEAT_S", 0.0)
        with pytest.raises(Lost, match="taken over"):
            slow.commit()
    assert state(uri) == {"a": "other"}


def test_a_live_lease_beats(tmp_path, monkeypatch):
    monkeypatch.setattr(leases, "BEAT_S", 0.05)
    uri = str(tmp_path / "m.parquet")
    ledger = Ledger(uri, SCHEMA)
    ledger.open()
    time.sleep(0.4)
    assert leases.holder(lease_uri(uri))["beat"] >= 2
    ledger.close()
    time.sleep(0.15)
    assert not exists(lease_uri(uri))


def test_a_damaged_ledger_is_named_with_what_to_do(tmp_path):
    uri = str(tmp_path / "m.parquet")
    write_bytes(uri, b"PAR1 not really")
    with pytest.raises(LedgerError, match=f"{uri}: not a readable Parquet file .*store rebuild"):
        read_ledger(uri, SCHEMA)
    write_table(uri, pa.table({"video_id": ["a"], "other": [1]}))
    with pytest.raises(LedgerError, match="columns .* another version"):
        read_ledger(uri, SCHEMA)
    remove(uri)
    ledger = Ledger(uri, SCHEMA)
    for name in "ab":
        ledger.put([row(name)])
        ledger.commit()
    ledger.abandon()
    remove(f"{parts_uri(uri)}/00000001.parquet")
    with pytest.raises(LedgerError, match="part 1 is missing"):
        read_ledger(uri, SCHEMA)


def test_rows_must_fit_the_schema(tmp_path):
    with pytest.raises(KeyError, match="bytes"):
        Ledger(str(tmp_path / "m.parquet"), SCHEMA).put([{"video_id": "a", "key": "k"}])


def test_what_was_written_before_uri_had_two_names_is_read(tmp_path):
    """Columns that were both called `uri`: in a table, in a ledger's base and in its parts."""
    uri, arrays = f"{tmp_path}/frames/d/k/manifest/0000.parquet", f"{tmp_path}/frames/d/k/arrays"
    texts = {name: "x" for name in MANIFEST.names if MANIFEST.field(name).type == pa.string()}
    rows = [
        {
            **dict.fromkeys(MANIFEST.names, 1),
            **texts,
            "video_id": name,
            "array_uri": f"{arrays}/{name}/k.zarr",
        }
        for name in "ab"
    ]
    table = from_rows(rows, MANIFEST)
    old = table.rename_columns(
        ["uri" if name == "array_uri" else name for name in table.column_names]
    )
    write_table(uri, old.slice(0, 1))
    write_table(
        f"{parts_uri(uri)}/00000001.parquet",
        old.slice(1).append_column("dropped", pa.array([False])),
    )
    assert read_ledger(uri, MANIFEST).equals(table)
    assert read_ledger(uri, MANIFEST, ["video_id", "array_uri"]).equals(
        table.select(["video_id", "array_uri"])
    )
    with Ledger(uri, MANIFEST) as ledger:
        ledger.drop(["a"])
    assert (
        read_ledger(uri, MANIFEST).equals(table.slice(1))
        and read_table(uri).column_names == MANIFEST.names
    )
    videos = VIDEOS.empty_table()
    write_table(
        uri,
        videos.rename_columns(
            ["uri" if name == "source_uri" else name for name in videos.column_names]
        ),
    )
    assert read_table(uri).schema == VIDEOS and read_table(
        uri, ["source_uri", "bytes"]
    ).column_names == ["source_uri", "bytes"]
