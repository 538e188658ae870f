"""dicom-node access: who may log in."""

import sys
from typing import Annotated

import typer

from dicom_node.access.users import add_user, read_users, remove_user, users_path
from dicom_node.options import Config
from dicom_node.settings import load

app = typer.Typer(help="Who may log in: add, remove, list.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="NAME", help="The user, e.g. a scanner's own.")]


@app.command()
def add(name: Name, config: Config = None) -> None:
    """Add a user, or change its passcode, which is asked for; it is kept as a salted hash alone.

    Where standard input is no terminal, its first line is the passcode.
    """
    path = users_path(load(config))
    if sys.stdin.isatty():
        passcode = typer.prompt("Passcode", hide_input=True, confirmation_prompt=True)
    else:
        passcode = sys.stdin.readline().rstrip("\r\n")
    add_user(path, name, passcode)
    typer.echo(f"{name} may log in; {path}")


@app.command()
def remove(name: Name, config: Config = None) -> None:
    """Take a user away; it is effective at once."""
    path = users_path(load(config))
    remove_user(path, name)
    typer.echo(f"{name} may no longer log in; {path}")


@app.command("list")
def list_users(config: Config = None) -> None:
    """Print the name of each user."""
    for name in read_users(users_path(load(config))):
        typer.echo(name)
