"""Tables: what was measured, for readers as Markdown and for programs as JSON."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Cell = str | float | int


@dataclass(frozen=True, slots=True)
class Table:
    """One table; ``note`` says how it was measured and what it does not say. A NaN is a dash."""

    name: str
    title: str
    note: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]

    def markdown(self) -> str:
        """Heading, note and table."""
        lines = [f"## {self.title}", "", self.note, "", _line(self.columns)]
        lines.append(_line(["---"] * len(self.columns)))
        lines += [_line(row) for row in self.texts()]
        return "\n".join(lines) + "\n"

    def texts(self) -> list[list[str]]:
        """The rows as they are shown."""
        return [[_text(cell) for cell in row] for row in self.rows]

    def describe(self) -> dict[str, Any]:
        """As JSON types; a number that is not known is null."""
        rows = [
            {name: _plain(cell) for name, cell in zip(self.columns, row, strict=True)}
            for row in self.rows
        ]
        return {"title": self.title, "note": self.note, "rows": rows}


def mean(values: Sequence[float] | NDArray[Any]) -> float:
    """Of those that are known; NaN of none."""
    known = np.asarray(values, float)
    known = known[np.isfinite(known)]
    return float(known.mean()) if known.size else float("nan")


def spread(values: Sequence[float] | NDArray[Any]) -> float:
    """Standard deviation of those that are known; NaN of fewer than two."""
    known = np.asarray(values, float)
    known = known[np.isfinite(known)]
    return float(known.std(ddof=1)) if known.size > 1 else float("nan")


def between(low: float, high: float) -> str:
    """An interval."""
    return "" if math.isnan(low) else f"{low:+.3f} to {high:+.3f}"


def plus_minus(values: Sequence[float] | NDArray[Any]) -> str:
    """Mean ± standard deviation of repeated measurements; a dash where nothing is known."""
    middle, width = mean(values), spread(values)
    if math.isnan(middle):
        return "-"
    return f"{middle:.3f}" + ("" if math.isnan(width) else f" ± {width:.3f}")


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _text(cell: Cell) -> str:
    if isinstance(cell, float):
        return "-" if math.isnan(cell) else f"{cell:.3f}"
    return str(cell)


def _plain(cell: Cell) -> Cell | None:
    return None if isinstance(cell, float) and not math.isfinite(cell) else cell
