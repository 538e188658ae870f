"""The door: one sub-command per thing a person wants; each is imported only when it is chosen."""

import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from dicom_node import __version__
from dicom_node.access.command import app as access
from dicom_node.errors import NodeError, SettingsError
from dicom_node.jobs_cli import app as jobs
from dicom_node.options import Analysis, Config, OtherWeights
from dicom_node.orders import EvaluationOrder, PhantomOrder, TrainingOrder, spread
from dicom_node.send import send
from dicom_node.settings import Settings, load

RESEARCH_USE = "Research use only. Not a medical device."
app = typer.Typer(
    help="Segments the tissue layers of lumbar ultrasound studies, classifies myofascial pain, and sends "
    f"SEG and SR back to the archive.\n\n{RESEARCH_USE}",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(jobs, name="jobs")
app.add_typer(access, name="access")
app.command()(send)
bundle = typer.Typer(
    help="The segmentation network as a MONAI bundle: export, import.", no_args_is_help=True
)
app.add_typer(bundle, name="bundle")


def _call(path: str, *arguments: Any, **named: Any) -> Any:
    """Import ``module:function`` and call it; the door is the only place that imports by string."""
    module, _, name = path.partition(":")
    return getattr(import_module(module), name)(*arguments, **named)


def _known(analysis: str, module: str) -> None:
    """End with a usage error when there is nothing of that name."""
    names = import_module(module).ANALYSES
    if analysis not in names:
        raise typer.BadParameter(f"no analysis {analysis!r}; there is: {', '.join(names)}")


@app.command()
def serve(
    config: Config = None,
    role: Annotated[
        list[str] | None,
        typer.Option(
            help="Run only this role (repeatable): receive, work, deliver, infer or web. Default: all."
        ),
    ] = None,
) -> None:
    """Run the node: take studies from scanners, analyze them, send results to the destinations."""
    _call("dicom_node.node:serve", load(config), config, tuple(role or ()))


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("demo-output"),
    seed: Annotated[int, typer.Option(help="Seed of the synthetic study.")] = 0,
) -> None:
    """Watch one synthetic study travel: scanner -> node -> archive, over real DICOM connections."""
    raise typer.Exit(_call("dicom_node.demo:demo", out, seed))


@app.command()
def process(
    paths: Annotated[list[Path], typer.Argument(exists=True, help="DICOM files or folders.")],
    out: Annotated[Path, typer.Option(help="Folder for the results.")],
    config: Config = None,
) -> None:
    """Analyze files without any network: SEG, SR, map, findings.json, report.html and overlay.png.

    With destinations in the configuration, each has a folder with what it would get.

    Exit status: 0 results written, 3 all refused (reasons printed and in findings.json),
    2 wrong usage.
    """
    raise typer.Exit(_call("dicom_node.process:process", paths, out, load(config)))


@app.command()
@spread
def phantom(
    out: Annotated[Path, typer.Option(help="Folder for the study and its truth.")],
    order: PhantomOrder,
) -> None:
    """Write a synthetic study with known truth (layers as NIfTI, thickness and pain as JSON)."""
    for path in _call("dicom_node.demo:write_phantom", out, order):
        typer.echo(path)


@app.command()
def check(
    config: Config = None,
    deep: Annotated[
        bool, typer.Option("--deep", help="Instead: every row, file and study, one by one.")
    ] = False,
    repair: Annotated[
        bool, typer.Option("--repair", help="With --deep: mend what can be; deletes nothing.")
    ] = False,
) -> None:
    """Check configuration, disk, database, port, weights and destinations; print what to fix."""
    if deep or repair:
        raise typer.Exit(_call("dicom_node.keep.command:check_deep", load(config), repair))
    results = _call("dicom_node.check:check", load(config))
    table = Table("what", "", "how it is, what to do")
    for item in results:
        table.add_row(
            escape(item.what), "[green]ok" if item.good else "[red]fix", escape(item.sentence)
        )
    Console().print(table)
    raise typer.Exit(0 if all(item.good for item in results) else 1)


@app.command()
def purge(
    config: Config = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only print what would go, and why.")
    ] = False,
) -> None:
    """Remove what the section keep asks for, once every destination has it; `serve` does so hourly."""
    if not dry_run:
        _call("dicom_node.logs:write_logs", "purge")
    raise typer.Exit(_call("dicom_node.keep.command:run_purge", load(config), dry_run))


@app.command()
def init(
    out: Annotated[Path, typer.Option(help="Folder for the files.")] = Path("."),
    force: Annotated[bool, typer.Option("--force", help="Overwrite what is there.")] = False,
) -> None:
    """Write a commented node.toml, the systemd unit, alarms and their documentation; says what to do next."""
    for line in _call("dicom_node.install:write_files", out, force):
        typer.echo(line)


@app.command()
def conformance() -> None:
    """Print the DICOM conformance statement of this version, as Markdown."""
    typer.echo(_call("dicom_node.conformance:statement"), nl=False)


