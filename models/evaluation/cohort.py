"""Cohort: simulated people of one split, examined side by side, in a fixed order."""

import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from rich.progress import track

from models.phantom import Protocol, person_seed
from models.phantom.cohort import Split

Item = TypeVar("Item")


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
    return list(track(_each(make, cohort.seeds(), processes), words, total=cohort.count))


def _each(make: Callable[[int], Item], seeds: list[int], processes: int) -> Iterator[Item]:
    if processes == 1:
        yield from map(make, seeds)
        return
    # A fresh interpreter per process: torch's threads do not survive a fork.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=context) as pool:
        yield from pool.map(make, seeds, chunksize=4)
