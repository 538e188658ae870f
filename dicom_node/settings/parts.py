"""What a node is, decodes, analyzes and says: [node], [assemble], [analyze], [report]."""

from dataclasses import dataclass
from pathlib import Path

from dicom_node.settings.allowed import AE_TITLE, FOLDER, NOT_EMPTY, between, key, one_of


@dataclass(frozen=True, slots=True)
class Node:
    """[node]: who this node is and where it keeps things."""

    ae_title: str = key("DICOM_NODE", "what scanners and archives enter as our AE title", AE_TITLE)
    data_dir: Path = key(Path("node-data"), "all that the node keeps; SQLite needs a local disk")
    files_dir: str = key(
        "",
        "instances, scans and results; a folder that all machines of a node share; empty = data_dir",
    )
    database: str = key("", "SQLAlchemy URL; empty means SQLite in data_dir, for one machine")
    name: str = key("", "how this machine is called among several; empty = its host name")
    drain_seconds: int = key(
        10,
        "to finish what is in hand when asked to stop; what is cut off runs again",
        between(0, 3600),
    )
    lost_seconds: float = key(
        20.0,
        "a worker that is gone from Postgres for so long loses its work to others",
        between(1, 3600),
    )
    stalled_seconds: float = key(
        900.0,
        "a stage that began and records nothing for so long is logged as stalled",
        between(10, 1e6),
    )
    analyses: tuple[str, ...] = key(
        ("models.layer:analysis",), "import path of each analysis; each runs on what it accepts"
    )
    log_identifiers: bool = key(
        False, "UIDs and Patient IDs in log, audit and status page as they are, not as keyed hashes"
    )

    @property
    def files(self) -> Path:
        """The folder under which every path in the index lies."""
        return Path(self.files_dir).absolute() if self.files_dir else self.data_dir.absolute()

    @property
    def database_url(self) -> str:
        return self.database or f"sqlite:///{self.data_dir.absolute() / 'node.db'}"

    @property
    def database_folders(self) -> tuple[Path, ...]:
        """Where SQLite keeps its file; none of Postgres, whose disk is its own matter."""
        if not self.database_url.startswith("sqlite"):
            return ()
        return (Path(self.database_url.partition(":///")[2]).absolute().parent,)


LARGEST_MIB = 4096
"""32 sweeps of 128 frames of 512 x 512 as float32; fits into a machine of 8 GB with all else that runs."""


@dataclass(frozen=True, slots=True)
class Assemble:
    """[assemble]: how much of a study is decoded."""

    largest_mib: int = key(
        LARGEST_MIB,
        "memory for all scans of one study; what claims to be larger is refused undecoded",
        between(1, 1 << 20),
    )


@dataclass(frozen=True, slots=True)
class OtherWeights:
    """[[analyze.weights]]: a folder with weights and card that an analysis takes in place of its own."""

    analysis: str = key("", "name of a configured analysis, e.g. layer", NOT_EMPTY)
    folder: Path = key(Path(), "as `train` writes it; not empty", FOLDER)


@dataclass(frozen=True, slots=True)
class Analyze:
    """[analyze]: where the networks run, and with which weights."""

    device: str = key("auto", "a GPU where there is one", one_of("auto", "cpu", "cuda"))
    threads: int = key(0, "processor threads of one analysis; 0 = all", between(0, 256))
    weights: tuple[OtherWeights, ...] = key(
        (), "weights of the site's own training; else the shipped"
    )
    deadline_seconds: float = key(
        3600.0,
        "for all analyses of one study; one that hangs is ended and told as a failure",
        between(1, 86400),
    )
    recycle_studies: int = key(
        200,
        "their process is renewed after so many: memory that leaks comes back",
        between(1, 100000),
    )


@dataclass(frozen=True, slots=True)
class Report:
    """[report]: what is said of a study that cannot be analyzed."""

    refusals: bool = key(
        True, "answer it with a report that says why; false where whole archives are pushed here"
    )
