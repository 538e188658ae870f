"""An object store in place of a folder: [files]."""

import re
from dataclasses import dataclass

from dicom_node.settings.allowed import Allowed, between, key

URL = Allowed(
    'empty, "s3://BUCKET" or "s3://BUCKET/PREFIX"',
    lambda url: not url or bool(re.fullmatch(r"s3://[a-z0-9][a-z0-9.-]{2,62}(/[\w.=-]+)*/?", url)),
)
ENDPOINT = Allowed(
    'empty, or "https://HOST" or "https://HOST:PORT" (http where the way is closed), without a user',
    lambda url: not url or bool(re.fullmatch(r"https?://[\w.\[\]:-]+/?", url)),
)


@dataclass(frozen=True, slots=True)
class Files:
    """[files]: instances, scans and results in an S3-compatible store; credentials as botocore finds them."""

    url: str = key("", "a bucket that all machines of a node share; empty = node.files_dir", URL)
    endpoint: str = key("", "the store's address; empty = AWS, or AWS_ENDPOINT_URL_S3", ENDPOINT)
    region: str = key("", "empty = AWS_DEFAULT_REGION, or what the store takes without")
    insecure: bool = key(
        False, "http to another machine: patient data unencrypted, on a network that is closed"
    )
    cache_gib: float = key(
        10.0,
        "copies under data_dir/cache of what no stage is at work on; the longest unused go first",
        between(0, 1 << 20),
    )
