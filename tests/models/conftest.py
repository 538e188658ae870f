"""Fixtures of the tests of site training: five studies of four subjects as NIfTI, a small configuration."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from models.phantom import Phantom, PhantomRequest, synthesize
from models.phantom.truth import to_image

CONFIG = """
seed = 3
cohort = 0
threads = 1
processes = 1
[segment]
volumes = 4
slices = 2
spacing_mm = [0.6, 0.9]
neighbors = 1
channels = [8, 16, 32]
steps = 40
batch = 4
crop = [64, 32]
wide = 0.0
convex = 0.0
learning_rate = 0.01
weight_decay = 0.0001
dice_share = 0.5
[pain]
volumes = 6
validation_volumes = 5
slices = 2
spacing_mm = [0.5, 0.8]
texture_maps = 2
penalties = [0.1]
texture_penalty = 10.0
[site]
start = "scratch"
validation_share = 0.3
steps = 40
learning_rate = 0.01
checkpoint_steps = 10
validation_steps = 10
patience = 9
pain_subjects = 30
"""
REQUEST = PhantomRequest((4, 80, 48), (0.8, 0.5, 0.7), shear_wave=True)
SUBJECTS = ("ann", "ann", "ben", "cleo", "dora")


@pytest.fixture(scope="session")
def people() -> list[Phantom]:
    return [synthesize(2000 + number, REQUEST) for number in range(len(SUBJECTS))]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "layer.toml"
    path.write_text(CONFIG, encoding="utf-8")
    return path


@pytest.fixture
def nifti(tmp_path: Path, people: Sequence[Phantom]) -> Path:
    """Five studies of four subjects; the last has no mask, the first no pain label."""
    folder = tmp_path / "data"
    folder.mkdir()
    lines = ["subject,study,pain,sex,age,bmi"]
    for number, (subject, person) in enumerate(zip(SUBJECTS, people, strict=True)):
        gray = person.scan.channel("b-mode").astype(np.uint8)
        sitk.WriteImage(to_image(gray, person.scan.affine), str(folder / f"s{number}.nii.gz"))
        if number < 4:
            image = to_image(person.labelmap, person.scan.affine)
            sitk.WriteImage(image, str(folder / f"s{number}_labels.nii.gz"))
        speed = to_image(person.scan.channel("shear-wave-speed"), person.scan.affine)
        sitk.WriteImage(speed, str(folder / f"s{number}_speed.nii.gz"))
        lines.append(
            f"{subject},s{number},{'' if number == 0 else number % 2},F,4{number},2{number}.5"
        )
    (folder / "subjects.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder
