"""Something-Something V2 lists: templates, the label map, results, and every way an entry can be
wrong.
"""

import json

import pytest

import configs
from ops.annotations.formats.something_json import EXPECTED, FOLDER, TABLE, read, sniff, vocabulary
from ops.annotations.rows import Context
from ops.annotations.vocabulary import AnnotationError, from_names, parse

WORDS = from_names(["Holding something next to something", "Turning something upside down"])
CONTEXT = Context("ssv2", "train.json", video="{id}", split="train", vocabulary=WORDS)
ENTRY = {
    "id": "78687",
    "label": "holding potato next to vicks bottle",
    "template": "Holding [something] next to [something]",
    "placeholders": ["potato", "vicks bottle"],
}


def test_the_class_is_the_template_without_brackets():
    rows = read(
        json.dumps([ENTRY, {"id": 42, "template": "Turning [something] upside down"}]).encode(),
        CONTEXT,
    ).table.to_pylist()
    assert rows[0] == {
        "clip_id": "78687",
        "video_id": "78687",
        "dataset": "ssv2",
        "split": "train",
        "target": "label",
        "label": "Holding something next to something",
        "label_id": 0,
        "start_s": None,
        "end_s": None,
        "source": "train.json:[0]",
    }
    assert (rows[1]["video_id"], rows[1]["label_id"]) == ("42", 1)


def test_test_lists_have_ids_alone():
    answer = read(
        b'\xef\xbb\xbf[{"id": "1420"}]',
        Context("ssv2", "test.json", video="webm/{video}", split="test", vocabulary=WORDS),
    )
    assert [(row["video_id"], row["label"], row["split"]) for row in answer.table.to_pylist()] == [
        ("webm/1420", None, "test")
    ]


def test_all_bad_entries_come_together_and_the_good_ones_are_read():
    bad: list = [
        3,
        {"template": "x"},
        {"id": ""},
        {"id": 1.5},
        {"id": True},
        {"id": "1", "template": 7},
        {"id": "1", "template": "Flying [something]"},
        {"id": "1"},
        {"id": float("nan"), "template": "x"},
    ]
    answer = read(json.dumps([*bad, ENTRY]).encode(), CONTEXT)
    assert [(p.line, p.field, p.kind) for p in answer.problems] == [
        (0, "(entry)", "structure"),
        (0, "(entry)", "structure"),
        (0, "id", "empty"),
        (0, "id", "value"),
        (0, "id", "value"),
        (0, "template", "value"),
        (0, "label", "unknown_label"),
        (0, "label", "empty"),
        (0, "id", "value"),
    ]
    assert answer.problems[6].found == "[6]: Flying something" and answer.table[
        "video_id"
    ].to_pylist() == ["78687"]


@pytest.mark.parametrize(
    "data, split, says",
    [
        (b"", "train", "an empty file"),
        (b"[]", "train", "an empty list"),
        (b"{}", "train", "dict"),
        (b'[{"id": "1"', "train", "column"),
        (b'[{"id": "1", "id": "2"}]', "train", "the same key twice"),
        (b"\xff\xfe[]", "train", "UTF-8 text"),
        (b"[" * 100_000, "train", "nested too deeply"),
        (b'[{"id": "1"}]', None, "a split in the dataset's config"),
        (
            b'[{"id": "1"}]',
            "train",
            (
                "no good row; first of 1 problems: train.json: label '[0]: ': no label in the train"
                " split"
            ),
        ),
    ],
)
def test_a_list_that_cannot_be_used_is_named(data: bytes, split: str | None, says: str):
    with pytest.raises(AnnotationError) as caught:
        read(data, Context("ssv2", "train.json", split=split, vocabulary=WORDS))
    assert caught.value.file.startswith("train.json") and says in str(caught.value)


def test_the_label_map():
    assert vocabulary(b'{"b": "1", "a": "0", "c": 2}', "labels.json", "label").names == (
        "a",
        "b",
        "c",
    )
    bad = [
        b"[]",
        b"{}",
        b'{"a": "1"}',
        b'{"a": "0", "b": "0"}',
        b'{"a": "x"}',
        b'{"a": true}',
        b'{"a": -1}',
        b'{"a": "0", "a": "1"}',
        b'{"a": [0]}',
    ]
    for data in bad:
        with pytest.raises(AnnotationError, match="^labels.json: "):
            vocabulary(data, "labels.json", "label")


def test_lists_are_recognised():
    assert (TABLE, FOLDER) == ("clips", False) and "template" in EXPECTED
    assert sniff("train.json", json.dumps([ENTRY]).encode()) and sniff(
        "test.json", b'\xef\xbb\xbf [{"id": "1"}, {"id": "2"}]'
    )
    for other in (
        b"",
        b"{}",
        b"[]",
        b'[{"vid_name": "a", "label": 1}]',
        b'[{"id": "1", "name": "x"}]',
        b"\xff\x00",
    ):
        assert not sniff("train.json", other)


@pytest.mark.parametrize(
    "name, labels, pairs",
    [
        ("something_v2", "sthv2_label_map.txt", {(86, 87), (93, 94), (166, 167)}),
        ("something_v1", "sthv1_label_map.txt", {(2, 4), (30, 41), (52, 66)}),
        ("jester", "jester_label_map.txt", {(0, 1), (6, 7), (14, 15)}),
    ],
)
def test_flips_exchange_the_classes_of_the_published_recipes(
    shared, name: str, labels: str, pairs: set
):
    words = parse((shared / "annotations/mmaction2" / labels).read_bytes(), labels, own_ids=False)
    flips = configs.dataset(name).flip_labels
    assert {(words.id_of[one], words.id_of[other]) for one, other in flips.items()} == pairs
    assert len(words.names) == configs.dataset(name).expected["clips.all.classes"]
