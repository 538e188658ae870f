"""The seam: what an analysis is, and how one is loaded by its import path."""

from importlib import import_module
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

from models.findings import Findings
from models.scan import Scan

RefusalKind = Literal["not-lumbar", "no-geometry", "incomplete", "unsuitable"]
"""Other tissue or place, no pixel spacing, too few images, or images that the analysis cannot use."""


class Refusal(Exception):
    """An analysis declines a scan, for a reason that is told to the people who sent it.

    ``kind`` is what a program that reads the answer goes by.
    """

    def __init__(self, reason: str, kind: RefusalKind = "unsuitable") -> None:
        super().__init__(reason)
        self.kind = kind


class OutOfMemory(Exception):
    """An analysis has not enough memory, on whatever device."""


class WeightsError(Exception):
    """The weights of an analysis are missing, or are not the ones that its card names."""


@runtime_checkable
class Analysis(Protocol):
    """One analysis: layers, fascia, muscle or disc.

    ``accepts`` is a cheap look at modality and channels. ``run`` returns Findings on the scan's own grid or
    raises Refusal with a sentence a radiographer understands, and OutOfMemory (or MemoryError).
    """

    name: str
    version: str

    def accepts(self, scan: Scan) -> bool: ...

    def run(self, scan: Scan) -> Findings: ...

    def prepare(self, device: str, threads: int) -> None:
        """Load what is needed, for a device (auto, cpu, cuda) and a number of threads (0 = all).

        Raises WeightsError, and RuntimeError for a device that is not there.
        """
        ...


@runtime_checkable
class Retrainable(Analysis, Protocol):
    """An analysis that can take other weights than those beside it."""

    def with_weights(self, folder: Path) -> Analysis:
        """The same analysis with the weights of a folder, which ``prepare`` loads and checks."""
        ...


@runtime_checkable
class Sparing(Analysis, Protocol):
    """An analysis that can do with less memory, in more time."""

    def spare(self) -> None:
        """From now on work in small pieces."""
        ...


def load(path: str) -> Analysis:
    """Import ``package.module:object``. Raises ImportError or AttributeError naming what is missing."""
    module, _, name = path.partition(":")
    analysis = getattr(import_module(module), name)
    if not isinstance(analysis, Analysis):
        raise TypeError(f"{path} is no analysis: it lacks name, version, accepts, run or prepare")
    return analysis
