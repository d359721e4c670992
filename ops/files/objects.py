"""Pieces of stored files, as frames are read in training: from S3 through obstore, from any other
store through its fsspec.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from ops.files.errors import StorageError, retry
from ops.files.storage import endpoint, filesystem

T = TypeVar("T")

# obstore's threads do not survive a fork: a child that inherits them hangs. The process that used
# it first is kept to say so instead.
_used_by: int | None = None
_stores: dict[tuple[str | None, ...], Any] = {}


def read_whole(uri: str) -> bytes:
    """The whole file. Raises FileNotFoundError, StorageError; so do the others."""
    if not uri.startswith("s3://"):
        return _elsewhere(uri, lambda system, path: bytes(system.cat_file(path)))
    import obstore

    return _request(uri, lambda store, key: bytes(obstore.get(store, key).bytes()))


def read_tail(uri: str, length: int) -> bytes:
    """The last `length` bytes of the file."""
    if not uri.startswith("s3://"):
        return _elsewhere(uri, lambda system, path: bytes(system.cat_file(path, start=-length)))
    import obstore

    return _request(
        uri,
        lambda store, key: bytes(
            obstore.get(store, key, options={"range": {"suffix": length}}).bytes()
        ),
    )


def read_ranges(uri: str, starts: Sequence[int], lengths: Sequence[int]) -> Sequence[Any]:
    """Pieces of the file as buffers, in the order asked for; near ones come in one request.

    Args:
        uri: of the file.
        starts: first byte of each piece.
        lengths: bytes of each piece.
    """
    if not uri.startswith("s3://"):
        ends = [start + length for start, length in zip(starts, lengths, strict=True)]
        return _elsewhere(
            uri, lambda system, path: system.cat_ranges([path] * len(ends), list(starts), ends)
        )
    import obstore

    return _request(
        uri, lambda store, key: obstore.get_ranges(store, key, starts=starts, lengths=lengths)
    )


def _elsewhere(uri: str, action: Callable[[Any, str], T]) -> T:
    system, path = filesystem(uri)
    return retry(uri, lambda: action(system, path))


def _request(uri: str, action: Callable[[Any, str], T]) -> T:
    from obstore.exceptions import NotFoundError

    store, key = bucket_store(uri)

    def attempt() -> T:
        try:
            return action(store, key)
        except NotFoundError as error:
            raise FileNotFoundError(str(error)) from error

    return retry(uri, attempt)


def bucket_store(uri: str) -> tuple[Any, str]:
    """(obstore S3Store of the bucket, key) of an s3:// URI; one store per process and environment.

    Raises StorageError for missing credentials, and RuntimeError in a process forked after its
    parent used a store.
    """
    global _used_by
    if _used_by is not None and _used_by != os.getpid():
        raise RuntimeError(
            "this process was forked after its parent read from S3; start workers by 'forkserver'"
            " or 'spawn'"
        )
    _used_by = os.getpid()
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    env = os.environ
    identity = (
        bucket,
        endpoint(),
        env.get("AWS_ACCESS_KEY_ID"),
        env.get("AWS_SECRET_ACCESS_KEY"),
        env.get("AWS_SESSION_TOKEN"),
    )
    if identity not in _stores:
        _stores[identity] = _open(bucket, endpoint())
    return _stores[identity], key


def _open(bucket: str, url: str | None) -> Any:
    from obstore.store import S3Store

    options: dict[str, Any] = (
        {"endpoint": url, "virtual_hosted_style_request": False} if url else {}
    )
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    if "AWS_ACCESS_KEY_ID" not in os.environ:  # profiles, roles and the like, as boto3 finds them
        from obstore.auth.boto3 import Boto3CredentialProvider

        try:
            options["credential_provider"] = Boto3CredentialProvider()
        except ValueError as error:
            raise StorageError(
                f"s3://{bucket}",
                "no AWS credentials found; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
            ) from error
    return S3Store(
        bucket,
        region=region or "us-east-1",
        client_options={"allow_http": True, "timeout": "60s", "connect_timeout": "10s"},
        retry_config={"max_retries": 0},  # the retries are `files.retry`'s
        **options,
    )
