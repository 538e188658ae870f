"""What `jobs` prints of the studies it found: a table, all of one, or JSON."""

import json
from typing import Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table


def print_json(found: Any) -> None:
    """Everything, for programs."""
    typer.echo(json.dumps([job.as_dict() for job in found], indent=2))


def print_done(sentence: str, study: str, as_json: bool) -> None:
    """What a command has done with a study."""
    typer.echo(json.dumps({"study": study, "done": sentence}) if as_json else sentence)


def print_resent(resent: Any, as_json: bool) -> None:
    """What was done with all that one destination has not."""
    told = {"destination": resent.destination, "studies": list(resent.studies)}
    typer.echo(json.dumps(told | {"done": resent.sentence}) if as_json else resent.sentence)


def print_list(found: Any) -> None:
    """One row per study; the UID is never cut, as the other commands need it whole."""
    table = Table("received", "state", "reason")
    table.add_column("study", no_wrap=True)
    for job in found:
        table.add_row(job.received_at, job.state, escape(job.reason), job.study)
    width = max(Console().width, 120)
    Console(width=width).print(table if found else "No study has been received yet.")


def print_job(job: Any) -> None:
    """All of one version of a study, a line each."""
    lines = {
        "study": job.study,
        "version": job.generation,
        "state": job.state,
        "reason": job.reason or "-",
        "received": f"{job.instances} instances, the last at {job.received_at}",
        "complete": job.evidence or "not yet",
    }
    lines |= {word: f"{seconds:.1f} s" for word, seconds in job.seconds.items()}
    if job.checked:
        lines["checked"] = job.checked
    if job.advice:
        lines["what to do"] = job.advice
    if job.set_aside:
        lines["set aside"] = job.set_aside
    if job.cautions:
        lines["caution"] = "; ".join(job.cautions)
    for item in job.deliveries:
        count = f"{item.acknowledged} of {item.objects} objects, {item.attempts} attempts"
        lines[f"to {item.destination}"] = f"{item.status}: {count} {item.delivered_at}".strip()
        if item.reason:
            lines[f"  {item.destination}: why"] = item.reason
        if item.next_attempt:
            lines[f"  {item.destination}: next"] = item.next_attempt
    typer.echo("\n".join(f"{key:12} {value}" for key, value in lines.items()) + "\n")
