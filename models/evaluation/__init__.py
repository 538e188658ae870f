"""Evaluation: what weights reach on simulated people that no training has seen."""

from importlib import import_module
from pathlib import Path

from rich.console import Console

ANALYSES = ("layer",)


class EvaluationError(Exception):
    """An evaluation cannot be made of what was given; says what to mend."""


def main(
    analysis: str,
    out: Path | None = None,
    volumes: int = 120,
    weights: Path | None = None,
    summary: bool = False,
) -> dict[str, list[float]]:
    """Measure weights on ``volumes`` people in each of three test cohorts; results into ``out``.

    ``weights`` is a folder of weights, without it the shipped ones. ``summary`` leaves out all that needs
    further scans of the first simulator: shifts, planted rules, text, made images for the gate. Everything
    else is in proportion to ``volumes``: 120 takes some 25 minutes of one core, the summary 4; 1 half a
    minute. Returns each figure of the summary once per cohort. Raises ValueError for an analysis that cannot
    be evaluated, WeightsError for weights that cannot be used.
    """
    if analysis not in ANALYSES:
        raise ValueError(f"no evaluation for {analysis!r}; there is: {', '.join(ANALYSES)}")
    module = import_module(f"models.evaluation.{analysis}")
    folder = (weights or Path(__file__).parents[1] / analysis).resolve()
    parts = module.SUMMARY if summary else module.PARTS
    figures: dict[str, list[float]] = module.evaluate(
        module.Plan(folder, volumes, parts=parts), out, Console()
    )
    return figures
