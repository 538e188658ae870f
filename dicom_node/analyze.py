"""analyze: which analyses accept each scan of a study, and what they find."""

from collections.abc import Sequence

from dicom_node.settings import Analyze
from dicom_node.study import Outcome, Study
from models.analysis import Analysis, Refusal, load


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
            reason = (
                f"no configured analysis takes {acquisition.scan.modality} with channels {channels}"
            )
            outcomes.append(Outcome(number, "", None, reason))
        for analysis in willing:
            try:
                outcomes.append(Outcome(number, analysis.name, analysis.run(acquisition.scan)))
            except Refusal as refusal:
                outcomes.append(Outcome(number, analysis.name, None, str(refusal)))
    return tuple(outcomes)
