"""Site, pain: the heads of the pain networks, fitted anew on a site's pain labels where there are enough.

As in the node, a scan's layers are those that the segmentation network finds, never the drawn ones. What
reads tissue properties out of the layers' appearance was learned on simulated factors, which no site has: it
stays.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import track

from models.evaluation.metrics import auc
from models.evaluation.person import find_layers
from models.layer.sizes import has_shear_wave, measure
from models.layer.weights import Classifier, Weights
from models.scan import Scan
from models.steps.classify import build_case
from models.training.config import Config
from models.training.dataset import Example, read_example
from models.training.ordinal import Graded, Quality, assess, fit_levels
from models.training.pain import Features, fit_heads, set_references, temperature_of
from models.training.subjects import Words

LEVEL_SHARE = 3
"""Of each level so many times fewer subjects are wanted than of pain and of no pain."""


@dataclass(frozen=True, slots=True, eq=False)
class Patient:
    """One scan with a pain label: features of its found layers, pooled (6, feature) and measured (7,).

    ``level`` is 0 for no pain; where a site has no levels, 1 for pain.
    """

    subject: str
    level: int
    pooled: NDArray[np.float32]
    measured: NDArray[np.float32]


def fit_pain(
    weights: Weights,
    examples: Sequence[Example],
    words: Words,
    apart: frozenset[str],
    config: Config,
) -> tuple[Weights, tuple[str, ...]]:
    """Both networks fitted anew, as far as there are enough subjects; a sentence on each."""
    said: list[str] = []
    split = _Split(apart, words.pain.levels)
    patients = _patients(weights, examples, words, said)
    b_mode, sentence = _fitted(weights.pain_b, patients["pain_b"], split, config)
    said.append(f"Pain from B-mode: {sentence}")
    both, sentence = _fitted(weights.pain_bswe, patients["pain_bswe"], split, config)
    said.append(f"Pain from B-mode and shear wave: {sentence}")
    return replace(weights, pain_b=b_mode, pain_bswe=both), tuple(said)


def _patients(
    weights: Weights, examples: Sequence[Example], words: Words, said: list[str]
) -> Mapping[str, list[Patient]]:
    """Of each network the scans that it can take; those without any layer found are told and left out."""
    found: dict[str, list[Patient]] = {"pain_b": [], "pain_bswe": []}
    for item in track(examples, "Find layers of scans with pain label"):
        scan, _ = read_example(item, words)
        labelmap = find_layers(scan, weights).labelmap
        if not labelmap.any():
            said.append(f"{item.row.study}: no layer was found; not used for pain")
            continue
        for name in found if has_shear_wave(scan) else ("pain_b",):
            found[name].append(_patient(item, scan, labelmap, getattr(weights, name)))
    return found


def _patient(
    item: Example, scan: Scan, labelmap: NDArray[np.uint8], classifier: Classifier
) -> Patient:
    network = classifier.network
    thickness_mm = measure(scan, labelmap).mean_thickness_mm()
    case = build_case(scan, labelmap, thickness_mm, network.channels, classifier.spacing_mm)
    with torch.inference_mode():
        pooled = network.pool(case.image, case.labels)[0].numpy()
    level = int(bool(item.row.pain)) if item.row.level is None else item.row.level
    return Patient(item.row.subject, level, pooled, case.measured[0].numpy())


@dataclass(frozen=True, slots=True)
class _Split:
    """The subjects that validate, and the names of the levels that all have, if any."""

    apart: frozenset[str]
    levels: tuple[str, ...]


def _fitted(
    classifier: Classifier, patients: Sequence[Patient], split: _Split, config: Config
) -> tuple[Classifier, str]:
    """The classifier with new references, heads and temperature, or as it was where subjects are too few."""
    assert config.site is not None
    learn = [item for item in patients if item.subject not in split.apart]
    check = [item for item in patients if item.subject in split.apart]
    fewest = min(_people(learn))
    if fewest < config.site.pain_subjects or min(_people(check)) < 1:
        with_pain, without = _people(learn)
        return classifier, (
            f"as in the weights it began from; {with_pain} subjects with and {without} without pain learn, "
            f"{config.site.pain_subjects} of each are wanted, and one of each to validate"
        )
    train, validation = _features(learn), _features(check)
    network = classifier.network
    set_references(network, train)
    fit_heads(network, train, validation, config.pain)
    made = replace(classifier, temperature=temperature_of(network, validation), levels=None)
    made, graded = _graded(made, (learn, check), split.levels, config)
    with torch.inference_mode():
        area = auc(
            network.logit(validation.pooled, validation.measured).numpy(), validation.pain.numpy()
        )
    return made, (
        f"heads fitted on {len(learn)} scans of {sum(_people(learn))} subjects; AUC {area:.3f} on "
        f"{len(check)} scans of {sum(_people(check))} held-out subjects, who chose penalty and temperature"
        f"{graded}"
    )


def _graded(
    classifier: Classifier,
    parts: tuple[Sequence[Patient], Sequence[Patient]],
    names: tuple[str, ...],
    config: Config,
) -> tuple[Classifier, str]:
    """The same with ordered levels, where there are enough subjects of each; what there is to say of it."""
    assert config.site is not None
    if not names:
        return classifier, ""
    wanted = (max(config.site.pain_subjects // LEVEL_SHARE, 1), 1)
    for some, fewest, use in zip(parts, wanted, ("learn", "validate"), strict=True):
        for number, name in enumerate(names):
            count = len({item.subject for item in some if item.level == number})
            if count < fewest:
                return classifier, (
                    f"; levels are not told: {count} subjects of level {name} {use}, {fewest} of each "
                    "are wanted"
                )
    train, validation = (
        Graded(_features(some), np.array([item.level for item in some])) for some in parts
    )
    made = fit_levels(classifier, train, validation, names, config.pain.penalties)
    return made, f"; {_sentence(made, assess(made, train, validation))}"


def _sentence(classifier: Classifier, quality: Quality) -> str:
    """How well levels are told, threshold by threshold."""
    assert classifier.levels
    areas = ", ".join(
        f"{name} or more {area:.3f} ({100 * said:.0f} % told, {100 * seen:.0f} % seen)"
        for name, area, said, seen in zip(
            classifier.levels.names[1:], quality.areas, quality.said, quality.seen, strict=True
        )
    )
    return (
        f"levels on the same: AUC of {areas}; ranked probability score {quality.score:.3f}, skill over the "
        f"learners' shares {quality.skill:+.2f}, quadratic weighted kappa {quality.kappa:.2f}"
    )


def _people(patients: Sequence[Patient]) -> tuple[int, int]:
    """Subjects with and without pain; one whose studies differ counts as both."""
    return (
        len({item.subject for item in patients if item.level}),
        len({item.subject for item in patients if not item.level}),
    )


def _features(patients: Sequence[Patient]) -> Features:
    return Features(
        torch.from_numpy(np.stack([item.pooled for item in patients])),
        torch.from_numpy(np.stack([item.measured for item in patients])),
        torch.tensor([float(item.level > 0) for item in patients]),
        {},
    )
