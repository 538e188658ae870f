"""What commands ask for that have many options: frozen dataclasses, whose fields are the options."""

import inspect
from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from dicom_node.options import Config, Encoding, Form, OtherWeights


@dataclass(frozen=True, slots=True)
class PhantomOrder:
    """Which synthetic study: its DICOM form and encoding, its seed, its size SLICESxROWSxCOLUMNS."""

    form: Annotated[Form, typer.Option(help="What kind of DICOM object carries the frames.")] = (
        "enhanced"
    )
    encoding: Annotated[Encoding, typer.Option(help="Transfer syntax.")] = "explicit"
    shear_wave: Annotated[bool, typer.Option("--shear-wave", help="Add shear-wave speed.")] = False
    seed: Annotated[int, typer.Option(help="Same seed, same study.")] = 0
    size: Annotated[str, typer.Option(help="SLICESxROWSxCOLUMNS")] = "64x192x192"


@dataclass(frozen=True, slots=True)
class EvaluationOrder:
    """What is evaluated, on how many people; partial, seeds, and weights or summary exclude each other."""

    out: Annotated[Path | None, typer.Option(help="Folder for tables and figures.")] = None
    volumes: Annotated[
        int,
        typer.Option(
            min=1, help="Held-out people per cohort: 120 for the published figures, 1 for a look."
        ),
    ] = 120
    partial: Annotated[
        bool,
        typer.Option(
            "--partial",
            help="Instead: what is learned when only every n-th slice has a mask; a table.",
        ),
    ] = False
    weights: OtherWeights = None
    summary: Annotated[
        bool,
        typer.Option(
            "--summary", help="Only layers, thickness, decision, transfer: 4 CPU-minutes."
        ),
    ] = False
    seeds: Annotated[
        list[Path] | None,
        typer.Option(
            exists=True,
            help="Instead: spread over evaluation.json of other trainings (repeatable).",
        ),
    ] = None


@dataclass(frozen=True, slots=True)
class TrainingOrder:
    """How an analysis is trained, on what, and where the weights go."""

    out: Annotated[Path, typer.Option(help="Folder for weights, curves and card.")] = Path("runs")
    config: Annotated[
        Path | None,
        typer.Option(help="How to train, as layer.toml of `init`. Without it: as shipped."),
    ] = None
    data: Annotated[
        Path | None,
        typer.Option(
            help="Your own data: DICOM with SEG, or NIfTI pairs, beside subjects.csv. Without it: the "
            "simulator.",
            exists=True,
            file_okay=False,
        ),
    ] = None
    node: Annotated[
        Path | None,
        typer.Option(help="The node's TOML, for geometry that it declares of a scanner."),
    ] = None
    own: Annotated[
        bool, typer.Option("--own", help="Take the node's own SEG as truth, too; else refused.")
    ] = False


@dataclass(frozen=True, slots=True)
class SendOrder:
    """Who sends, and by which certificates where it is encrypted; else they are as in [tls] of ``config``."""

    calling: Annotated[str, typer.Option(help="Our own AE title.")] = "DICOM_NODE"
    tls: Annotated[bool, typer.Option("--tls", help="Encrypted.")] = False
    ca: Annotated[
        Path | None, typer.Option(help="PEM: who must have issued the peer's certificate.")
    ] = None
    certificate: Annotated[Path | None, typer.Option(help="PEM: ours.")] = None
    key: Annotated[Path | None, typer.Option(help="PEM: its key.")] = None
    config: Config = None


def spread(command: Callable[..., None]) -> Callable[..., None]:
    """A command whose last parameter is one of these, as one that asks for its fields."""
    *own, last = inspect.signature(command, eval_str=True).parameters.values()
    order = last.annotation
    hints = get_type_hints(order, include_extras=True)
    asked = [
        inspect.Parameter(
            field.name,
            inspect.Parameter.POSITIONAL_OR_KEYWORD,
            default=inspect.Parameter.empty if field.default is MISSING else field.default,
            annotation=hints[field.name],
        )
        for field in fields(order)
    ]

    @wraps(command)
    def run(**given: Any) -> None:
        told = {each.name: given.pop(each.name) for each in asked}
        command(**given, **{last.name: order(**told)})

    run.__dict__["__signature__"] = inspect.Signature([*own, *asked])
    run.__annotations__ = {each.name: each.annotation for each in (*own, *asked)}
    return run
