"""Vocabulary files: plain text, numbered text and protobuf text."""

import pickle

import pytest

from ops.annotations.vocabulary import AnnotationError, Vocabulary, parse

ITEMS = b'# actions\nitem {\n  name: "stand"\n  id: 12\n}\nlabel { label_id: 3 name: "say \\"id: 7\\"" label_type: PERSON_MOVEMENT }\n'


def test_text_gives_positions():
    assert parse(b"\xef\xbb\xbfrun\r\n\njump, high \n", "labels.txt", own_ids=False) == Vocabulary(("run", "jump, high"), (0, 1))


def test_protobuf_text_comes_in_id_order():
    assert parse(ITEMS, "a/b.pbtxt", own_ids=True) == Vocabulary(('say "id: 7"', "stand"), (3, 12))
    assert parse(ITEMS, "b.pbtxt.txt", own_ids=False) == Vocabulary(('say "id: 7"', "stand"), (0, 1))


def test_numbered_text_for_boxes():
    words = parse(b"12: stand\n3: sit: down\n", "map.txt", own_ids=True)
    assert words == Vocabulary(("sit: down", "stand"), (3, 12)) and words.id_of["stand"] == 12 and words.name_of[3] == "sit: down"


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
    "name, count", [("kinetics_label_map_k400", 400), ("kinetics_label_map_k700", 700), ("sthv2_label_map", 174), ("ucf101_label_map", 101)]
)
def test_official_text_vocabularies(shared, name: str, count: int):
    assert len(parse((shared / f"annotations/mmaction2/{name}.txt").read_bytes(), name, own_ids=False).names) == count


def test_official_protobuf_text(shared):
    path = shared / "annotations/activitynet_kinetics/Evaluation/ava/ava_action_list_v2.1_for_activitynet_2018.pbtxt.txt"
    words = parse(path.read_bytes(), path.name, own_ids=True)
    assert len(words.names) == 60 and words.name_of[1] == "bend/bow (at the waist)" and words.name_of[80] == "watch (a person)"
