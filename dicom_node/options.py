"""What several commands ask for in the same words."""

from pathlib import Path
from typing import Annotated, Literal

import typer

Config = Annotated[
    Path | None,
    typer.Option("--config", help="TOML file, as `init` writes it. Without it: the defaults."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
STUDY = typer.Argument(metavar="STUDY", help="Study Instance UID, or its hash as in the log.")
StudyUid = Annotated[str, STUDY]
Form = Literal["enhanced", "enhanced-apex", "multiframe", "frames", "frames-plain"]
Encoding = Literal["explicit", "implicit", "rle", "jpeg", "jpeg-lossless", "j2k"]
OtherWeights = Annotated[
    Path | None,
    typer.Option(help="Folder of other weights than the shipped.", exists=True, file_okay=False),
]
Analysis = Annotated[str, typer.Argument(metavar="ANALYSIS", help="Which analysis: layer.")]
