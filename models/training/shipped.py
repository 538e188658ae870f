"""Shipped: the weights that others begin from, and the gate that goes with every folder of weights."""

import shutil
from pathlib import Path

import models.layer
from models.layer.place import FILE

SHIPPED = Path(models.layer.__file__).parent
GATE_KEPT = (
    "The gate that refuses scans without lumbar layers is the shipped one, fitted to the shipped network, "
    "simulated scans and images of limbs; if it refuses yours, fit it anew: python -m "
    "models.training.place FOLDER"
)


def copy_gate(out: Path) -> None:
    """Put the shipped gate into a folder of other weights: without one, nothing would be refused."""
    shutil.copyfile(SHIPPED / FILE, out / FILE)
