"""Errors of object storage as errors of ours: the reason, RAG_STORAGE_URL, and what must change.

pyarrow reports all of them as OSError, with the words of the storage's own library; fsspec's backends have classes of
their own. What only the user can fix (keys, rights, a bucket, a region) is a ConfigError, so that nothing tries it
again. A file that does not exist stays a FileNotFoundError.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from resources.errors import ConfigError, RagError, StoreUnavailable
from resources.urls import redact, without_secrets

_ENDPOINT = "the region and the endpoint, in AWS_REGION and AWS_ENDPOINT_URL or in the URL"

#: What the storage reports -> what the user must check; the first that fits.
_REASONS: Sequence[tuple[re.Pattern[str], str]] = tuple(
    (re.compile(pattern, re.IGNORECASE), remedy)
    for pattern, remedy in (
        (
            r"NO_SUCH_BUCKET|NoSuchBucket|bucket does not exist|bucket was not found|ContainerNotFound|"
            r"container does not exist",
            "Create the bucket, or name another one in RAG_STORAGE_URL",
        ),
        (
            r"PermanentRedirect|AuthorizationHeaderMalformed|HTTP status 301|configured region is",
            f"Name the bucket's region: check {_ENDPOINT}",
        ),
        (
            r"INVALID_ACCESS_KEY_ID|InvalidAccessKeyId|SIGNATURE_DOES_NOT_MATCH|SignatureDoesNotMatch|EXPIRED_TOKEN|"
            r"ExpiredToken|INVALID_CLIENT_TOKEN_ID|UNRECOGNIZED_CLIENT|MISSING_AUTHENTICATION_TOKEN|"
            r"REQUEST_EXPIRED|RequestTimeTooSkewed|UNAUTHENTICATED|unauthorized|invalid.credentials|invalid_grant|"
            r"AuthenticationFailed|Unable to locate credentials|HTTP status 401|could not create credentials",
            "Correct the keys of the storage (for S3: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN)",
        ),
        (
            r"ACCESS_DENIED|AccessDenied|PERMISSION_DENIED|forbidden|HTTP status 403|AuthorizationPermissionMismatch|"
            r"permission denied",
            "Let the keys of the storage list, read, write and delete below this URL, or correct them (for S3: "
            "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY)",
        ),
        (
            r"curlCode: (35|60)|SSL connect error|SSL peer certificate|CERTIFICATE_VERIFY_FAILED|WRONG_VERSION_NUMBER|"
            r"HTTP request was sent to HTTPS port|HTTP request to an HTTPS server",
            "Check http:// or https:// of the endpoint (AWS_ENDPOINT_URL, or scheme= in the URL), and its certificate",
        ),
        (r"HTTP status (400|405)", f"Check {_ENDPOINT}"),
    )
)

#: Classes of fsspec's backends and of Python that mean the same, by name: their packages are extras.
_BY_CLASS: dict[str, str] = {
    "FileNotFoundError": "NoSuchBucket",
    "PermissionError": "AccessDenied",
    "ClientAuthenticationError": "AuthenticationFailed",
    "NoCredentialsError": "Unable to locate credentials",
    "DefaultCredentialsError": "Unable to locate credentials",
    "RefreshError": "invalid_grant",
}


def storage_error(error: Exception, url: str, action: str) -> RagError:
    """Return the error of an `action` ("read raw/…") on the storage. Waiting may help unless it is a ConfigError."""
    # Without Amazon's number of the request.
    words = re.sub(r" ?\(Request ID: [^)]*\)", "", str(error))
    reason = redact(" ".join(words.split()), url).rstrip(".")
    shown = f"The storage at {without_secrets(url)} could not {action}: {reason}."
    classes = [
        _BY_CLASS[kind.__name__] for kind in type(error).__mro__ if kind.__name__ in _BY_CLASS
    ]
    for pattern, remedy in _REASONS:
        if any(pattern.search(text) for text in (reason, *classes)):
            return ConfigError(f"{shown} {remedy}.")
    return StoreUnavailable(f"{shown} Check that it answers, and RAG_STORAGE_URL.")


@contextmanager
def storage_errors(url: str, action: str, *, writes: bool = False) -> Iterator[None]:
    """Raise the errors of object storage in the block as errors of ours.

    FileNotFoundError is one only if the block writes: then the bucket does not exist.
    """
    try:
        yield
    except RagError:
        raise
    except Exception as error:
        if isinstance(error, FileNotFoundError) and not writes:
            raise
        package = type(error).__module__.partition(".")[0]
        # A backend's own classes; those of Python are bugs, unless the system raised them.
        if not isinstance(error, OSError) and package in ("builtins", "resources", "rag_assets"):
            raise
        raise storage_error(error, url, action) from error
