"""Figures of an evaluation. Layers have the colors that they have in a viewer."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Picture
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from models.evaluation.decision import CHANNELS, Decision
from models.evaluation.drivers import Result, home
from models.evaluation.metrics import expected_calibration_error
from models.evaluation.segmentation import Overlap
from models.evaluation.shifts import MOST_LOSS, UNCHANGED, Shift
from models.evaluation.tables import mean, spread
from models.layer.labels import SEGMENTS

__all__ = ["Picture", "of_rules", "of_segmentation", "of_shifts"]

SHORT = ("Dermis", "Superficial\nfat", "SFM", "Deep fat", "DFM", "Muscle")
COLORS = tuple(tuple(part / 255 for part in segment.color) for segment in SEGMENTS)
INK, FAINT, GOOD, BAD = "#1d2733", "#8593a3", "#2f5d8a", "#9d2b22"
EDGE = "#1d273366"
BINS = 8
LEAST_AUC, LEAST_DICE = 0.35, 0.4  # of the frames
MOST_LIKE_UNTRAINED = 0.7
Floats = NDArray[np.float64]


def of_segmentation(data: Overlap) -> dict[str, Picture]:
    """Overlap by layer, thickness errors, and predicted against true Dice."""
    return {
        "dice": _dice(data),
        "thickness": _thickness(data),
        "confidence": _confidence(data),
    }


def of_shifts(shifts: Sequence[Shift]) -> Picture:
    """Change of Dice under each shift with its interval."""
    shown = [shift for shift in shifts if shift.name != UNCHANGED]
    picture, axes = _new(7.5, 0.36 * len(shown) + 1.4)
    place = np.arange(len(shown))[::-1]
    change = np.array([shift.change for shift in shown])
    reach = np.array([[s.change - s.low, s.high - s.change] for s in shown]).T
    colors = [BAD if shift.change < -MOST_LOSS else GOOD for shift in shown]
    axes.barh(place, change, color=colors, height=0.6)
    axes.errorbar(change, place, xerr=reach, fmt="none", ecolor=INK, capsize=2, lw=1)
    axes.axvline(0, color=INK, lw=0.8)
    axes.axvline(-MOST_LOSS, color=BAD, lw=1, ls="--")
    axes.text(
        -MOST_LOSS, len(shown) - 0.35, f"-{MOST_LOSS:g} allowed ", color=BAD, fontsize=8, ha="right"
    )
    axes.set_yticks(place, [shift.name for shift in shown])
    axes.set_ylim(-0.6, len(shown) - 0.1)
    axes.set_xlim(min(-0.045, float((change - reach[0]).min()) - 0.005), None)
    axes.set_xlabel("Change of mean Dice, same people (95 % interval)")
    return _titled(picture, axes, "What a different acquisition costs")


def of_rules(results: Sequence[Result]) -> dict[str, Picture]:
    """AUC, calibration, drivers, and likeness to networks that have learned nothing."""
    return {
        "auc": _auc(results),
        "calibration": _calibration([item for result in results for item in result.decisions]),
        "drivers": _matrix(results),
        "untrained": _untrained(results),
    }


def _new(width: float, height: float, columns: int = 1) -> tuple[Picture, Axes]:
    picture = Picture(figsize=(width, height), layout="constrained")
    return picture, picture.add_subplot(1, columns, 1)


def _titled(picture: Picture, axes: Axes, title: str) -> Picture:
    axes.set_title(title, loc="left", fontsize=11, color=INK)
    axes.spines[["top", "right"]].set_visible(False)
    return picture


def _dice(data: Overlap) -> Picture:
    picture, axes = _new(7.5, 4.2)
    columns = [column[np.isfinite(column)] for column in data.dice.T]
    boxes = axes.boxplot(
        columns, widths=0.55, patch_artist=True, showfliers=False, medianprops={"color": INK}
    )
    generator = np.random.default_rng(0)
    for number, (column, color, box) in enumerate(
        zip(columns, COLORS, boxes["boxes"], strict=True), 1
    ):
        box.set_facecolor((*color, 0.45))
        box.set_edgecolor(INK)
        beside = number + generator.uniform(-0.2, 0.2, len(column))
        axes.scatter(beside, column, s=5, color=color, edgecolors=EDGE, linewidths=0.3, zorder=3)
        if len(column):
            axes.text(number, 1.005, f"{column.mean():.3f}", ha="center", va="bottom", fontsize=9)
    axes.set_xticks(range(1, 7), SHORT)
    low = min((float(np.percentile(column, 2)) for column in columns if len(column)), default=0.9)
    axes.set_ylim(max(LEAST_DICE, min(low, 0.9) - 0.03), 1.04)
    axes.set_ylabel("Dice")
    below = sum(int((column < axes.get_ylim()[0]).sum()) for column in columns)
    words = f"Overlap by layer (mean above; {below} scans lie below the frame)"
    return _titled(picture, axes, words)


def _thickness(data: Overlap) -> Picture:
    picture = Picture(figsize=(10, 5.6), layout="constrained")
    for layer in range(5):
        axes = picture.add_subplot(2, 3, layer + 1)
        true, error = data.true_mm[:, layer], data.error_mm[:, layer]
        known = np.isfinite(true) & np.isfinite(error)
        true, error = true[known], error[known]
        axes.scatter(
            true + error / 2, error, s=9, color=COLORS[layer], edgecolors=EDGE, linewidths=0.3
        )
        bias, sd = mean(error), spread(error)
        for value, style in ((bias, "-"), (bias - 1.96 * sd, "--"), (bias + 1.96 * sd, "--")):
            axes.axhline(value, color=INK, lw=0.9, ls=style)
        axes.axhline(0, color=FAINT, lw=0.6)
        limit = max(0.1, float(np.percentile(abs(error), 99)) * 1.3) if len(error) else 1.0
        axes.set_ylim(-limit, limit)
        axes.set_title(
            f"{SEGMENTS[layer].label}\nbias {bias:+.3f}, 95 % within ±{1.96 * sd:.2f} mm",
            fontsize=9,
            loc="left",
        )
        axes.tick_params(labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    picture.supxlabel("Mean of measured and true thickness, mm", fontsize=9)
    picture.supylabel("Measured less true, mm", fontsize=9)
    return picture


def _confidence(data: Overlap) -> Picture:
    picture, axes = _new(5.6, 5.2)
    for layer, color in enumerate(COLORS):
        said, true = data.confidence[:, layer], data.found_dice[:, layer]
        label = SEGMENTS[layer].label
        axes.scatter(said, true, s=9, color=color, edgecolors=EDGE, linewidths=0.3, label=label)
    said, true = data.confidence.ravel(), data.found_dice.ravel()
    known = np.isfinite(said) & np.isfinite(true)
    said, true = said[known], true[known]
    if len(said) > BINS:
        edges = np.quantile(said, np.linspace(0, 1, BINS + 1))
        bin_ = np.clip(np.searchsorted(edges, said, side="right") - 1, 0, BINS - 1)
        used = np.unique(bin_)
        x, y = ([float(values[bin_ == b].mean()) for b in used] for values in (said, true))
        axes.plot(x, y, "o-", color=INK, ms=5, lw=1.2, label="Mean of an eighth of the layers")
        low = max(LEAST_DICE, float(np.percentile(np.concatenate([said, true]), 1)) - 0.03)
        axes.set_xlim(low, 1.005)
        axes.set_ylim(low, 1.005)
    axes.plot([0, 1], [0, 1], color=FAINT, lw=0.8, ls="--", scalex=False, scaley=False)
    axes.set_xlabel("Dice the segmentation expects")
    axes.set_ylabel("True Dice")
    axes.legend(fontsize=8, frameon=False, loc="upper left")
    words = f"Does it know how good it is?\n({data.invented.sum()} invented layers lie at 0, below the frame)"
    return _titled(picture, axes, words)


def _auc(results: Sequence[Result]) -> Picture:
    picture = Picture(figsize=(11, 0.33 * len(results) + 1.6), layout="constrained")
    place = np.arange(len(results))[::-1]
    first: Axes | None = None
    for index, channels in enumerate(CHANNELS):
        axes = picture.add_subplot(1, 2, index + 1, sharey=first)
        items = [result.decisions[index] for result in results]
        series = (
            ("possible (planted latent)", [item.possible for item in items], "|", INK),
            ("logistic regression", [item.regression for item in items], "s", FAINT),
            ("network", [item.network for item in items], "o", GOOD),
        )
        for label, values, mark, color in series:
            middle, width = [mean(v) for v in values], [spread(v) for v in values]
            offset = 0.16 if mark == "s" else -0.16 if mark == "o" else 0.0
            axes.errorbar(
                middle,
                place + offset,
                xerr=np.nan_to_num(width),
                fmt=mark,
                color=color,
                ms=12 if mark == "|" else 5,
                lw=0 if mark == "|" else 1,
                elinewidth=0 if mark == "|" else 1,
                label=label,
            )
        axes.axvline(0.5, color=FAINT, lw=0.8, ls="--")
        axes.set_xlabel("AUC (mean, SD over label draws)")
        axes.grid(axis="y", color="#e5e8ec", lw=0.6)
        axes.set_axisbelow(True)
        if first is None:
            axes.set_yticks(place, [_plain(result.rule) for result in results], fontsize=8)
            picture.legend(loc="outside upper right", ncols=3, fontsize=8, frameon=False)
        else:
            axes.tick_params(labelleft=False)
        axes.set_xlim(LEAST_AUC, 1.0)
        first = first or axes
        _titled(picture, axes, channels)
    return picture


def _calibration(decisions: Sequence[Decision]) -> Picture:
    picture, axes = _new(5.2, 5.0)
    for channels, color in zip(CHANNELS, (GOOD, BAD), strict=True):
        items = [item for item in decisions if item.channels == channels]
        said = np.concatenate([item.probability for item in items])
        true = np.concatenate([item.pain for item in items]).astype(float)
        bin_ = np.minimum((said * 10).astype(int), 9)
        used = [b for b in range(10) if (bin_ == b).sum() >= BINS]
        x, y = ([float(values[bin_ == b].mean()) for b in used] for values in (said, true))
        label = f"{channels}, calibration error {expected_calibration_error(said, true):.3f}"
        axes.plot(x, y, "o-", color=color, ms=5, lw=1.2, label=label)
    axes.plot([0, 1], [0, 1], color=FAINT, lw=0.8, ls="--")
    axes.set_xlabel("Probability of pain, as told")
    axes.set_ylabel("Share with pain")
    axes.legend(fontsize=8, frameon=False, loc="upper left")
    return _titled(picture, axes, "Calibration, all rules and test people")


def _matrix(results: Sequence[Result]) -> Picture:
    picture = Picture(figsize=(11, 0.33 * len(results) + 1.6), layout="constrained")
    shown: Axes | None = None
    for index, channels in enumerate(CHANNELS):
        axes = picture.add_subplot(1, 2, index + 1)
        scores = [result.scores[index] for result in results]
        share = np.stack([_share(score.magnitude) for score in scores])
        image = axes.imshow(share, cmap="Blues", vmin=0, vmax=1, aspect="auto")
        for row, score in enumerate(scores):
            for layer in range(6):
                dark = share[row, layer] > 0.55
                planted = bool(score.drivers[layer])
                axes.text(
                    layer,
                    row,
                    f"{share[row, layer]:.2f}",
                    ha="center",
                    va="center",
                    fontsize=8,
                    weight="bold" if planted else "normal",
                    color="white" if dark else INK,
                )
                if planted:
                    corner = layer - 0.47, row - 0.44
                    axes.add_patch(_frame(corner))
        axes.set_xticks(
            range(6), [name.replace("\n", " ") for name in SHORT], fontsize=8, rotation=25
        )
        names = [_plain(score.rule) for score in scores]
        axes.set_yticks(
            range(len(names)), names if shown is None else [""] * len(names), fontsize=8
        )
        axes.set_title(channels, loc="left", fontsize=11, color=INK)
        if shown is not None:
            picture.colorbar(image, ax=axes, label="Share of all |contributions|", shrink=0.6)
        shown = axes
    picture.suptitle(
        "Planted layers (framed) and what the contributions say", fontsize=11, color=INK
    )
    return picture


def _plain(rule: str) -> str:
    return rule.replace("_", " ")


def _frame(corner: tuple[float, float]) -> Rectangle:
    return Rectangle(corner, 0.94, 0.88, fill=False, edgecolor=BAD, lw=1.6)


def _share(magnitude: Floats) -> Floats:
    """Mean over label draws of each layer's share."""
    total = np.maximum(magnitude.sum(1, keepdims=True), 1e-12)
    return np.asarray((magnitude / total).mean(0))


