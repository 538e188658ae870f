"""install: what a site needs beside the program itself; ``init`` writes it into a folder of the site's own.

The files lie in this folder, in a wheel as such and in a checkout as links to ``config/`` and ``deploy/``.
"""

import re
import sys
import sysconfig
from collections.abc import Sequence
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

from dicom_node.errors import SettingsError

CONFIG, UNIT = "node.toml", "dicom-node.service"
UNIT_PROGRAM, UNIT_FOLDER = "/opt/dicom-node/bin/dicom-node", "/etc/dicom-node"
"""The places that the unit names as it is shipped."""
PLAIN_PATH = re.compile(r"/[\w./+@-]*", re.ASCII)
"""What a unit takes without quotes and escapes (systemd.syntax)."""


def contents() -> dict[str, Traversable]:
    """The files that ``init`` writes, by name."""
    here = files(__package__)
    names = (CONFIG, UNIT, "alerts.yml", "OPERATIONS.md", "ALERTS.md")
    return {name: here / name for name in names} | {
        "layer.toml": files("models.training") / "layer.toml"
    }


def write_files(out: Path, overwrite: bool) -> tuple[str, ...]:
    """Write configuration, unit, alarms and their documentation into ``out``; returns what to say of it.

    The unit starts this installation with the ``node.toml`` beside it. Raises SettingsError, before
    anything is written, where a file of other content is there and ``overwrite`` is false.
    """
    folder = out.resolve()
    texts = {name: item.read_text(encoding="utf-8") for name, item in contents().items()}
    texts[UNIT], remark = _fitted(texts[UNIT], folder)
    if not overwrite:
        _check_free(folder, texts)
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    me, config = own_command(), out / CONFIG
    return (
        *(f"wrote {out / name}" for name in texts),
        *remark,
        f"\nnext       edit {config}: [receive], [tls], [[sources]], [[destinations]]",
        f"           {me} check --config {config}",
        f"           {me} serve --config {config}",
        f"service    {out / 'OPERATIONS.md'} tells how; train with {out / 'layer.toml'}",
    )


def own_command() -> str:
    """How this program was called, to be called again."""
    called = sys.argv[0]
    return f"{sys.executable} -m dicom_node" if called.endswith("__main__.py") else called


def _check_free(folder: Path, texts: dict[str, str]) -> None:
    """Nothing is lost where the same is written again."""
    other = [
        name
        for name, text in texts.items()
        if (folder / name).exists() and (folder / name).read_bytes() != text.encode()
    ]
    if other:
        raise SettingsError(
            f"{folder}: {', '.join(other)} {_are(other)} there already, with other content; nothing was "
            "written. Another folder (--out) takes the new ones, to be compared; --force overwrites"
        )


def _are(names: Sequence[str]) -> str:
    return "is" if len(names) == 1 else "are"


def _fitted(unit: str, folder: Path) -> tuple[str, tuple[str, ...]]:
    """The unit with the places of this installation, or as it is, and a sentence on that."""
    program = f"{sysconfig.get_path('scripts')}/dicom-node"
    if not all(PLAIN_PATH.fullmatch(path) for path in (program, str(folder))):
        return unit, (
            f"{UNIT} names {UNIT_PROGRAM} and {UNIT_FOLDER}: put in the places of yours, quoted as "
            "systemd.syntax(7) says",
        )
    return unit.replace(UNIT_PROGRAM, program).replace(UNIT_FOLDER, str(folder)), ()
