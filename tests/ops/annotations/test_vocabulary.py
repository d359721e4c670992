"""Vocabulary files: plain text, numbered text and protobuf text."""

import pickle

import pytest

from ops.annotations.vocabulary import AnnotationError, Vocabulary, from_found, parse

ITEMS = (
    b'# actions\nitem {\n  name: "stand"\n  id: 12\n}\nlabel { label_id: 3 name: "say \\"id: 7\\""'
    b" label_type: PERSON_MOVEMENT }\n"
)


def test_text_gives_positions():
    assert parse(b"\xef\xbb\xbfrun\r\n\njump, high \n", "labels.txt", own_ids=False) == Vocabulary(
        ("run", "jump, high"), (0, 1)
    )


def test_protobuf_text_comes_in_id_order():
    assert parse(ITEMS, "a/b.pbtxt", own_ids=True) == Vocabulary(('say "id: 7"', "stand"), (3, 12))
    assert parse(ITEMS, "b.pbtxt.txt", own_ids=False) == Vocabulary(
        ('say "id: 7"', "stand"), (0, 1)
    )


def test_escapes_of_protobuf_text():
    data = rb'item { name: "caf\303\251" id: 1 } item { name: "\xc3\xa9t\303\251 \"x\"" id: 2 }'
    assert parse(data, "a.pbtxt", own_ids=True).names == ("caf\u00e9", '\u00e9t\u00e9 "x"')


def test_numbered_text_for_boxes():
    words = parse(b"12: stand\n3: sit: down\n", "map.txt", own_ids=True)
    assert parse("1: run\u200b\n2: jump\u00a0\n".encode(), "map.txt", own_ids=True).names == (
        "run",
        "jump",
    )
    assert (
        words == Vocabulary(("sit: down", "stand"), (3, 12))
        and words.id_of["stand"] == 12
        and words.name_of[3] == "sit: down"
    )


@pytest.mark.parametrize(
    "data, file, own_ids, says",
    [
        (b"", "l.txt", False, "no labels"),
        (b"", "l.pbtxt", True, "no labels"),
        (b"run\nrun\n", "l.txt", False, "name: found 'run'; expected: each name once"),
        (b"r\xfcn\n", "l.txt", False, "encoding: found 'byte 0xfc at 1'"),
        (b"run\n", "l.txt", True, "l.txt:1: label: found 'run'"),
        (b"1: a\n1: b\n", "l.txt", True, "id: found 1; expected: each id once"),
        (b'item {\n  name: "a"\n}\n', "l.pbtxt", True, "l.pbtxt:1: item"),
        (b'item {\n  name: "a"\n  id: 1\n', "l.pbtxt", True, "only items"),
        (b"run\njump\n", "l.pbtxt", True, "only items"),
    ],
)
def test_a_bad_vocabulary_is_named(data: bytes, file: str, own_ids: bool, says: str):
    with pytest.raises(AnnotationError) as caught:
        parse(data, file, own_ids)
    assert says in str(caught.value) and file in str(caught.value)


def test_the_error_survives_a_process_border():
    error = AnnotationError("f", "line", 3, "less")
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


@pytest.mark.parametrize(
    "name, count",
    [
        ("kinetics_label_map_k400", 400),
        ("kinetics_label_map_k700", 700),
        ("sthv2_label_map", 174),
        ("ucf101_label_map", 101),
    ],
)
def test_official_text_vocabularies(shared, name: str, count: int):
    assert (
        len(
            parse(
                (shared / f"annotations/mmaction2/{name}.txt").read_bytes(), name, own_ids=False
            ).names
        )
        == count
    )


def test_official_protobuf_text(shared):
    path = (
        shared
        / "annotations/activitynet_kinetics/Evaluation/ava/ava_action_list_v2.1_for_activitynet_2018.pbtxt.txt"  # noqa: E501
    )
    words = parse(path.read_bytes(), path.name, own_ids=True)
    assert (
        len(words.names) == 60
        and words.name_of[1] == "bend/bow (at the waist)"
        and words.name_of[80] == "watch (a person)"
    )


