"""analyze: which analyses accept each scan of a study, and what they find."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dicom_node.settings import Analyze
from dicom_node.study import Study
from models.analysis import Analysis, Refusal, load
from models.findings import Findings


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """What one analysis says of one acquisition: findings, or the reason why there are none."""

    acquisition: int
    analysis: str
    findings: Findings | None
    refusal: str = ""


def load_analyses(paths: Sequence[str], settings: Analyze) -> tuple[Analysis, ...]:
    """Import each analysis and tell it where to run. Raises ImportError, AttributeError, TypeError."""
    analyses = tuple(load(path) for path in paths)
    for analysis in analyses:
        analysis.prepare(settings.device, settings.threads)
    return analyses


def analyze_study(study: Study, analyses: Sequence[Analysis]) -> tuple[Outcome, ...]:
    """Run every analysis that accepts a scan; a scan that none accepts gets a refusal."""
    outcomes: list[Outcome] = []
    for number, acquisition in enumerate(study.acquisitions):
        willing = [analysis for analysis in analyses if analysis.accepts(acquisition.scan)]
        if not willing:
            channels = ", ".join(acquisition.scan.channels)
            reason = f"no configured analysis takes {acquisition.scan.modality} with channels {channels}"
            outcomes.append(Outcome(number, "", None, reason))
        for analysis in willing:
            try:
                outcomes.append(Outcome(number, analysis.name, analysis.run(acquisition.scan)))
            except Refusal as refusal:
                outcomes.append(Outcome(number, analysis.name, None, str(refusal)))
    return tuple(outcomes)


def save_outcomes(outcomes: Sequence[Outcome], folder: Path) -> None:
    """Write each outcome beside the study's scans."""
    for outcome in outcomes:
        stem = f"findings-{outcome.acquisition}-{outcome.analysis}"
        if outcome.findings:
            outcome.findings.save(folder / f"{stem}.npz")
        else:
            (folder / f"{stem}.refusal").write_text(outcome.refusal, encoding="utf-8")


def load_outcomes(folder: Path) -> tuple[Outcome, ...]:
    """Read what ``save_outcomes`` wrote."""
    outcomes = []
    for path in sorted(folder.glob("findings-*")):
        _, number, analysis = path.stem.split("-", 2)
        if path.suffix == ".npz":
            outcomes.append(Outcome(int(number), analysis, Findings.load(path)))
        else:
            outcomes.append(Outcome(int(number), analysis, None, path.read_text(encoding="utf-8")))
    return tuple(outcomes)
