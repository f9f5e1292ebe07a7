"""Errors of object storage: keys, rights, buckets and addresses are named; what may pass is tried again."""

from __future__ import annotations

import pytest

from resources.errors import ConfigError, StoreUnavailable
from resources.storage_errors import storage_error, storage_errors

URL = "s3://KEY:hush@bucket/rag"
S3 = "When getting information for key 'rag/raw/a' in bucket 'bucket': AWS Error "


class ClientAuthenticationError(Exception):
    """As Azure's library raises it."""


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (
            OSError(S3 + "ACCESS_DENIED during HeadObject operation: No response body."),
            "list, read, write",
        ),
        (OSError(S3 + "INVALID_ACCESS_KEY_ID during PutObject operation: x"), "AWS_ACCESS_KEY_ID"),
        (
            OSError(S3 + "SIGNATURE_DOES_NOT_MATCH during PutObject operation: x"),
            "AWS_SECRET_ACCESS_KEY",
        ),
        (
            OSError(S3 + "UNKNOWN (HTTP status 400): ExceptionName: ExpiredToken"),
            "AWS_SESSION_TOKEN",
        ),
        (OSError(S3 + "NO_SUCH_BUCKET during PutObject operation: x"), "Create the bucket"),
        (OSError(S3 + "UNKNOWN (HTTP status 301) during HeadObject operation"), "AWS_REGION"),
        (
            OSError(
                S3
                + "NETWORK_CONNECTION during HeadObject operation: curlCode: 35, SSL connect error"
            ),
            "https://",
        ),
        (
            OSError("google::cloud::Status(PERMISSION_DENIED: caller lacks storage.objects.get)"),
            "rights",
        ),
        (PermissionError("Access Denied"), "list, read, write"),
        (FileNotFoundError("The specified bucket does not exist"), "Create the bucket"),
        (
            ClientAuthenticationError("Server failed to authenticate the request."),
            "Correct the keys",
        ),
    ],
)
def test_what_only_the_user_can_fix_is_not_tried_again(error: Exception, advice: str) -> None:
    known = storage_error(error, URL, "read raw/a")
    assert isinstance(known, ConfigError)
    assert "could not read raw/a" in str(known) and "s3://KEY:***@bucket/rag" in str(known)
    if advice != "rights":
        assert advice in str(known)


@pytest.mark.parametrize(
    "text",
    [
        S3
        + "NETWORK_CONNECTION during HeadObject operation: curlCode: 7, Couldn't connect to server",
        S3 + "SLOW_DOWN during PutObject operation: x",
        S3 + "SERVICE_UNAVAILABLE during PutObject operation: x",
        S3 + "UNKNOWN (HTTP status 503) during HeadObject operation: No response body.",
    ],
)
def test_a_storage_that_may_come_back_is_tried_again(text: str) -> None:
    known = storage_error(OSError(text), URL, "write raw/a")
    assert isinstance(known, StoreUnavailable) and "RAG_STORAGE_URL" in str(known)


def test_a_missing_file_and_a_bug_are_no_errors_of_the_storage() -> None:
    for error in (FileNotFoundError("Path does not exist"), ValueError("x"), KeyError("x")):
        with pytest.raises(type(error)), storage_errors(URL, "read raw/a"):
            raise error
    with pytest.raises(ConfigError), storage_errors(URL, "write raw/a", writes=True):
        raise FileNotFoundError("bucket")
