"""One error for every store, and a few tries while a failure may pass."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from typing import Any, TypeVar

from configs.errors import KinographError, without_secrets

TRIES = 3
FIRST_WAIT_S = 0.2
TRANSIENT = {
    errno.EIO,
    errno.EAGAIN,
    errno.EBUSY,
    errno.ETIMEDOUT,
    errno.ESTALE,
    errno.EREMOTEIO,
    errno.ECONNRESET,
    errno.ECONNREFUSED,
    errno.EINTR,
}
BUSY_STATUS = {408, 425, 429}  # HTTP answers that ask for another try, beside 500 and above
# Exceptions of the stores' libraries that are no OSErrors, by name: importing them here would load
# those libraries for local runs too.
NETWORK = {
    "HTTPClientError",
    "EndpointConnectionError",
    "ConnectTimeoutError",
    "ReadTimeoutError",
    "ClientPayloadError",
    "ClientConnectionError",
    "ServiceRequestError",
    "ServiceResponseError",
    "TransportError",
    "GenericError",
}
REFUSED = {
    "NoCredentialsError",
    "PartialCredentialsError",
    "CredentialRetrievalError",
    "TokenRetrievalError",
    "UnauthorizedSSOTokenError",
    "PermissionDeniedError",
    "UnauthenticatedError",
    "ClientAuthenticationError",
    "DefaultCredentialsError",
}
CREDENTIALS = {
    "s3": "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_ENDPOINT_URL",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS",
    "az": "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
}
T = TypeVar("T")


class StorageError(KinographError, OSError):
    """A store that refuses or fails: names the URI and the cause.

    Args:
        uri: passwords and signatures in it are not in the message.
        cause: an error or words; theirs are not either.
        code: the cause's `errno`, where it has one.
        transient: a later try may succeed: the store failed, it did not refuse.
    """

    def __init__(
        self, uri: str, cause: object, code: int | None = None, transient: bool = False
    ) -> None:
        self.uri, self.cause, self.transient = uri, without_secrets(str(cause)), transient
        super().__init__(code, f"{without_secrets(uri)}: {self.cause}")

    def __str__(self) -> str:
        return str(self.args[1])

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.uri, self.cause, self.errno, self.transient)


def retry(uri: str, action: Callable[[], T]) -> T:
    """Runs the action, up to three times while the failure may pass.

    Args:
        uri: what the action is about, for the message.
        action: may run more than once; its value is given back.

    Raises:
        FileNotFoundError: nothing lies there; it is as the action raised it, with the URI.
        StorageError: the store refuses, or fails every time.
    """
    wait = FIRST_WAIT_S
    for attempt in range(1, TRIES + 1):
        try:
            return action()
        except StorageError:
            raise
        except FileNotFoundError as error:
            raise FileNotFoundError(
                errno.ENOENT, "no such file or folder", without_secrets(uri)
            ) from error
        except Exception as error:
            reason = _refusal(uri, error)
            if reason is not None:
                raise StorageError(uri, reason, getattr(error, "errno", None)) from error
            if not _transient(error):
                if isinstance(error, OSError):
                    raise StorageError(uri, error.strerror or error, error.errno) from error
                if _unaskable(uri, error):
                    what = "the store cannot be asked for this; check the address and its settings"
                    raise StorageError(uri, f"{what} ({_first(error, 2)})") from error
                raise
            if attempt == TRIES:
                raise StorageError(
                    uri,
                    f"failed {TRIES} times: {error}",
                    getattr(error, "errno", None),
                    transient=True,
                ) from error
            time.sleep(wait)
            wait *= 2
    raise AssertionError("unreachable")


def _first(error: Exception, lines: int = 1) -> str:
    return " ".join(str(error).splitlines()[:lines])[:200] if str(error) else type(error).__name__


def _unaskable(uri: str, error: Exception) -> bool:
    """Whether a store's library found fault with the bucket's name, the endpoint or a like setting
    before it asked anybody.
    """
    names = {kind.__name__ for kind in type(error).__mro__}
    return "://" in uri and (isinstance(error, ValueError) or "BotoCoreError" in names)


def http_status(error: BaseException | None) -> int | None:
    """The HTTP status that a store's library found."""
    values = (getattr(error, name, None) for name in ("status", "status_code", "code"))
    return next(
        (int(value) for value in values if isinstance(value, (int, str)) and str(value).isdigit()),
        None,
    )


def _refusal(uri: str, error: Exception) -> str | None:
    """Why another try is no use, where the store has refused; None where it has failed."""
    if isinstance(error, PermissionError) and error.filename is not None:
        return "permission denied"
    scheme = uri.partition("://")[0].lower()
    first = _first(error)
    if isinstance(error, NotImplementedError):
        return f"a {scheme}:// store cannot do this ({first}); name a local path or a bucket"
    names, status = {kind.__name__ for kind in type(error).__mro__}, http_status(error)
    if isinstance(error, PermissionError) or names & REFUSED or status in (401, 403):
        what = CREDENTIALS.get(
            {"s3a": "s3", "gcs": "gs", "abfs": "az", "abfss": "az"}.get(scheme, scheme),
            "its credentials",
        )
        return f"access refused ({first}); check {what}"
    if status is not None and not _transient(error) and not isinstance(error, OSError):
        return f"the server answers {status} ({first})"
    return None


def _transient(error: Exception) -> bool:
    status = http_status(error)
    if isinstance(error, (ConnectionError, TimeoutError)) or (
        status is not None and (status >= 500 or status in BUSY_STATUS)
    ):
        return True
    if isinstance(error, OSError):
        return error.errno in TRANSIENT
    return bool({kind.__name__ for kind in type(error).__mro__} & NETWORK)
