"""send: files to a Storage SCP, as a scanner does, encrypted as the node delivers where that is wanted."""

import re
from dataclasses import fields, replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from dicom_node.errors import SettingsError
from dicom_node.options import Config
from dicom_node.settings import Destination, Identity, Tls, load


def send(
    paths: Annotated[list[Path], typer.Argument(exists=True, help="DICOM files or folders.")],
    to: Annotated[str, typer.Option(metavar="AET@HOST:PORT", help="Who gets the files.")],
    calling: Annotated[str, typer.Option(help="Our own AE title.")] = "DICOM_NODE",
    tls: Annotated[bool, typer.Option("--tls", help="Encrypted.")] = False,
    ca: Annotated[
        Path | None, typer.Option(help="PEM: who must have issued the peer's certificate.")
    ] = None,
    certificate: Annotated[Path | None, typer.Option(help="PEM: ours.")] = None,
    key: Annotated[Path | None, typer.Option(help="PEM: its key.")] = None,
    config: Config = None,
) -> None:
    """Send DICOM files to a Storage SCP, as a scanner does.

    With --tls by the profile of the node's deliveries; what --ca, --certificate and --key do not say is as in
    [tls] of --config.
    """
    destination = _destination(to)
    if tls:
        identity = _identity(load(config).tls, ca, certificate, key)
        told = {each.name: getattr(identity, each.name) for each in fields(Identity)}
        destination = replace(destination, tls=True, **told)
    elif ca or certificate or key:
        raise SettingsError("--ca, --certificate and --key mean something only with --tls; add it")
    count = _send(paths, destination, calling)
    typer.echo(f"{to} acknowledged {count} instances.")


def _destination(to: str) -> Destination:
    match = re.fullmatch(r"(?P<aet>[^@]{1,16})@(?P<host>[^@]+):(?P<port>\d{1,5})", to)
    if not match or not 0 < int(match["port"]) < 65536:
        raise SettingsError(f"--to {to!r} is not AET@HOST:PORT, for example ORTHANC@127.0.0.1:4242")
    return Destination(to, match["aet"], match["host"], int(match["port"]))


def _identity(tls: Tls, ca: Path | None, certificate: Path | None, key: Path | None) -> Identity:
    if bool(certificate) != bool(key):
        raise SettingsError("--certificate and --key go together; give both")
    if ca:
        tls = replace(tls, ca=str(ca), crl="")
    if certificate:
        tls = replace(tls, certificate=str(certificate), private_key=str(key), key_password_from="")
    return tls


def _send(paths: list[Path], destination: Destination, calling_ae: str) -> int:
    """How many were acknowledged. Raises SettingsError: nothing to send; DeliveryError: not all taken."""
    # Not at the top: the door stays light.
    from dicom_node.deliver import deliver
    from dicom_node.process import find_studies

    studies, unreadable = find_studies(paths)
    for path, reason in unreadable:
        Console(stderr=True, soft_wrap=True).print(
            f"not sent: {escape(str(path))}: {escape(reason)}"
        )
    files = [instance.path for instances in studies.values() for instance in instances]
    if not files:
        raise SettingsError("there is no DICOM instance in what was named; nothing was sent")
    deliver(files, destination, calling_ae)
    return len(files)
