"""A bucket's writer where things go wrong: nothing of another's is touched, nothing half-written is
left.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from ops.files.storage import list_files, remove, write_bytes
from ops.store.bucket_writer import BucketWriter, BucketWriters
from ops.store.journal import journal_of
from ops.store.lease import Lost
from ops.store.ledger import Ledger, lease_uri
from ops.store.tables import MANIFEST


def a_row(video_id: str, array_uri: str) -> dict:
    blank = {name: "" for name in MANIFEST.names}
    numbers = dict.fromkeys(("num_frames", "height", "width", "bytes"), 0)
    more = {"video_id": video_id, "array_uri": array_uri, "fps": 0.0, "seconds": 0.0}
    return {**blank, **numbers, **more, "status": "ok" if array_uri else "quarantined"}


@pytest.fixture
def ledger_uri(tmp_path: Path) -> str:
    return str(tmp_path / "frames" / "d" / "k" / "manifest" / "0000.parquet")


def array(ledger_uri: str, video_id: str, name: str = "new") -> str:
    return f"{journal_of(ledger_uri).arrays}/{video_id}/{name}.zarr"


def begun(ledger_uri: str) -> BucketWriter:
    writer = BucketWriter(Ledger(ledger_uri, MANIFEST))
    writer.begin()
    return writer


def names(ledger_uri: str) -> list[str]:
    return [info.path_below for info in list_files(journal_of(ledger_uri).arrays)]


@pytest.mark.parametrize("ending", ["abort", "commit", "go on"])
def test_what_another_writes_who_took_over_is_left_alone(ledger_uri: str, ending: str) -> None:
    """A machine that slept for an hour wakes: it has nothing to commit, only something to tidy."""
    slept = begun(ledger_uri)
    slept.expect({"v": ()}, unknown=True)
    remove(lease_uri(ledger_uri))  # as another machine does after a long silence
    other = begun(ledger_uri)
    place = array(ledger_uri, "v")
    other.expect({"v": (place,)})
    write_bytes(f"{place}/zarr.json", b"{}")
    if ending == "abort":
        with pytest.raises(KeyboardInterrupt), BucketWriters() as writers:
            writers.add(slept)
            raise KeyboardInterrupt
    elif ending == "go on":
        with pytest.raises(Lost, match="taken over"):
            slept.expect({"w": (array(ledger_uri, "w"),)})
    else:
        slept.discard("v", None)
        with pytest.raises(Lost, match="taken over"):
            slept.commit()
    assert names(ledger_uri) == ["v/new.zarr/zarr.json"]
    assert journal_of(ledger_uri).names() == [place]
    other.apply(a_row("v", place))
    other.close()
    assert Ledger(ledger_uri, MANIFEST).read()["array_uri"].to_pylist() == [place]


def test_a_video_that_is_refused_leaves_nothing_of_what_was_begun(ledger_uri: str) -> None:
    writer = begun(ledger_uri)
    writer.expect({"v": (array(ledger_uri, "v", "old"),), "w": ()}, unknown=True)
    for place in (array(ledger_uri, "v", "old"), array(ledger_uri, "v"), array(ledger_uri, "w")):
        write_bytes(f"{place}/c/0/0/0/0", b"half")
    writer.apply(a_row("v", ""))
    writer.apply(a_row("w", array(ledger_uri, "w")))
    writer.close()
    assert names(ledger_uri) == ["w/new.zarr/c/0/0/0/0"]


def test_videos_whose_ids_go_on_are_other_videos(ledger_uri: str) -> None:
    """'v/x.zarr' is a film in the folder of films 'v', not an array of the film 'v'."""
    deeper = [array(ledger_uri, "v/x.zarr"), array(ledger_uri, "v/x.zarr/c/0")]
    writer = begun(ledger_uri)
    writer.replace([a_row("v/x.zarr", deeper[0]), a_row("v/x.zarr/c/0", deeper[1])], (), ())
    writer.expect({"v": ()}, unknown=True)
    for place in (*deeper, array(ledger_uri, "v")):
        write_bytes(f"{place}/zarr.json", b"{}")
    writer.discard("v", None)
    writer.close()
    assert names(ledger_uri) == ["v/x.zarr/c/0/new.zarr/zarr.json", "v/x.zarr/new.zarr/zarr.json"]


def test_a_journal_of_work_that_never_began_goes(ledger_uri: str) -> None:
    """Else every run to come finds the bucket unfinished."""
    journal_of(ledger_uri).open([f"{journal_of(ledger_uri).arrays}/v/*"])
    begun(ledger_uri).close()
    assert not list_files(journal_of(ledger_uri).folder)