def _untrained(results: Sequence[Result]) -> Picture:
    told = [
        next(item for item in result.told if item.channels == home(result.rule))
        for result in results
        if result.told
    ]
    picture, axes = _new(7.5, 0.33 * len(told) + 1.6)
    place = np.arange(len(told))[::-1]
    for values, offset, color, label in (
        ([item.like_contributions for item in told], 0.17, GOOD, "contributions"),
        ([item.like_saliency for item in told], -0.17, FAINT, "saliency and enrichment"),
    ):
        middle = [mean(item) for item in values]
        width = np.nan_to_num([spread(item) for item in values])
        axes.errorbar(
            middle, place + offset, xerr=width, fmt="o", color=color, ms=5, lw=1, label=label
        )
    axes.axvline(0, color=INK, lw=0.8)
    axes.axvline(MOST_LIKE_UNTRAINED, color=BAD, lw=1, ls="--")
    axes.text(
        MOST_LIKE_UNTRAINED,
        len(told) - 0.4,
        "not ranked beyond ",
        color=BAD,
        fontsize=8,
        ha="right",
    )
    axes.set_xlim(-1, 1)
    axes.set_ylim(-0.6, len(told) - 0.1)
    axes.set_yticks(place, [_plain(item.rule) for item in told], fontsize=8)
    axes.set_xlabel("Rank correlation over layers (mean, SD over scans)")
    axes.legend(fontsize=8, frameon=False, loc="upper left")
    return _titled(picture, axes, "Likeness to networks that have learned nothing")
