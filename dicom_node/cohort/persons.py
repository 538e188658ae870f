"""From scans to persons: the latest analysis of each scan, averaged over the scans of each person."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from dicom_node.cohort.quantities import CONTRIBUTION, LAYERS, MAGNITUDE, place
from dicom_node.cohort.rows import StoredScan
from dicom_node.cohort.statistics import Array
from dicom_node.cohort.subjects import People

CHANNELS = {
    "b-mode": "B-mode",
    "b-mode, shear-wave-speed, shear-wave-valid": "B-mode + shear wave",
}


@dataclass(frozen=True, slots=True, eq=False)
class Cohort:
    """Persons scanned with the same channels; row i of every array is person i.

    numbers   by column, float64 (person, 7): the whole scan, then layers 1 to 6; NaN: not measured.
    scans     by column, the number of scans (7,) behind it.
    groups    pain, control or empty.
    """

    channels: str
    names: tuple[str, ...]
    groups: tuple[str, ...]
    numbers: dict[str, Array]
    scans: dict[str, NDArray[np.int64]]
    probability: Array
    scan_count: int

    def of(self, quantity: str) -> list[str]:
        """The columns of a quantity, one per method."""
        return [column for column in self.numbers if column.split("|")[0] == quantity]


@dataclass(slots=True)
class Tally:
    """What was counted on the way: scans left out by reason, flags, weights."""

    left_out: Counter[str] = field(default_factory=Counter)
    flags: Counter[str] = field(default_factory=Counter)
    weights: Counter[str] = field(default_factory=Counter)
    scans: int = 0


def counted(
    scans: Iterable[StoredScan], people: People, tally: Tally
) -> Iterator[tuple[str, StoredScan]]:
    """The latest analysis of each scan with its person; what is left out goes into ``tally``.

    ``scans`` must come study by study, acquisition by acquisition.
    """
    for _, group in groupby(scans, key=lambda scan: (scan.study_uid, scan.acquisition)):
        versions = sorted(group, key=lambda scan: scan.order)
        scan = versions[-1]
        for other in versions[:-1]:
            tally.left_out[_why_not(other, scan)] += 1
        person = people.person(scan.study_uid, scan.patient)
        if scan.patient in people.torn:
            tally.left_out["the list of subjects gives this patient two subjects"] += 1
        elif not person:
            tally.left_out["person unknown: no PatientID, and not in a list of subjects"] += 1
        elif scan.channels not in CHANNELS:
            tally.left_out["channels unknown: B-mode or shear wave cannot be told"] += 1
        else:
            tally.scans += 1
            tally.flags.update(scan.flags)
            tally.weights[scan.weights] += 1
            yield person, scan


def _why_not(other: StoredScan, latest: StoredScan) -> str:
    if other.report != latest.report:
        return "findings.json of a scan whose report (SR) is there"
    return "a second copy" if other.version == latest.version else "an earlier analysis of the scan"


def numbers_of(scan: StoredScan) -> dict[str, dict[int, float]]:
    """What a scan measured, and the magnitude of each contribution."""
    found = dict(scan.numbers)
    for column, layers in scan.numbers.items():
        quantity, method = column.split("|")
        if quantity == CONTRIBUTION:
            found[f"{MAGNITUDE}|{method}"] = {
                layer: abs(value) for layer, value in layers.items() if layer
            }
    return found


class _Sums:
    """Sums over the scans of one person, so that no scan is kept."""

    def __init__(self) -> None:
        self.sum: defaultdict[str, Array] = defaultdict(lambda: np.zeros(LAYERS + 1))
        self.count: defaultdict[str, Array] = defaultdict(lambda: np.zeros(LAYERS + 1))
        self.probability = np.zeros(2)
        self.scans = 0
        self.first = ""

    def add(self, scan: StoredScan) -> None:
        for column, layers in numbers_of(scan).items():
            for layer, value in layers.items():
                self.sum[column][layer] += value
                self.count[column][layer] += 1
        if scan.probability is not None:
            self.probability += (scan.probability, 1)
        self.scans += 1
        # A digest says nothing of the person, and orders persons alike however the files came.
        self.first = min(self.first or scan.digest, scan.digest)


def average(
    scans: Iterable[tuple[str, StoredScan]], people: People
) -> tuple[dict[str, Cohort], dict[str, str]]:
    """Cohorts by channels, and each person's number, in an order that names and dates have no part in."""
    sums: defaultdict[str, defaultdict[str, _Sums]] = defaultdict(lambda: defaultdict(_Sums))
    for person, scan in scans:
        sums[CHANNELS[scan.channels]][person].add(scan)
    first: dict[str, str] = {}
    for persons in sums.values():
        for person, own in persons.items():
            first[person] = min(first.get(person, own.first), own.first)
    numbered = enumerate(sorted(first, key=first.__getitem__), start=1)
    names = {person: f"P{number:04d}" for number, person in numbered}
    cohorts = {
        channels: _cohort(channels, sums[channels], names, people) for channels in sorted(sums)
    }
    return cohorts, names


def _cohort(channels: str, sums: dict[str, _Sums], names: dict[str, str], people: People) -> Cohort:
    persons = sorted(sums, key=names.__getitem__)
    columns = sorted({column for own in sums.values() for column in own.sum}, key=place)
    with np.errstate(invalid="ignore"):
        numbers = {
            column: np.array([sums[p].sum[column] / sums[p].count[column] for p in persons])
            for column in columns
        }
        probability = np.array([sums[p].probability[0] / sums[p].probability[1] for p in persons])
    scans = {
        column: np.sum([sums[p].count[column] for p in persons], axis=0).astype(np.int64)
        for column in columns
    }
    return Cohort(
        channels,
        tuple(names[person] for person in persons),
        tuple(people.group(person) for person in persons),
        numbers,
        scans,
        probability,
        sum(own.scans for own in sums.values()),
    )
