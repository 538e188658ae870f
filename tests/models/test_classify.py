"""What a classifier is shown of a scan."""

from dataclasses import replace

import numpy as np
import torch

from models.layer import analysis, concepts
from models.phantom import PhantomRequest, synthesize
from models.steps.classify import build_case

CHANNELS = ("b-mode", "shear-wave-speed", "shear-wave-valid")
THICKNESS_MM = np.ones(6, np.float32)


def test_what_lies_outside_the_field_of_a_fan_changes_nothing():
    """Depth scales and names stand in the corners that a fan leaves: inside the box that is cut out."""
    request = PhantomRequest((2, 150, 140), (0.6, 0.25, 0.4), shear_wave=True, convex=True)
    phantom = synthesize(3, request)
    scan = phantom.scan
    assert not scan.valid.all()
    voxels = scan.voxels.copy()
    voxels[:, ~scan.valid] = 255
    written = replace(scan, voxels=voxels)
    plain, other = (
        build_case(item, phantom.labelmap, THICKNESS_MM, CHANNELS, (0.4, 0.6))
        for item in (scan, written)
    )
    inside = plain.labels > 0
    assert not inside.all()
    assert torch.equal(plain.labels, other.labels)
    for before, after in zip(plain.image[0], other.image[0], strict=True):
        assert torch.equal(before[inside[0]], after[inside[0]])


def test_the_probability_lies_inside_its_interval_over_the_ensemble():
    phantom = synthesize(3, PhantomRequest((4, 96, 80), (0.6, 0.3, 0.4), shear_wave=True))
    findings = analysis.run(phantom.scan)
    (decision,) = findings.classifications
    ends = [m for m in findings.measurements if m.quantity == concepts.PROBABILITY]
    lower, upper = (item.value for item in ends)
    assert [item.derivation for item in ends] == [concepts.LOWER, concepts.UPPER]
    assert 0 <= lower < 100 * decision.outcomes[0][1] < upper <= 100
