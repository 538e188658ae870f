"""What is carried from stage to stage: the DICOM side of a study beside the Scans made from it."""

import json
import os
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from pydicom import Dataset
from pydicom.filereader import data_element_generator, read_preamble
from pydicom.uid import DeflatedExplicitVRLittleEndian

from dicom_node.headers import read_header
from dicom_node.patient import read_as
from models.findings import Findings
from models.scan import Scan

PROGRAM = "dicom-node"
"""Manufacturer of every result, by which a result that comes back is known."""

NOT_TO_SCALE = " (frame distance not known)"
"""Ends the name of each segment whose volume nobody may compute."""

LARGEST_INFLATED_BYTES = 256 << 20
"""No scanner deflates; our own results do where a destination wants it, and are far smaller."""

PIECE_BYTES = 1 << 20
META_GROUP, TRANSFER_SYNTAX = 0x0002, 0x00020010


def check_inflated(path: Path) -> None:
    """Raise ValueError when a deflated data set (PS3.5 A.5) would fill more memory than it may.

    A few kilobytes can inflate to gigabytes, and pydicom inflates all at once: to be called before it reads.
    Raises what pydicom and zlib raise on damaged files; does nothing where nothing is deflated.
    """
    with path.open("rb") as file:
        read_preamble(file, force=False)
        meta = data_element_generator(
            file, False, True, stop_when=lambda tag, _vr, _length: tag >> 16 != META_GROUP
        )
        syntax = {int(element.tag): bytes(element.value or b"") for element in meta}
        if (
            syntax.get(TRANSFER_SYNTAX, b"").rstrip(b"\0 ")
            != str(DeflatedExplicitVRLittleEndian).encode()
        ):
            return
        inflate, size = zlib.decompressobj(-zlib.MAX_WBITS), 0
        while piece := file.read(PIECE_BYTES):
            while piece:
                size += len(inflate.decompress(piece, PIECE_BYTES))
                piece = inflate.unconsumed_tail
                if size > LARGEST_INFLATED_BYTES:
                    raise ValueError("a deflated data set that is too large")


@dataclass(frozen=True, slots=True)
class StoredInstance:
    """One received instance as the index remembers it."""

    sop_instance_uid: str
    sop_class_uid: str
    path: Path
    calling_ae: str = ""


@dataclass(frozen=True, slots=True)
class SourceFrame:
    """One frame: position of its instance in ``Source.paths``, and its 1-based number or None."""

    instance: int
    number: int | None


@dataclass(frozen=True, slots=True)
class Source:
    """Where one kind of pixels came from: the instances, and for each slice of the Scan its frame.

    ``character_set``: what the site declares of its text; "" = what the instances say.
    """

    paths: tuple[Path, ...]
    frames: tuple[SourceFrame, ...]
    character_set: str = ""

    def headers(self) -> tuple[Dataset, ...]:
        """The instances' data sets without pixel data, in the order of ``paths``."""
        return tuple(read_as(read_header(path), self.character_set) for path in self.paths)


@dataclass(frozen=True, slots=True, eq=False)
class Acquisition:
    """One Scan and its sources; the first is the B-mode (or only) source, whose frames results refer to."""

    scan: Scan
    sources: tuple[Source, ...]

    def __post_init__(self) -> None:
        for source in self.sources:
            if len(source.frames) != self.scan.shape[0]:
                raise ValueError(
                    f"{self.scan.shape[0]} slices, but {len(source.frames)} source frames"
                )


@dataclass(frozen=True, slots=True)
class Unused:
    """An instance that became part of no Scan, and why."""

    sop_instance_uid: str
    reason: str


@dataclass(frozen=True, slots=True, eq=False)
class Study:
    """All that one version (generation) of a study's instance list gives.

    cautions  what is odd about it, a sentence each without patient data.
    spokesman  acquisition, source and instance whose header says of the patient what all results say.
    """

    study_uid: str
    generation: int
    acquisitions: tuple[Acquisition, ...]
    unused: tuple[Unused, ...] = ()
    cautions: tuple[str, ...] = ()
    spokesman: tuple[int, int, int] = (0, 0, 0)

    def save(self, folder: Path) -> None:
        """Write scans and source references into an existing folder."""
        entries = []
        for number, acquisition in enumerate(self.acquisitions):
            acquisition.scan.save(folder / f"scan-{number}.npz")
            entries.append(
                [
                    {
                        # Relative, so that machines may have the shared folder in different places.
                        "paths": [os.path.relpath(path, folder) for path in source.paths],
                        "frames": [[frame.instance, frame.number] for frame in source.frames],
                        "character_set": source.character_set,
                    }
                    for source in acquisition.sources
                ]
            )
        text = {
            "study_uid": self.study_uid,
            "generation": self.generation,
            "acquisitions": entries,
            "unused": [[item.sop_instance_uid, item.reason] for item in self.unused],
            "cautions": self.cautions,
            "spokesman": self.spokesman,
        }
        (folder / "study.json").write_text(json.dumps(text), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> "Study":
        """Read what ``save`` wrote."""
        text = json.loads((folder / "study.json").read_text(encoding="utf-8"))
        acquisitions = tuple(
            Acquisition(
                Scan.load(folder / f"scan-{number}.npz"),
                tuple(
                    Source(
                        tuple(
                            Path(os.path.normpath(folder.absolute() / path))
                            for path in source["paths"]
                        ),
                        tuple(SourceFrame(*frame) for frame in source["frames"]),
                        # Absent in what an earlier version has written.
                        source.get("character_set", ""),
                    )
                    for source in sources
                ),
            )
            for number, sources in enumerate(text["acquisitions"])
        )
        return cls(
            text["study_uid"],
            text["generation"],
            acquisitions,
            tuple(Unused(*u) for u in text["unused"]),
            tuple(text.get("cautions", ())),
            tuple(text.get("spokesman", (0, 0, 0))),
        )


@dataclass(frozen=True, slots=True)
class Ground:
    """Why a study, or a scan of it, was not analyzed: the value of a reason (``reasons``), and a sentence."""

    code: str
    sentence: str


@dataclass(frozen=True, slots=True, eq=False)
class Unanalyzed:
    """A study without results: why, and what its instances say alike of patient and study."""

    study_uid: str
    grounds: tuple[Ground, ...]
    header: Dataset


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """What one analysis says of one acquisition: findings, or a sentence and a code that say why none."""

    acquisition: int
    analysis: str
    findings: Findings | None
    refusal: str = ""
    code: str = ""

    @property
    def ground(self) -> Ground:
        """Of an outcome without findings."""
        return Ground(self.code, self.refusal)


def save_outcomes(outcomes: Sequence[Outcome], folder: Path) -> None:
    """Write each outcome beside the study's scans."""
    for outcome in outcomes:
        stem = f"findings-{outcome.acquisition}-{outcome.analysis}"
        if outcome.findings:
            outcome.findings.save(folder / f"{stem}.npz")
        else:
            text = json.dumps(asdict(outcome.ground))
            (folder / f"{stem}.refusal").write_text(text, encoding="utf-8")


def load_outcomes(folder: Path) -> tuple[Outcome, ...]:
    """Read what ``save_outcomes`` wrote."""
    outcomes = []
    for path in sorted(folder.glob("findings-*")):
        _, number, analysis = path.stem.split("-", 2)
        if path.suffix == ".npz":
            outcomes.append(Outcome(int(number), analysis, Findings.load(path)))
        else:
            ground = Ground(**json.loads(path.read_text(encoding="utf-8")))
            outcomes.append(Outcome(int(number), analysis, None, ground.sentence, ground.code))
    return tuple(outcomes)
