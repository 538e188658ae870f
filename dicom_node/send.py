"""send: files to a Storage SCP, as a scanner does, encrypted as the node delivers where that is wanted."""

import re
from dataclasses import fields, replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from dicom_node.errors import SettingsError
from dicom_node.orders import SendOrder, spread
from dicom_node.settings import Destination, Identity, Tls, load


@spread
def send(
    paths: Annotated[list[Path], typer.Argument(exists=True, help="DICOM files or folders.")],
    to: Annotated[str, typer.Option(metavar="AET@HOST:PORT", help="Who gets the files.")],
    order: SendOrder,
) -> None:
    """Send DICOM files to a Storage SCP, as a scanner does.

    With --tls by the profile of the node's deliveries; what --ca, --certificate and --key do not say is as in
    the section tls of --config.
    """
    destination = _destination(to)
    if order.tls:
        identity = _identity(load(order.config).tls, order)
        told = {each.name: getattr(identity, each.name) for each in fields(Identity)}
        destination = replace(destination, tls=True, **told)
    elif order.ca or order.certificate or order.key:
        raise SettingsError("--ca, --certificate and --key mean something only with --tls; add it")
    count = _send(paths, destination, order.calling)
    typer.echo(f"{to} acknowledged {count} instances.")


def _destination(to: str) -> Destination:
    match = re.fullmatch(r"(?P<aet>[^@]{1,16})@(?P<host>[^@]+):(?P<port>\d{1,5})", to)
    if not match or not 0 < int(match["port"]) < 65536:
        raise SettingsError(f"--to {to!r} is not AET@HOST:PORT, for example ORTHANC@127.0.0.1:4242")
    return Destination(to, match["aet"], match["host"], int(match["port"]))


def _identity(tls: Tls, order: SendOrder) -> Identity:
    if bool(order.certificate) != bool(order.key):
        raise SettingsError("--certificate and --key go together; give both")
    if order.ca:
        tls = replace(tls, ca=str(order.ca), crl="")
    if order.certificate:
        certificate, key = str(order.certificate), str(order.key)
        tls = replace(tls, certificate=certificate, private_key=key, key_password_from="")
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
