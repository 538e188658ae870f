"""dicom-node jobs: what became of each study, and what a person does about it.

Beside the package and not in it: the door stays light, and what ``jobs`` imports is not.
"""

from pathlib import Path
from typing import Annotated

import typer

from dicom_node.options import STUDY, AsJson, Config, StudyUid
from dicom_node.settings import Settings, load
from dicom_node.show import print_done, print_job, print_json, print_list, print_resent

app = typer.Typer(
    help="What became of each study: list, show, retry, accept, cancel.", no_args_is_help=True
)


@app.command("list")
def list_jobs(config: Config = None, as_json: AsJson = False) -> None:
    """One line per study, the newest first."""
    from dicom_node import jobs

    found = jobs.list_jobs(load(config))
    (print_json if as_json else print_list)(found)


@app.command()
def show(study: StudyUid, config: Config = None, as_json: AsJson = False) -> None:
    """All that is known of one study: stages, seconds, destinations, the reason of a failure."""
    from dicom_node import jobs
    from dicom_node.lookup import log_name

    settings, study = _named(config, study)
    found = jobs.show_job(settings, study)
    if as_json:
        print_json(found)
    else:
        typer.echo(f"in the log   {log_name(settings, study)}\n")
        for job in found:
            print_job(job)


@app.command()
def retry(
    study: Annotated[str, STUDY] = "",
    destination: Annotated[
        str,
        typer.Option(help="Only to this destination, and what waits for it as well: at once."),
    ] = "",
    every: Annotated[
        bool, typer.Option("--all", help="With --destination: of all studies.")
    ] = False,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Run a failed study again from the stage where it failed; or send what waits for a destination."""
    from dicom_node import jobs

    if every and (study or not destination):
        raise typer.BadParameter("--all goes with --destination, and without a study")
    if not every and not study:
        raise typer.BadParameter("name a STUDY, or --destination NAME --all")
    if every:
        print_resent(jobs.retry_destination(load(config), destination), as_json)
        return
    settings, study = _named(config, study)
    if destination:
        print_resent(jobs.retry_destination(settings, destination, study), as_json)
    else:
        print_done(jobs.retry_job(settings, study), study, as_json)


@app.command()
def accept(study: StudyUid, config: Config = None, as_json: AsJson = False) -> None:
    """The patient of a study was corrected and it was sent again: analyze what names the newest."""
    from dicom_node import jobs

    settings, study = _named(config, study)
    print_done(jobs.accept_patient(settings, study), study, as_json)


@app.command()
def cancel(study: StudyUid, config: Config = None, as_json: AsJson = False) -> None:
    """Stop the work on a study; what was received is kept."""
    from dicom_node import jobs

    settings, study = _named(config, study)
    print_done(jobs.cancel_job(settings, study), study, as_json)


def _named(config: Path | None, study: str) -> tuple[Settings, str]:
    """The settings, and the UID of a study of which the log's hash may have been given."""
    from dicom_node.lookup import study_named

    settings = load(config)
    return settings, study_named(settings, study)
