"""Evaluation: what the shipped weights reach on simulated people that no training has seen."""

from importlib import import_module
from pathlib import Path

from rich.console import Console

ANALYSES = ("layer",)


def main(analysis: str, out: Path | None = None, volumes: int = 120) -> dict[str, list[float]]:
    """Measure the shipped weights on ``volumes`` people in each of three test cohorts; results into ``out``.

    Everything else is in proportion: 120 takes some 25 minutes of one core, 1 half a minute. Returns each
    figure of the summary once per cohort. Raises ValueError for an analysis that cannot be evaluated.
    """
    if analysis not in ANALYSES:
        raise ValueError(f"no evaluation for {analysis!r}; there is: {', '.join(ANALYSES)}")
    module = import_module(f"models.evaluation.{analysis}")
    folder = Path(__file__).parents[1] / analysis
    figures: dict[str, list[float]] = module.evaluate(module.Plan(folder, volumes), out, Console())
    return figures
