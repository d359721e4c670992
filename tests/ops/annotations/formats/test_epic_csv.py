"""EPIC-Kitchens csv: the official files as clips and as segments, and every way a row can be
wrong.
"""

import pytest

import configs
from ops.annotations.formats.epic_csv import TABLES, read, seconds, sniff, vocabulary
from ops.annotations.rows import Context
from ops.annotations.vocabulary import AnnotationError, Vocabulary, from_names

HEADER = "narration_id,participant_id,video_id,start_timestamp,stop_timestamp,verb,verb_class,noun,noun_class,all_nouns\n"  # noqa: E501
GOOD = "P01_1_0,P01,P01_1,00:00:01.50,00:01:02.25,take-up,0,mug,2,\"['mug', 'tea']\"\n"
VERBS, NOUNS = Vocabulary(("take", "put"), (0, 1)), Vocabulary(("tap", "cup"), (0, 2))
CLIPS = Context("epic", "v.csv", table="clips", target="verb", split="val", vocabulary=VERBS)
SEGMENTS = Context(
    "epic",
    "v.csv",
    table="segments",
    target="noun",
    split="train",
    vocabulary=NOUNS,
    video="{participant_id}/{video_id}",
)


def test_the_same_row_is_a_clip_or_a_segment():
    assert TABLES == ("clips", "segments")
    assert read((HEADER + GOOD).encode(), CLIPS).table.to_pylist() == [
        {
            "clip_id": "P01_1_0",
            "video_id": "P01_1",
            "dataset": "epic",
            "split": "val",
            "target": "verb",
            "label": "take",
            "label_id": 0,
            "start_s": 1.5,
            "end_s": 62.25,
            "source": "v.csv:2",
        }
    ]
    assert read((HEADER + GOOD).encode(), SEGMENTS).table.to_pylist() == [
        {
            "video_id": "P01/P01_1",
            "dataset": "epic",
            "split": "train",
            "target": "noun",
            "label": "cup",
            "label_id": 2,
            "start_s": 1.5,
            "end_s": 62.25,
            "source": "v.csv:2",
        }
    ]


def test_a_template_with_the_narration_means_a_file_for_each_clip():
    context = Context(
        "epic",
        "v.csv",
        table="clips",
        target="verb",
        split="val",
        vocabulary=VERBS,
        video="{participant_id}/{narration_id}",
    )
    row = read((HEADER + GOOD).encode(), context).table.to_pylist()[0]
    assert (row["clip_id"], row["video_id"], row["start_s"], row["end_s"]) == (
        "P01/P01_1_0",
        "P01/P01_1_0",
        None,
        None,
    )


def test_an_action_is_the_pair_of_its_classes():
    data = (HEADER + GOOD + GOOD.replace(",2,", ",10,").replace("P01_1_0", "b")).encode()
    words = vocabulary(data, "v.csv", "action")
    assert words == from_names(["0,2", "0,10"])  # in the order of the numbers, not of the letters
    answer = read(
        data,
        Context("epic", "v.csv", table="clips", target="action", split="val", vocabulary=words),
    )
    assert [(row["label"], row["label_id"]) for row in answer.table.to_pylist()] == [
        ("0,2", 0),
        ("0,10", 1),
    ]


def test_without_a_vocabulary_a_label_is_its_number():
    for words, label_id in ((None, -1), (from_names(["0", "2"]), 1)):
        answer = read(
            (HEADER + GOOD).encode(),
            Context(
                "epic", "v.csv", table="segments", target="noun", split="val", vocabulary=words
            ),
        )
        assert [(row["label"], row["label_id"]) for row in answer.table.to_pylist()] == [
            ("2", label_id)
        ]


def test_a_test_list_has_clips_without_classes():
    data = b"narration_id,video_id,start_timestamp,stop_timestamp\na,v,00:00:01,00:00:02.5\n"
    answer = read(
        data, Context("epic", "t.csv", table="clips", target="verb", split="test", vocabulary=VERBS)
    )
    assert [(row["label"], row["label_id"], row["end_s"]) for row in answer.table.to_pylist()] == [
        (None, None, 2.5)
    ]
    for table, split in (("clips", "val"), ("segments", "test")):
        with pytest.raises(AnnotationError, match="t.csv: header: found"):
            read(
                data,
                Context("epic", "t.csv", table=table, target="verb", split=split, vocabulary=VERBS),
            )


@pytest.mark.parametrize(
    "old, new, field, kind",
    [
        ("P01_1_0,", "P01_1_0,,", "(line)", "columns"),
        ("P01_1_0,", ",", "narration_id", "empty"),
        (",P01_1,", ",,", "video_id", "empty"),
        ("00:00:01.50", "nan", "start_timestamp", "value"),
        ("00:00:01.50", "1.50", "start_timestamp", "value"),
        ("00:00:01.50", "00:00:61.50", "start_timestamp", "value"),
        ("00:00:01.50", "-00:00:01.50", "start_timestamp", "negative_time"),
        ("00:01:02.25", "inf", "stop_timestamp", "value"),
        ("00:01:02.25", "", "stop_timestamp", "value"),
        ("00:01:02.25", "00:00:01.50", "stop_timestamp", "end_before_start"),
        ("00:01:02.25", "00:00:00.50", "stop_timestamp", "end_before_start"),
        (",0,mug", ",,mug", "verb_class", "empty"),
        (",0,mug", ",-1,mug", "verb_class", "value"),
        (",0,mug", ",0.5,mug", "verb_class", "value"),
        (",0,mug", ",7,mug", "label", "unknown_label"),
        ("tea']\"", "tea']", "(line)", "text"),
    ],
)
def test_a_bad_row_is_a_problem_and_the_next_row_is_read(old: str, new: str, field: str, kind: str):
    assert old in GOOD
    answer = read((HEADER + GOOD.replace(old, new, 1) + GOOD).encode(), CLIPS)
    assert [(p.file, p.line, p.field, p.kind) for p in answer.problems] == [
        ("v.csv", 2, field, kind)
    ]
    assert answer.table.num_rows == 1