@app.command()
@spread
def train(analysis: Analysis, order: TrainingOrder) -> None:
    """Train an analysis; shows progress, writes weights with their card.

    With --data: fine-tunes on a site's own images and masks. The same command continues what was cut off.
    """
    _known(analysis, "models.training")
    config = order.config or import_module("models.training.config").SHIPPED
    with _told():
        if order.data is None:
            _call("models.training:main", analysis, config, order.out)
        else:
            _train_site(order.data, config, load(order.node), order.out, order.own)


def _train_site(data: Path, config: Path, settings: Settings, out: Path, own: bool) -> None:
    """Make examples of the DICOM in ``data``, where there is any, and fine-tune on them."""
    words = _call("models.training.subjects:read_words", data)
    examples = out / import_module("models.training.site").EXAMPLES
    for line in _call(
        "dicom_node.examples:write_examples", data, examples, words.layers, settings.sources, own
    ):
        typer.echo(line)
    _call("models.training.site:train_site", config, data, out)


@bundle.command("export")
def bundle_export(
    analysis: Analysis,
    out: Annotated[Path, typer.Option(help="Folder for the bundle.")],
    weights: OtherWeights = None,
) -> None:
    """Write the segmentation network as a MONAI bundle."""
    _known(analysis, "models.training")
    weights = weights or import_module("models.training.shipped").SHIPPED
    with _told():
        for path in _call("models.training.bundle:export_bundle", weights, out):
            typer.echo(path)


@bundle.command("import")
def bundle_import(
    folder: Annotated[Path, typer.Argument(metavar="DIR", exists=True, help="The bundle.")],
    out: Annotated[Path, typer.Option(help="Folder for weights and card.")],
) -> None:
    """Make weights that a node can use of a bundle with the same architecture."""
    with _told():
        made = _call("models.training.bundle:import_bundle", folder, out)
    typer.echo(f"{out}: weights sha256 {made.sha256}\n{made.statement}")


@contextmanager
def _told() -> Iterator[None]:
    """Training that cannot be done, in one line that the person can act upon."""
    try:
        yield
    except (
        import_module("models.training.config").TrainingError,
        import_module("models.analysis").WeightsError,
        import_module("models.evaluation").EvaluationError,
        import_module("models.subjects").SubjectsError,
    ) as error:
        raise SettingsError(str(error)) from error


@app.command()
@spread
def evaluate(analysis: Analysis, order: EvaluationOrder) -> None:
    """Measure weights against planted truth (all: 25 CPU-minutes): layers, decision, attribution."""
    _known(analysis, "models.evaluation")
    weights, summary, out = order.weights, order.summary, order.out
    if sum((order.partial, bool(order.seeds), bool(weights or summary))) > 1:
        raise typer.BadParameter("--partial, --seeds and --weights/--summary exclude each other")
    with _told():
        if order.partial:
            typer.echo(_call("models.training.partial:write_partial", out or Path("runs")))
        elif order.seeds:
            typer.echo(
                _call("models.evaluation.seeds:write_seeds", order.seeds, out or Path("runs"))
            )
        else:
            _call("models.evaluation:main", analysis, out, order.volumes, weights, summary)


@app.command()
def cohort(
    paths: Annotated[
        list[Path],
        typer.Argument(exists=True, help="Measurement reports (SR), findings.json, or folders."),
    ],
    out: Annotated[Path, typer.Option(help="Folder for tables, figure and page.")],
    subjects: Annotated[
        Path | None,
        typer.Option(
            help="CSV subject,study,pain as subjects.csv of `train --data`; pain makes groups.",
            exists=True,
            dir_okay=False,
        ),
    ] = None,
    margin: Annotated[
        float, typer.Option(help="Saliencies closer than this are called equal.")
    ] = 0.05,
    seed: Annotated[int, typer.Option(min=0, help="Seed of bootstrap and permutations.")] = 0,
) -> None:
    """Tabulate the layers over many analyzed scans, by person: CSV, cohort.png, cohort.html.

    Broken off or called again with more files, it reads only what is new. Exit status: 0 a table was
    written, 3 there was no scan to tabulate, 2 wrong usage.
    """
    raise typer.Exit(
        _call("dicom_node.cohort.command:run", paths, out, subjects, margin=margin, seed=seed)
    )


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"dicom-node {__version__}. {RESEARCH_USE}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Options of the door itself."""


def main() -> None:
    """Run the chosen command; an error the reader can act upon becomes one line, not a traceback."""
    # What libraries say of an odd header may quote it, and with it a patient.
    logging.getLogger().addHandler(logging.NullHandler())
    warnings.simplefilter("ignore")
    # Threads of torch that wait must sleep: spinning ones slow down everything else on the machine.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        app()
    except NodeError as error:
        print(f"dicom-node: {error}", file=sys.stderr)
        sys.exit(2 if isinstance(error, SettingsError) else 1)
    except OSError as error:
        if error.filename is None:
            raise
        print(f"dicom-node: {error.filename}: {error.strerror}", file=sys.stderr)
        sys.exit(1)
