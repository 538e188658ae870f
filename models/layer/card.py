"""Card: a TOML file beside the weights, read key by key; what does not fit is named with file and key."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.analysis import WeightsError

MEND = "restore or retrain the weights"


@dataclass(frozen=True, slots=True)
class Card:
    """A table of a card, ``name`` its place in the file as in "pain_b."; all methods raise WeightsError."""

    path: Path
    table: Mapping[str, Any]
    name: str = ""

    def part(self, key: str) -> "Card":
        """The table of this name."""
        value = self._known(key)
        if not isinstance(value, dict):
            raise self.wrong(key, "a table")
        return Card(self.path, value, f"{self.name}{key}.")

    def text(self, key: str) -> str:
        """A text that is not empty."""
        value = self._known(key)
        if not isinstance(value, str) or not value:
            raise self.wrong(key, "a text")
        return value

    def number(self, key: str) -> float:
        """A number of any sign."""
        value = self._known(key)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.wrong(key, "a number")
        return float(value)

    def above(self, key: str, low: float) -> float:
        """A number above ``low``."""
        if not (value := self.number(key)) > low:
            raise self.wrong(key, f"a number above {low:g}")
        return value

    def count(self, key: str, least: int = 1) -> int:
        """A whole number of at least ``least``."""
        value = self._known(key)
        if type(value) is not int or value < least:
            raise self.wrong(key, f"a whole number, {least} or more")
        return value

    def pair(self, key: str) -> tuple[float, float]:
        """Two numbers above 0."""
        value = self._known(key)
        fits = isinstance(value, list) and [type(item) in (int, float) for item in value]
        if fits != [True, True] or not min(value) > 0:
            raise self.wrong(key, "two numbers above 0")
        return float(value[0]), float(value[1])

    def counts(self, key: str, least: int) -> tuple[int, ...]:
        """At least ``least`` whole numbers above 0."""
        value = self._known(key)
        fits = isinstance(value, list) and all(type(item) is int and item > 0 for item in value)
        if not fits or len(value) < least:
            raise self.wrong(key, f"{least} or more whole numbers above 0")
        return tuple(value)

    def numbers(self, key: str) -> tuple[float, ...]:
        """A list of numbers of any sign."""
        value = self._known(key)
        if not isinstance(value, list) or not all(type(item) in (int, float) for item in value):
            raise self.wrong(key, "a list of numbers")
        return tuple(float(item) for item in value)

    def texts(self, key: str) -> tuple[str, ...]:
        """A list of texts."""
        value = self._known(key)
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self.wrong(key, "a list of texts")
        return tuple(value)

    def wrong(self, key: str, wanted: str) -> WeightsError:
        """The error that says what stands there and what is wanted."""
        found = self.table[key]
        return WeightsError(f"{self.path}: {self.name}{key} is {found!r}, not {wanted}; {MEND}")

    def _known(self, key: str) -> Any:
        if key not in self.table:
            raise WeightsError(f"{self.path}: {self.name}{key} is missing; {MEND}")
        return self.table[key]


def read_card(path: Path) -> Card:
    """Read a card. Raises WeightsError where the file is no TOML, FileNotFoundError where there is none."""
    try:
        return Card(path, tomllib.loads(path.read_text(encoding="utf-8")))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise WeightsError(f"{path} cannot be read: {error}; {MEND}") from error
