"""Cohort: simulated people of one split, examined side by side, in a fixed order."""

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from rich.progress import track

from models.phantom import Protocol, person_seed
from models.phantom.cohort import Split

Item = TypeVar("Item")
Given = TypeVar("Given")
MANY = 40
"""From so many on, handing over four at a time costs no waiting at the end."""


@dataclass(frozen=True, slots=True)
class Cohort:
    """Who is simulated: ``count`` people of cohort ``number`` of a split, taken by one protocol."""

    split: Split
    number: int
    count: int
    protocol: Protocol

    def seeds(self) -> list[int]:
        return [person_seed(self.split, self.number, person) for person in range(self.count)]


def simulate(make: Callable[[int], Item], cohort: Cohort, processes: int, words: str) -> list[Item]:
    """``make(seed)`` for every person, in order, with a progress bar."""
    return each(make, cohort.seeds(), processes, words)


def each(
    make: Callable[[Given], Item], given: Sequence[Given], processes: int, words: str
) -> list[Item]:
    """``make`` of everything that is given, in order, side by side, with a progress bar."""
    return list(track(_each(make, given, processes), words, total=len(given)))


def _each(make: Callable[[Given], Item], given: Sequence[Given], processes: int) -> Iterator[Item]:
    if processes == 1:
        yield from map(make, given)
        return
    # A fresh interpreter per process: torch's threads do not survive a fork.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=context) as pool:
        yield from pool.map(make, given, chunksize=4 if len(given) > MANY else 1)
