"""Plain pickles: what they may hold, in every protocol, and every way a pickle can do harm."""

import collections
import datetime
import os
import pickle
import struct
import time

import numpy as np
import pytest

from ops.annotations.plain_pickle import EXPANDED_LIMIT, load
from ops.annotations.vocabulary import AnnotationError

PLAIN = {
    "none": None,
    "yes": True,
    "no": False,
    "numbers": [0, -1, 255, 70_000, 2**40, -(2**70), 1.5, -2.25e300],
    7: "seven",
    "text": ["", "ascii", "é", "日本", "a\nb"],
    "bytes": b"\x00\xff",
    "tuple": (1, (2, 3), (), (4,), (5, 6, 7, 8)),
    "set": {1, "b"},
    "mapping": collections.OrderedDict([("b", 1), ("a", [2])]),
    ("a", 1): {"deep": [[[]]]},
}
ARRAYS = [
    np.arange(6).reshape(2, 3),
    np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    np.zeros((0, 4), np.float32),
    np.array(3, np.uint8),
    np.array([True, False]),
    np.array(["ab", "c"]),
    np.array([b"ab", b"c"]),
    np.arange(3, dtype=">i4"),
    np.float32([np.nan, np.inf]),
]


@pytest.mark.parametrize("protocol", range(6))
def test_plain_values_come_back(protocol: int):
    found = load(pickle.dumps(PLAIN, protocol), "a.pkl")
    assert found == {**PLAIN, "mapping": {"b": 1, "a": [2]}} and list(found["mapping"]) == [
        "b",
        "a",
    ]
    assert load(pickle.dumps(collections.defaultdict(list, {"a": [1]}), protocol), "a.pkl") == {
        "a": [1]
    }


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("array", ARRAYS, ids=lambda array: f"{array.dtype}{array.shape}")
def test_arrays_come_back(protocol: int, array: np.ndarray):
    found = load(pickle.dumps({"a": array, "again": array}, protocol), "a.pkl")
    assert found["a"].dtype == array.dtype and found["a"].shape == array.shape
    np.testing.assert_array_equal(found["a"], array)
    np.testing.assert_array_equal(found["again"], array)


@pytest.mark.parametrize("protocol", range(6))
def test_numpy_scalars_come_as_pythons_own_and_object_arrays_as_lists(protocol: int):
    rows = np.empty(2, object)
    rows[:] = [[1], "b"]
    found = load(
        pickle.dumps(
            [np.uint8(200), np.float64(1.5), np.str_("née"), np.bool_(True), rows], protocol
        ),
        "a.pkl",
    )
    assert found == [200, 1.5, "née", True, [[1], "b"]]
    assert [type(value) for value in found] == [int, float, str, bool, list]


