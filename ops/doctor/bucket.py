"""S3, where the storage is there: whatever the store, the ledger and the readers ask of it, on a
probe that is removed again.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator

from configs.settings import Settings
from ops.doctor.finding import Finding, good, wrong
from ops.doctor.seen import shown

PROBE = ".kinograph-doctor"
DATA = bytes(range(256)) * 16


def check(settings: Settings) -> Iterator[Finding]:
    """Write, create once only, list, read a range, delete."""
    from ops.files.storage import endpoint, list_files, read_bytes, remove, write_bytes

    where = f"{settings.storage} at {shown(endpoint() or 'Amazon')}"
    folder = f"{settings.storage}/{PROBE}/{uuid.uuid4().hex[:12]}"
    try:
        write_bytes(f"{folder}/data", DATA)
        if read_bytes(f"{folder}/data") != DATA:
            yield wrong(
                "S3 write and read",
                f"{where}: an object reads back otherwise",
                "what stands between this machine and the store?",
            )
            return
        yield good("S3 write and read", where)
        yield _conditional(folder)
        yield _ranges(folder)
        names = [info.path_below for info in list_files(folder)]
        listed = names == ["data", "lease"] and all(info.modified for info in list_files(folder))
        advice = "the store must list an object as soon as it is written, with its ETag"
        yield (
            good("S3 list", f"{len(names)} objects")
            if listed
            else wrong("S3 list", f"found {names}, written were data, lease", advice)
        )
    finally:
        remove(folder)
    left = [info.path_below for info in list_files(folder)]
    advice = f"grant s3:DeleteObject to these credentials, and remove {folder}"
    yield (
        wrong("S3 delete", f"still there: {', '.join(left)}", advice)
        if left
        else good("S3 delete", "nothing is left")
    )


def _conditional(folder: str) -> Finding:
    from ops.files.storage import create_bytes

    name = "S3 conditional create"
    create_bytes(f"{folder}/lease", b"one")
    try:
        create_bytes(f"{folder}/lease", b"another")
    except FileExistsError:
        return good(name, "a second create of one key is refused (If-None-Match)")
    advice = (
        "two runs would not see each other's leases: use a store that honours 'If-None-Match: *' on"
        " a put, or never run two at once"
    )
    return wrong(name, "a second create of one key was let through", advice)


def _ranges(folder: str) -> Finding:
    import obstore
    from obstore.exceptions import BaseError

    from ops.files.objects import bucket_store

    store, key = bucket_store(f"{folder}/data")
    begins, ends, reason = [10, 1000, 4000], [20, 1500, 4096], ""
    found: list[bytes] = []
    try:
        found = [bytes(part) for part in obstore.get_ranges(store, key, starts=begins, ends=ends)]
        found.append(bytes(obstore.get(store, key, options={"range": {"suffix": 16}}).bytes()))
    except BaseError as error:
        reason = f": {' '.join(str(error).split())[:200]}"
    if found == [*(DATA[one:other] for one, other in zip(begins, ends, strict=True)), DATA[-16:]]:
        return good("S3 ranges", "parts of an object come as asked for")
    text = f"parts of an object come otherwise than asked for{reason}"
    return wrong("S3 ranges", text, "the store must honour 'Range', or no frame can be read")
