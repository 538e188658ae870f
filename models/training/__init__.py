"""Training: fit the networks of an analysis on simulated people. One seed, one configuration, one result."""

from importlib import import_module
from pathlib import Path

from rich.console import Console

from models.training.config import load

ANALYSES = ("layer",)


def main(analysis: str, config: Path, out: Path) -> None:
    """Train an analysis as ``config`` says and write its weights into the folder ``out``.

    Raises ValueError for an analysis that cannot be trained, ConfigError for a configuration that is wrong.
    """
    name = f"models.training.{analysis}"
    if analysis not in ANALYSES:
        raise ValueError(f"no training for {analysis!r}; there is: {', '.join(ANALYSES)}")
    import_module(name).train(load(config), out, Console())