def test_the_pickles_of_python_2():
    """Protocols 0 and 2 as Python 2 writes them: str for text and for the bytes of arrays, long,
    and numpy's old module names.
    """
    old = b"(dp0\nS'na\\xe9me'\np1\n(lp2\nI01\naI5\naL12L\naF1.5\nas."
    assert load(old, "a.pkl") == {"naéme": [True, 5, 12, 1.5]}
    array = (
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\nq\x00cnumpy\nndarray\nq\x01K\x00\x85U\x01b\x87R(K\x01K\x02\x85cnumpy\ndtype\n"
        b"U\x02f4K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89U\x08"
        + struct.pack("<2f", 1.5, -2)
        + b"tb."
    )
    np.testing.assert_array_equal(load(array, "a.pkl"), np.float32([1.5, -2]))


class _Evil:
    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(
    "evil, named",
    [
        (_Evil(os.system, "touch /tmp/owned"), "system"),
        (_Evil(eval, "1"), "eval"),
        (_Evil(getattr, "a", "upper"), "getattr"),
        (_Evil(open, "/etc/passwd"), "open"),
        (_Evil(np.load, "x.npy"), "load"),
        (_Evil(bytearray, 10**12), "bytearray"),
        (datetime.date(2020, 1, 1), "datetime"),
        (PLAIN.__class__, "dict' itself"),
    ],
)
def test_anything_else_is_refused_by_name_and_nothing_is_run(
    protocol: int, evil: object, named: str, monkeypatch
):
    data = pickle.dumps({"a": [1, evil]}, protocol)
    monkeypatch.setattr(os, "system", lambda command: pytest.fail("was run"))
    with pytest.raises(AnnotationError) as caught:
        load(data, "a.pkl")
    assert caught.value.file == "a.pkl" and named in str(caught.value)


def _deep(levels: int) -> bytes:
    return b"\x80\x02" + b"]" * levels + b"a" * (levels - 1) + b"."


def _laughs(levels: int) -> bytes:
    """Lists of ten mentions of the list before."""
    body = b"]q\x00"
    for level in range(1, levels):
        body += b"]q" + bytes([level]) + b"(" + (b"h" + bytes([level - 1])) * 10 + b"e"
    return b"\x80\x02" + body + b"."


ARRAY = (
    b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R(K\x01%scnumpy\ndtype\n"
    b"X\x02\x00\x00\x00%s\x89\x88\x87R\x89%stb."
)


def _array(shape: bytes, code: bytes, content: bytes) -> bytes:
    return ARRAY % (shape, code, content)


@pytest.mark.parametrize(
    "data, says",
    [
        (_deep(100), "nesting"),
        (_deep(300_000), "nesting"),
        (_laughs(12), f"more than {EXPANDED_LIMIT} values"),
        (b"\x80\x02]q\x00h\x00a.", "within itself"),
        (b"\x80\x02}q\x00X\x01\x00\x00\x00ah\x00s.", "within itself"),
        (b"\x80\x04\x8e" + struct.pack("<Q", 2**62) + b"a.", "byte"),
        (b"\x80\x05\x96" + struct.pack("<Q", 2**62) + b"a.", "byte"),
        (b"\x80\x02B" + struct.pack("<I", 2**32 - 1) + b"a.", "byte"),
        (b"\x80\x02]r\xff\xff\xff\xff.", ""),  # a memo of four thousand million places, in C
        (b"I" + b"9" * 1_000_000 + b"\n.", "whole number"),
        (b"\x80\x02K\x01K\x02\x86\x86.", "nonsense"),
        (b"\x80\x02].garbage", ""),
        (b"\x80\x09].", "protocol"),
        (b"\x80\x02\x82\x01.", "instruction 0x82"),
        (b"\x80\x02}]K\x01s.", "key"),
        (b"\x80\x02}(K\x01K\x02t\x85\x85K\x01s.", "key"),
        (b"\x80\x02}\x8a\x09\x00\x00\x00\x00\x00\x00\x00\x00\x01K\x01s.", "key"),
        (b"\x80\x02}G\x7f\xf8\x00\x00\x00\x00\x00\x00K\x01s.", "key"),
        (b"\x80\x02X\x03\x00\x00\x00\xed\xa0\x80.", "Unicode"),
        (b"V\\ud800\n.", "Unicode"),
        (_array(b"J\xff\xff\xff\x7f\x85", b"f8", b"C\x08abcdefgh"), "shape"),
        (_array(b"J\xff\xff\xff\x7fK\x00\x86", b"f8", b"C\x00"), "shape"),
        (_array(b"J\xff\xff\xff\xff\x85", b"f8", b"C\x08abcdefgh"), "shape"),
        (_array(b"K\x02\x85", b"f8", b"C\x08abcdefgh"), "shape"),
        (_array(b"K\x01\x85", b"S0", b"C\x00"), "shape"),
        (_array(b"K\x01\x85", b"V8", b"C\x08abcdefgh"), "dtype"),
        (_array(b"K\x01\x85", b"M8", b"C\x08abcdefgh"), "dtype"),
        (
            b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nJ\xff\xff\xff\x7f\x85C\x01b\x87R.",
            "without content",
        ),
    ],
)
def test_bombs_and_nonsense_are_errors_in_little_time(data: bytes, says: str):
    began = time.monotonic()
    if says:
        with pytest.raises(AnnotationError) as caught:
            load(data, "a.pkl")
        assert says in str(caught.value) and len(str(caught.value)) < 500
    else:
        assert load(data, "a.pkl") == []
    assert time.monotonic() - began < 30


def test_the_number_of_instructions_is_bounded(monkeypatch):
    monkeypatch.setattr("ops.annotations.plain_pickle.INSTRUCTION_LIMIT", 1000)
    with pytest.raises(AnnotationError, match="more than 1000 instructions"):
        load(b"\x80\x02(" + b"]" * 1000, "a.pkl")


def test_a_truncated_pickle_is_an_error_wherever_it_ends():
    data = pickle.dumps({"a": np.arange(3), "b": ["x", (1, 2)]}, 2)
    for end in range(len(data)):
        with pytest.raises(AnnotationError):
            load(data[:end], "a.pkl")


def test_changed_bytes_never_break_the_reader():
    data, random = (
        pickle.dumps({"a": np.arange(3), "b": ["x", (1, 2)], "c": np.float32(2)}, 2),
        np.random.default_rng(0),
    )
    for _ in range(3000):
        changed = bytearray(data)
        for _ in range(random.integers(1, 4)):
            changed[random.integers(len(data))] = random.integers(256)
        try:
            load(bytes(changed), "a.pkl")
        except AnnotationError as error:
            assert error.file == "a.pkl"


@pytest.mark.parametrize("data", [b"", b"\x80", b"hello", b"{}", "é".encode("utf-16"), bytes(100)])
def test_no_pickle_at_all(data: bytes):
    with pytest.raises(AnnotationError, match="^a.pkl: "):
        load(data, "a.pkl")


def _same(left: object, right: object) -> bool:
    if isinstance(left, np.ndarray):
        return (
            isinstance(right, np.ndarray)
            and left.dtype == right.dtype
            and np.array_equal(left, right)
        )
    if isinstance(left, dict):
        return (
            isinstance(right, dict)
            and left.keys() == right.keys()
            and all(_same(left[key], right[key]) for key in left)
        )
    if isinstance(left, (list, tuple)):
        return (
            type(left) is type(right) and len(left) == len(right) and all(map(_same, left, right))
        )
    return left == right


@pytest.mark.parametrize(
    "path",
    [
        "ucf101_24/pyannot.pkl", "mmaction2/tests_eval_multisports/gt.pkl", "mmaction2/tests_ava_dataset/ava_proposals_sample.pkl",  # noqa: E501
        "mmaction2/tests_eval_detection/proposal.pkl",
    ],
)  # fmt: skip
def test_official_pickles_read_as_pickle_reads_them(shared, path: str):
    data = (shared / "annotations" / path).read_bytes()
    assert _same(pickle.loads(data, encoding="latin1"), load(data, path))


def test_a_pickle_of_tensors_is_refused_by_name(shared):
    data = (shared / "annotations/mmaction2/tests_eval_multisports/data_samples.pkl").read_bytes()
    with pytest.raises(AnnotationError, match="torch"):
        load(data, "data_samples.pkl")
