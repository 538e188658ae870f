"""A multipart/related body becomes files, part by part as it comes: no body is ever whole in memory."""

from collections.abc import Callable
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import IO

from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser

MALFORMED = (MultipartParseError, ValueError)
"""What the parser raises on a body that is no multipart one, or has a header beyond every need."""


class Parts:
    """Feeds a parser; each part ends as a file in the folder of what is being received.

    ``take`` is called with each file, and with the content type that the part's header gave it.
    """

    def __init__(self, boundary: bytes, take: Callable[[Path, str], None]) -> None:
        self._take = take
        self._file: IO[bytes] | None = None
        self._name, self._value, self._type = b"", b"", ""
        self.is_complete = False
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin,
                "on_header_field": self._add_name,
                "on_header_value": self._add_value,
                "on_header_end": self._end_header,
                "on_part_data": self._add_data,
                "on_part_end": self._end,
                "on_end": self._complete,
            },
        )

    def feed(self, chunk: bytes) -> None:
        """Read on. Raises one of MALFORMED, and OSError when the disk does not take it."""
        self._parser.write(chunk)

    def close(self) -> bool:
        """Leave; returns whether a part was cut off, whose file is then removed."""
        if self._file is None:
            return False
        self._file.close()
        Path(self._file.name).unlink(missing_ok=True)
        self._file = None
        return True

    def _begin(self) -> None:
        self._name, self._value, self._type = b"", b"", ""
        # tempfile's folder is that of what is being received, on the filesystem of the store.
        self._file = NamedTemporaryFile(delete=False, suffix=".dcm")  # noqa: SIM115 - closed at the part's end

    def _add_name(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _add_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _end_header(self) -> None:
        if self._name.lower() == b"content-type":
            self._type = self._value.decode("latin-1")
        self._name, self._value = b"", b""

    def _add_data(self, data: bytes, start: int, end: int) -> None:
        assert self._file is not None
        self._file.write(memoryview(data)[start:end])

    def _end(self) -> None:
        assert self._file is not None
        self._file.close()
        path, self._file = Path(self._file.name), None
        self._take(path, self._type)

    def _complete(self) -> None:
        self.is_complete = True