@pytest.mark.parametrize(
    "text, names, numbers, word",
    [
        ("label\nrun\njump\n", ("run", "jump"), None, "'label', is taken for a header"),
        ('"label"\n"run"\n"jump, high"\n', ("run", "jump, high"), None, "header"),
        # a class that is called so stands in quotes
        ('"label"\nrun\n', ("label", "run"), None, ""),
        ("id,name\n0,run\n1,jump\n", ("run", "jump"), (0, 1), "header"),
        ("name;id\nrun;1\njump;0\n", ("jump", "run"), (0, 1), "header"),
        (',label\n0,run\n1,"jump, high"\n', ("run", "jump, high"), (0, 1), "header"),
        ("label,count\nrun,30\njump,7\n", ("run", "jump"), None, "header"),
        ("2\tjump\n1\trun\n", ("run", "jump"), (1, 2), "1 to 2, which give their order"),
        ("run,3\njump,0\n", ("jump", "run"), (0, 3), "0 to 3"),
        ("0 run\n1 jump\n", ("run", "jump"), (0, 1), "0 to 1"),
        ("run 1\njump 0\n", ("jump", "run"), (0, 1), "0 to 1"),
        ("0,jump, high\n1,run, slowly\n", ("jump, high", "run, slowly"), (0, 1), "0 to 1"),
        ('0,"a,b"\n1,"c,d"\n', ("a,b", "c,d"), (0, 1), "0 to 1"),
        ("level 2\nlevel 1\n", ("level 2", "level 1"), None, ""),
        ("1. run\n2. jump\n", ("1. run", "2. jump"), None, ""),
        ('"#1 run"\n"#0 jump"\n', ("#1 run", "#0 jump"), None, ""),
        ("level 1\nlevel 2\n", ("level 1", "level 2"), None, ""),
        ("1 person\n2 person\n", ("1 person", "2 person"), None, ""),
        (
            '"2 point shot"\n"3 point shot"\n"run"',
            ("2 point shot", "3 point shot", "run"),
            None,
            "",
        ),
        ("3 point shot\nrun\n", ("3 point shot", "run"), None, ""),
        ("action, slow\naction, fast\n", ("action, slow", "action, fast"), None, ""),
        ("\u00a0run\u200b\n\u3000jump \ufeff\n", ("run", "jump"), None, ""),
        ("a\u2028b\nc\x0bd\n", ("a\u2028b", "c\x0bd"), None, ""),  # these end no line
        ("run\rjump\r", ("run", "jump"), None, ""),
        ('["run", "jump"]', ("run", "jump"), None, ""),
        ('{"run": 1, "jump": 0}', ("jump", "run"), (0, 1), ""),
        ('{"5": "run", "3": "jump"}', ("jump", "run"), (3, 5), ""),
        ("[a] b\nc\n", ("[a] b", "c"), None, ""),
    ],
)
def test_vocabularies_as_people_write_them(
    text: str, names: tuple, numbers: tuple | None, word: str
):
    words = parse(text.encode(), "labels.txt", own_ids=False)
    assert (words.names, words.ids, words.numbers) == (names, tuple(range(len(names))), numbers)
    assert word in words.word and bool(word) == bool(words.word)


@pytest.mark.parametrize(
    "text, says",
    [
        (
            "# my labels\nrun\n",
            "labels.txt:1: label: found '# my labels'; expected: labels alone, without comments",
        ),
        ("2 point\n5 throw\n", "numbers from 0 or 1, each once"),
        ("0,run\n0,jump\n", "id: found 0; expected: each id once"),
        ("id,name\n0,run\nx,jump\n", "labels.txt:3: label: found 'x,jump'"),
        ("id,name\n0,run\n1\n", "labels.txt:3"),
        ("id,name\n0,\n", "labels.txt:2: label"),
        (
            'run\n"jump\n',
            "labels.txt:2: label: found '\"jump'; expected: a label whose quotes close",
        ),
        ("run\tlaufen\njump\tspringen\n", "labels.txt:1: label: found 'run\\tlaufen'"),
        ('{"run": 1.5}', "(whole file)"),
        ('{"0": "run", "0": "jump", "1": "sit"}', "key '0' given twice"),
        ('{"0": "2", "1": "0", "2": "1"}', "which side has the numbers"),
        ('[["run"]]', "(whole file)"),
        *(
            (text, "lines in the order of the numbers")
            for text in (
                "1. run\n0. jump\n",
                "1.0,run\n0.0,jump\n",
                "(2) run\n(1) jump\n",
                "#1 run\n#0 jump\n",
                "run (1)\njump (0)\n",
                "\u0661,run\n\u0660,jump\n",
            )
        ),
        ("0;run;laufen\n1;jump;springen\n", "without a further column"),
        ("0,run,laufen\n1,jump,springen\n", "without a further column"),
    ],
)
def test_what_nobody_can_know_of_a_vocabulary_is_asked(text: str, says: str):
    with pytest.raises(AnnotationError) as caught:
        parse(text.encode(), "labels.txt", own_ids=False)
    assert says in str(caught.value)


def test_numbers_of_rows_are_those_of_the_file():
    words = parse(b"3,run\n1,jump\n", "l.txt", own_ids=False)
    assert [words.numbered(number) for number in (0, 1, 2, 3, 4)] == [
        None,
        "jump",
        None,
        "run",
        None,
    ]
    assert [words.numbered(number, 0) for number in (0, 1, 2)] == ["jump", "run", None]
    plain = parse(b"run\njump\n", "l.txt", own_ids=False)
    assert [plain.numbered(number) for number in (0, 1, 2)] == ["run", "jump", None]
    assert [plain.numbered(number, 1) for number in (0, 1, 2)] == [None, "run", "jump"]
    assert from_found({"1", "3"}, "here", first=1).names == ("1", "2", "3")
