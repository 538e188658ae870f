"""An S3 server over HTTP (moto), which tests take away, break, and look into."""

import contextlib
import threading
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import boto3
import pytest
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

BUCKET = "patients"
PREFIX = f"{BUCKET}/node/"
ERROR = "<?xml version='1.0'?><Error><Code>{}</Code><Message>no</Message></Error>"


class _Silent(WSGIRequestHandler):
    def log(self, *_: object) -> None:
        """Nothing."""


class ObjectStore:
    """Listens on a port of its own; ``fault`` answers (status, code) to a request, or lets it through."""

    def __init__(self) -> None:
        self._app = DomainDispatcherApplication(create_backend_app)
        self.heal()
        self.port = 0
        self.start()
        self.url = f"http://127.0.0.1:{self.port}"
        # What an earlier one of this process held is still there.
        urllib.request.urlopen(urllib.request.Request(f"{self.url}/moto-api/reset", method="POST"))
        options: Any = {"endpoint_url": self.url}
        self._client = boto3.client("s3", **options)
        self._client.create_bucket(Bucket=BUCKET)

    @property
    def toml(self) -> str:
        return f'[files]\nurl = "s3://{BUCKET}/node"\nendpoint = "{self.url}"\n'

    def start(self) -> None:
        self._server = make_server(
            "127.0.0.1", self.port, self._answer, threaded=True, request_handler=_Silent
        )
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def heal(self) -> None:
        self.failed = 0
        self.fault: Callable[[str, str], tuple[int, str] | None] = lambda _method, _key: None

    def _answer(self, environment: dict[str, Any], start: Any) -> Iterable[bytes]:
        key = environment["PATH_INFO"].removeprefix(f"/{PREFIX}")
        if fault := self.fault(environment["REQUEST_METHOD"], key):
            self.failed += 1
            environment["wsgi.input"].read(int(environment.get("CONTENT_LENGTH") or 0))
            start(f"{fault[0]} No", [("Content-Type", "application/xml")])
            has_body = fault[1] and environment["REQUEST_METHOD"] != "HEAD"
            return [ERROR.format(fault[1]).encode()] if has_body else []
        return self._app(environment, start)

    def names(self, folder: str = "") -> set[str]:
        """Below the prefix, without it."""
        found = self._client.list_objects_v2(Bucket=BUCKET, Prefix=f"node/{folder}")
        return {each["Key"].removeprefix("node/") for each in found.get("Contents", ())}

    def read(self, key: str) -> bytes:
        body = self._client.get_object(Bucket=BUCKET, Key=f"node/{key}")["Body"]
        return bytes(body.read())

    def write(self, key: str, content: bytes) -> None:
        self._client.put_object(Bucket=BUCKET, Key=f"node/{key}", Body=content)


@contextlib.contextmanager
def object_store() -> Iterator[ObjectStore]:
    """Credentials are those of the environment, as in life."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("AWS_ACCESS_KEY_ID", "node")
        environment.setenv("AWS_SECRET_ACCESS_KEY", "not-a-secret")
        environment.setenv("AWS_DEFAULT_REGION", "us-east-1")
        environment.setenv("AWS_EC2_METADATA_DISABLED", "true")
        store = ObjectStore()
        yield store
        store.stop()