def test_all_problems_of_a_file_come_together():
    text = (
        HEADER
        + "\xff\n"
        + GOOD
        + GOOD.replace(",0,mug", ",9,mug")
        + GOOD.replace("01:02.25", "00:01.00")
        + "x\n"
    )
    answer = read(text.encode("latin-1"), CLIPS)
    assert [(p.line, p.kind) for p in answer.problems] == [
        (2, "text"),
        (4, "unknown_label"),
        (5, "end_before_start"),
        (6, "columns"),
    ]


def test_a_row_without_a_split_is_a_problem():
    context = Context(
        "epic", "v.csv", table="clips", target="verb", vocabulary=VERBS, splits={"P01_1": "val"}
    )
    answer = read((HEADER + GOOD + GOOD.replace("P01_1,", "P01_2,")).encode(), context)
    assert answer.table["split"].to_pylist() == ["val"] and [p.kind for p in answer.problems] == [
        "unknown_split"
    ]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\n",
        HEADER.encode(),
        b"label,youtube_id\na,b\n",
        GOOD.encode(),
        (HEADER + GOOD).encode("utf-16"),
        b"{}",
        HEADER.encode() + b"x\n",
    ],
)
def test_a_file_that_cannot_be_used_is_named(data: bytes):
    with pytest.raises(AnnotationError, match="^v.csv: "):
        read(data, CLIPS)


def test_the_target_must_be_one_of_the_rows_labels():
    with pytest.raises(
        AnnotationError, match="target: found 'label'; expected: target: verb, noun, action"
    ):
        read((HEADER + GOOD).encode(), Context("epic", "v.csv", table="clips", split="val"))
    with pytest.raises(AnnotationError, match="expected: a template over the columns"):
        read(
            (HEADER + GOOD).encode(),
            Context("epic", "v.csv", table="clips", target="verb", split="val", video="{kitchen}"),
        )


@pytest.mark.parametrize(
    "data, target",
    [
        (b"id,key\n0,take\n0,put\n", "verb"),
        (b"id,key\n0,a\n1,a\n", "verb"),
        (b"id,key\nx,a\n", "noun"),
        (b"id,key\n0\n", "noun"),
        (b"id,key\n", "verb"),
        (b"a,b\n", "verb"),
        (b"id,key\n0,a\n", "action"),
        (b"id,key\n0,\n", "verb"),
    ],
)
def test_a_wrong_class_file_is_named(data: bytes, target: str):
    with pytest.raises(AnnotationError, match="^c.csv"):
        vocabulary(data, "c.csv", target)


def test_times_and_sniffing():
    assert (
        seconds("01:02:03.5") == 3723.5
        and seconds("00:00:00") == 0
        and seconds("-00:00:01") == -1
        and seconds("00:60:00") is None
    )
    assert sniff("x", (HEADER + GOOD).encode()) and not any(
        sniff("x", data) for data in (b"", b"\xff\xfe", b"id,actions,length\n")
    )


def test_official_files(shared):
    folder = shared / "annotations/epic-kitchens-100"
    verbs = vocabulary((folder / "EPIC_100_verb_classes.csv").read_bytes(), "v.csv", "verb")
    nouns = vocabulary((folder / "EPIC_100_noun_classes.csv").read_bytes(), "n.csv", "noun")
    later = vocabulary((folder / "EPIC_100_noun_classes_v2.csv").read_bytes(), "n2.csv", "noun")
    assert (len(verbs.names), len(nouns.names), len(later.names)) == (97, 300, 305)
    assert configs.dataset("epic_kitchens100").expected["clips.val.rows"] == 9668
    data = (folder / "EPIC_100_validation.csv").read_bytes()
    actions = vocabulary(data, "EPIC_100_validation.csv", "action")
    for table, target, words, classes in (
        ("clips", "verb", verbs, 78),
        ("segments", "noun", nouns, 211),
        ("clips", "action", actions, 1352),
    ):
        answer = read(
            data,
            Context(
                "epic",
                "EPIC_100_validation.csv",
                table=table,
                target=target,
                split="val",
                vocabulary=words,
            ),
        )
        assert answer.table.num_rows == 9668 and not answer.problems
        assert (
            len(answer.table["video_id"].unique()) == 138
            and len(answer.table["label"].unique()) == classes
        )
    unlabelled = (folder / "EPIC_100_test_timestamps.csv").read_bytes()
    answer = read(
        unlabelled,
        Context(
            "epic",
            "EPIC_100_test_timestamps.csv",
            table="clips",
            target="noun",
            split="test",
            vocabulary=nouns,
        ),
    )
    assert answer.table.num_rows == 13092 and not answer.problems
