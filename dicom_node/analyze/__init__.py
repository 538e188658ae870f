"""analyze: which analyses accept each scan of a study, and what they find."""

from collections.abc import Sequence

from dicom_node.errors import SettingsError, WeightsMismatch
from dicom_node.reasons import NO_ANALYSIS, REASONS
from dicom_node.settings import Analyze, OtherWeights
from dicom_node.study import Outcome, Study
from models.analysis import Analysis, Refusal, Retrainable, WeightsError, load


def load_analyses(paths: Sequence[str], settings: Analyze) -> tuple[Analysis, ...]:
    """Import each analysis and tell it where to run.

    Raises SettingsError when there is no such analysis or device, WeightsMismatch when its weights are wrong.
    """
    analyses = tuple(_prepared(path, settings) for path in paths)
    names = [analysis.name for analysis in analyses]
    for other in settings.weights if paths else ():
        if other.analysis not in names:
            raise SettingsError(
                f"analyze.weights: no analysis {other.analysis!r}; there is: {', '.join(names)}"
            )
    if len(set(names)) < len(names):
        raise SettingsError(
            f"node.analyses: two are called alike ({', '.join(names)}); name each once"
        )
    return analyses


def _prepared(path: str, settings: Analyze) -> Analysis:
    try:
        analysis = _with_weights(load(path), settings.weights)
        analysis.prepare(settings.device, settings.threads)
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise SettingsError(f"node.analyses: {path!r} cannot be loaded: {error}") from error
    except RuntimeError as error:
        raise SettingsError(f"analyze.device: {error}") from error
    except WeightsError as error:
        raise WeightsMismatch(f"{path}: {error}") from error
    return analysis


def _with_weights(analysis: Analysis, others: Sequence[OtherWeights]) -> Analysis:
    """The analysis with the weights that the site names for it, else with its own."""
    for other in others:
        if other.analysis == analysis.name:
            if not isinstance(analysis, Retrainable):
                raise SettingsError(
                    f"analyze.weights: the analysis {analysis.name!r} takes no other weights"
                )
            return analysis.with_weights(other.folder)
    return analysis


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
            outcomes.append(Outcome(number, "", None, reason, NO_ANALYSIS.value))
        for analysis in willing:
            try:
                outcomes.append(Outcome(number, analysis.name, analysis.run(acquisition.scan)))
            except Refusal as refusal:
                code = REASONS[refusal.kind].value
                outcomes.append(Outcome(number, analysis.name, None, str(refusal), code))
    return tuple(outcomes)
