"""obstore objects for s3:// URIs: frames are written and read through them, tables and folders through `files`."""

from __future__ import annotations

import os
from typing import Any

from ops.files.storage import StorageError, endpoint

# obstore's threads do not survive a fork: a child that inherits them hangs. The process that used it first is kept to say so instead.
_used_by: int | None = None
_stores: dict[tuple[str | None, ...], Any] = {}


def bucket_store(uri: str) -> tuple[Any, str]:
    """(obstore S3Store of the bucket, key) of an s3:// URI; one store per process and environment.

    Raises StorageError for missing credentials, and RuntimeError in a process forked after its parent used a store.
    """
    global _used_by
    if _used_by is not None and _used_by != os.getpid():
        raise RuntimeError("this process was forked after its parent read from S3; start workers by 'forkserver' or 'spawn'")
    _used_by = os.getpid()
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    env = os.environ
    identity = (bucket, endpoint(), env.get("AWS_ACCESS_KEY_ID"), env.get("AWS_SECRET_ACCESS_KEY"), env.get("AWS_SESSION_TOKEN"))
    if identity not in _stores:
        _stores[identity] = _open(bucket, endpoint())
    return _stores[identity], key


def _open(bucket: str, url: str | None) -> Any:
    from obstore.store import S3Store

    options: dict[str, Any] = {"endpoint": url, "virtual_hosted_style_request": False} if url else {}
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    if "AWS_ACCESS_KEY_ID" not in os.environ:  # profiles, roles and the like, as boto3 finds them
        from obstore.auth.boto3 import Boto3CredentialProvider

        try:
            options["credential_provider"] = Boto3CredentialProvider()
        except ValueError as error:
            raise StorageError(f"s3://{bucket}", "no AWS credentials found; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY") from error
    return S3Store(
        bucket,
        region=region or "us-east-1",
        client_options={"allow_http": True, "timeout": "60s", "connect_timeout": "10s"},
        retry_config={"max_retries": 0},  # the retries are `files.retry`'s
        **options,
    )
