"""A multipart/related body becomes files, part by part as it comes: no body is ever whole in memory."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import IO

from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser

MALFORMED = (MultipartParseError, ValueError)
"""What the parser raises on a body that is no multipart one, or has a header beyond every need."""


CODINGS = {
    b"content-encoding": ("identity",),
    b"content-transfer-encoding": ("binary", "8bit", "7bit"),
}
"""Headers of a part that say how it is encoded, and what says that it is not: RFC 9110 8.4, RFC 2045 6."""

HEAD_BYTES = 1 << 16
"""What is kept of a part that is too large: its file meta says which instance it would have been."""


@dataclass(frozen=True, slots=True)
class Part:
    """A part that came to its end: its file, the content type of its header, its size as it was sent.

    ``coding``: how its bytes stand for those of the file, "" where they are the same.
    """

    path: Path
    kind: str
    size: int
    coding: str = ""


class Parts:
    """Feeds a parser; each part ends as a file in the folder of what is being received.

    ``take`` is called with each one. Of what is larger than the limit only the beginning is in its file.
    """

    def __init__(self, boundary: bytes, limit: int, take: Callable[[Part], None]) -> None:
        self._take = take
        self._limit = limit
        self._size = 0
        self._file: IO[bytes] | None = None
        self._name, self._value, self._type, self._coding = b"", b"", "", ""
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
        self._name, self._value, self._type, self._coding = b"", b"", "", ""
        self._size = 0
        # tempfile's folder is that of what is being received, on the filesystem of the store.
        self._file = NamedTemporaryFile(delete=False, suffix=".dcm")  # noqa: SIM115 - closed at the part's end

    def _add_name(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _add_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _end_header(self) -> None:
        if self._name.lower() == b"content-type":
            self._type = self._value.decode("latin-1")
        coding = self._value.decode("latin-1").strip().lower()
        if coding not in ("", *CODINGS.get(self._name.lower(), (coding,))):
            self._coding = coding[:40]
        self._name, self._value = b"", b""

    def _add_data(self, data: bytes, start: int, end: int) -> None:
        assert self._file is not None
        was_within, self._size = self._size <= self._limit, self._size + end - start
        if self._size <= self._limit:
            self._file.write(memoryview(data)[start:end])
        elif was_within:
            self._file.truncate(min(self._file.tell(), HEAD_BYTES))

    def _end(self) -> None:
        assert self._file is not None
        self._file.close()
        path, self._file = Path(self._file.name), None
        self._take(Part(path, self._type, self._size, self._coding))

    def _complete(self) -> None:
        self.is_complete = True
