from __future__ import annotations

import hashlib
import subprocess
import sys
from collections import Counter

from ops.store.buckets import bucket_of, bucket_of_file


def test_buckets_are_even_and_defined_by_the_hash():
    counts = Counter(bucket_of(f"video{index}", 16) for index in range(16_000))
    assert sorted(counts) == list(range(16)) and min(counts.values()) > 850
    assert bucket_of("a/b", 7) == int(hashlib.sha256(b"a/b").hexdigest()[:8], 16) % 7


def test_files_that_differ_in_their_ending_share_a_bucket():
    assert bucket_of_file("a/b.x.mp4") == bucket_of_file("a/b.x.json") == bucket_of("a/b.x")


def test_the_module_is_light():
    code = (
        "import sys, ops.store.buckets; print([name for name in ('numpy', 'av', 'decord',"
        " 'pyarrow', 'fsspec') if name in sys.modules])"
    )
    assert (
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout.strip()
        == "[]"
    )
