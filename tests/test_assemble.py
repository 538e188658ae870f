"""What the stand-in scanner wrote comes back as the same Scan."""

import copy
import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom import dcmread

from dicom_node.scanner import Style, write_study
from dicom_node.scanner.style import COLORS, ENCODINGS, FORMS
from dicom_node.settings import Match, Source
from dicom_node.study import Study
from models.scan import Geometry
from tests.assemble_studies import (
    LOSSY_GRAY_LEVELS,
    MEASURED,
    SHAPE,
    SPACING_MM,
    assemble,
    assemble_one,
    edit,
    make_scan,
)


def possible_styles():
    for form, encoding, color in itertools.product(FORMS, ENCODINGS, COLORS):
        try:
            yield Style(form, encoding, color)
        except ValueError:
            continue


@pytest.mark.parametrize(
    "style",
    list(possible_styles()),
    ids=lambda style: f"{style.form}-{style.encoding}-{style.color}",
)
def test_gray_levels_and_geometry_come_back_in_every_style(tmp_path, style):
    scan = make_scan()
    found = assemble_one(write_study(scan, tmp_path, style))
    difference = np.abs(found.channel("b-mode") - scan.channel("b-mode"))
    assert difference.max() <= LOSSY_GRAY_LEVELS.get(style.encoding, 0)
    assert found.units == ("1",)
    if style.form in MEASURED:
        np.testing.assert_allclose(found.affine, scan.affine, atol=1e-9)
        orientation = "unknown" if style.form == "enhanced-apex" else "measured"
        assert found.geometry == Geometry("measured", "measured", orientation)
        assert found.valid.all()
    else:
        assert found.spacing_mm == pytest.approx((1.0, *SPACING_MM[1:]))
        assert found.geometry == Geometry("measured", "assumed", "assumed")
        np.testing.assert_array_equal(found.valid, scan.valid)


ORIENTATIONS = [
    np.diag(signs) @ np.eye(3)[list(order)]
    for order in itertools.permutations(range(3))
    for signs in itertools.product((1.0, -1.0), repeat=3)
]


@given(
    turn=st.sampled_from(ORIENTATIONS),
    tilt=st.tuples(*[st.floats(-0.7, 0.7)] * 3),
    spacing=st.tuples(*[st.floats(0.05, 3)] * 3),
    origin=st.tuples(*[st.floats(-300, 300)] * 3),
    form=st.sampled_from(MEASURED),
    order=st.randoms(use_true_random=False),
)
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_every_voxel_keeps_its_place_in_the_patient(  # 48 orientations, each tilted
    tmp_path, turn, tilt, spacing, origin, form, order
):
    affine = np.eye(4)
    affine[:3, :3] = rotation(tilt) @ turn * spacing
    affine[:3, 3] = origin
    scan = make_scan(affine, shape=(3, 6, 8))
    paths = list(write_study(scan, tmp_path, Style(form)))
    order.shuffle(paths)
    (acquisition,) = assemble(paths).acquisitions
    found = acquisition.scan
    # Slices go along row x column; what was written against it comes back reversed, place and all.
    slice_, column, row = found.affine[:3, :3].T
    assert np.cross(row, column) @ slice_ > 0
    reverse = np.cross(affine[:3, 2], affine[:3, 1]) @ affine[:3, 0] < 0
    flip = np.eye(4)
    if reverse:
        flip[0, 0], flip[0, 3] = -1, scan.shape[0] - 1
    np.testing.assert_allclose(found.affine, affine @ flip, atol=1e-6)
    expected = scan.voxels[:, ::-1] if reverse else scan.voxels
    np.testing.assert_array_equal(found.voxels, expected)
    for image, frame in zip(found.channel("b-mode"), acquisition.sources[0].frames, strict=True):
        stored = dcmread(acquisition.sources[0].paths[frame.instance]).pixel_array
        np.testing.assert_array_equal(
            image, stored if frame.number is None else stored[frame.number - 1]
        )


def rotation(angles):
    matrix = np.eye(3)
    for axis, angle in enumerate(angles):
        one, two = (axis + 1) % 3, (axis + 2) % 3
        turn = np.eye(3)
        turn[one, one] = turn[two, two] = np.cos(angle)
        turn[one, two], turn[two, one] = -np.sin(angle), np.sin(angle)
        matrix = turn @ matrix
    return matrix


@pytest.mark.parametrize("unit", ["m/s", "cm/s"])
@pytest.mark.parametrize("form", FORMS)
def test_shear_wave_on_the_same_grid_becomes_channels_in_meters_per_second(tmp_path, form, unit):
    scan = make_scan(shear_wave=True)
    study = assemble(write_study(scan, tmp_path, Style(form, elasticity=unit)))
    (acquisition,) = study.acquisitions
    found = acquisition.scan
    assert found.channels == scan.channels
    assert found.units == scan.units
    np.testing.assert_array_equal(
        found.channel("shear-wave-valid"), scan.channel("shear-wave-valid")
    )
    step = 0.001 if form.startswith("enhanced") else 8 / 255
    difference = found.channel("shear-wave-speed") - scan.channel("shear-wave-speed")
    assert np.abs(difference).max() <= step / 2 + 1e-6
    assert len(acquisition.sources) == 2
    assert study.unused == ()


def test_pressure_becomes_speed_only_by_declaration(tmp_path):
    scan = make_scan(shear_wave=True)
    paths = write_study(scan, tmp_path, Style("enhanced", elasticity="kPa"))
    speed = scan.channel("shear-wave-speed")

    young = assemble_one(paths, [Source(elasticity="youngs-modulus")])
    np.testing.assert_allclose(young.channel("shear-wave-speed"), speed, atol=0.005)
    shear = assemble_one(paths, [Source(elasticity="shear-modulus")])
    np.testing.assert_allclose(
        shear.channel("shear-wave-speed"), speed * np.sqrt(3), atol=0.005, rtol=0.001
    )

    study = assemble(paths)
    (acquisition,) = study.acquisitions
    assert acquisition.scan.channels == ("b-mode",)
    assert "declare" in acquisition.scan.facts["shear_wave_left_out"]
    (unused,) = study.unused
    assert unused.sop_instance_uid == dcmread(paths[1]).SOPInstanceUID
    assert "kPa" in unused.reason


def no_mapping(dataset):
    del dataset.SharedFunctionalGroupsSequence[0].RealWorldValueMappingSequence


def one_pixel_aside(dataset):
    for group in dataset.PerFrameFunctionalGroupsSequence:
        place = group.PlanePositionSequence[0]
        place.ImagePositionPatient[0] = float(place.ImagePositionPatient[0]) + SPACING_MM[2]


@pytest.mark.parametrize(
    ("change", "reason"),
    [(no_mapping, "real world value"), (one_pixel_aside, "shares its grid with no")],
)
def test_an_elasticity_map_without_certain_meaning_or_place_is_left_out(tmp_path, change, reason):
    paths = write_study(make_scan(shear_wave=True), tmp_path, Style("enhanced"))
    edit(paths[1], change)
    study = assemble(paths)
    assert study.acquisitions[0].scan.channels == ("b-mode",)
    assert reason in study.unused[0].reason


def declared(**match):
    return Source(
        match=Match(**match),
        pixel_spacing_mm=(0.3, 0.4),
        frame_spacing_mm=0.7,
        orientation=(0.0, 1.0, 0.0, 0.0, 0.0, -1.0),
    )


@pytest.mark.parametrize(
    ("match", "fits"),
    [
        ({"ae_title": "US3"}, True),
        ({"manufacturer": "dicom-node", "model": "stand-in scanner", "station": "PHANTOM"}, True),
        ({}, True),
        ({"ae_title": "US4"}, False),
        ({"ae_title": "US3", "station": "OTHER"}, False),
    ],
)
def test_geometry_is_declared_by_match(tmp_path, match, fits):
    paths = write_study(make_scan(), tmp_path, Style("multiframe"))
    found = assemble_one(paths, [declared(**match)])
    if not fits:
        assert found.geometry == Geometry("measured", "assumed", "assumed")
        return
    # The regions measured the pixels, so the declared pixels do not count.
    assert found.geometry == Geometry("measured", "declared", "declared")
    assert found.spacing_mm == pytest.approx((0.7, *SPACING_MM[1:]))
    np.testing.assert_allclose(found.affine[:3, 2], [0, SPACING_MM[2], 0])
    np.testing.assert_allclose(found.affine[:3, 1], [0, 0, -SPACING_MM[1]])


def test_declared_pixels_count_where_the_object_has_none_and_nothing_is_unknown(tmp_path):
    paths = write_study(make_scan(), tmp_path, Style("multiframe"))
    edit(paths[0], lambda dataset: delattr(dataset, "SequenceOfUltrasoundRegions"))
    assert assemble_one(paths).geometry == Geometry("unknown", "assumed", "assumed")
    found = assemble_one(paths, [declared()])
    assert found.geometry == Geometry("declared", "declared", "declared")
    assert found.spacing_mm == pytest.approx((0.7, 0.3, 0.4))


def test_declared_orientation_turns_a_volume_that_has_only_its_own(tmp_path):
    paths = write_study(make_scan(), tmp_path, Style("enhanced-apex"))
    found = assemble_one(paths, [declared()])
    assert found.geometry == Geometry("measured", "measured", "declared")
    np.testing.assert_allclose(found.affine[:3, 2], [0, SPACING_MM[2], 0])


def test_the_tissue_region_is_chosen_among_others(tmp_path):
    def more_regions(dataset):
        (tissue,) = dataset.SequenceOfUltrasoundRegions
        tissue.PhysicalDeltaX = -tissue.PhysicalDeltaX
        tissue.RegionLocationMaxX1 = 4000
        ecg, doppler, pixels = (copy.deepcopy(tissue) for _ in range(3))
        for region, spatial, data, units in (
            (ecg, 5, 10, 4),
            (doppler, 3, 3, 4),
            (pixels, 1, 2, 3),
        ):
            region.RegionSpatialFormat, region.RegionDataType = spatial, data
            region.PhysicalUnitsXDirection = units
            region.PhysicalDeltaX, region.RegionLocationMinY0 = 7.0, 0
        dataset.SequenceOfUltrasoundRegions = [ecg, doppler, pixels, tissue]

    scan = make_scan()
    paths = write_study(scan, tmp_path, Style("multiframe"))
    edit(paths[0], more_regions)
    found = assemble_one(paths)
    assert found.spacing_mm == pytest.approx((1.0, *SPACING_MM[1:]))
    expected = scan.valid.copy()
    expected[:, 3:-2, -5:] = True  # clipped to the image
    np.testing.assert_array_equal(found.valid, expected)


def test_what_lies_beside_the_fan_is_not_tissue(tmp_path):
    """A convex probe: black corners at the top. Black below tissue is a shadow, a black first row gel."""

    def shown(name, black):
        scan = make_scan()
        gray = np.where(black, 0, np.maximum(scan.voxels, 40))
        scan = replace(scan, voxels=gray.astype(np.float32))
        (found,) = assemble(write_study(scan, tmp_path / name, Style("multiframe"))).acquisitions
        return found.scan.valid.all(axis=0)

    rows, columns = np.indices(SHAPE[1:])
    corners, region = columns < 12 - rows, make_scan().valid.all(axis=0)
    shadow = (rows > 15) & (columns > 20) & (columns < 25)
    np.testing.assert_array_equal(shown("fan", corners | shadow), region & ~corners)
    np.testing.assert_array_equal(shown("gel", rows < 6), region)


def test_contradictory_spacing_is_no_spacing(tmp_path):
    paths = write_study(make_scan(), tmp_path, Style("multiframe"))
    edit(paths[0], lambda dataset: setattr(dataset, "PixelSpacing", [0.5, 0.5]))
    found = assemble_one(paths)
    assert found.geometry.in_plane == "unknown"
    assert "contradict" in found.facts["geometry_notes"]


def test_a_color_overlay_is_not_tissue(tmp_path):
    def paint(dataset):
        pixels = dataset.pixel_array
        pixels[1, 10:20, 10:20] = (255, 0, 0)
        dataset.PixelData = pixels.tobytes()

    paths = write_study(make_scan(), tmp_path, Style("multiframe", color="RGB"))
    edit(paths[0], paint)
    found = assemble_one(paths)
    assert not found.valid[1, 10:20, 10:20].any()
    assert found.valid[0, 10:20, 10:20].all()
    assert found.facts["color"] == "overlay"


def test_monochrome1_is_inverted(tmp_path):
    scan = make_scan()
    paths = write_study(scan, tmp_path, Style("multiframe"))
    edit(paths[0], lambda dataset: setattr(dataset, "PhotometricInterpretation", "MONOCHROME1"))
    np.testing.assert_array_equal(
        assemble_one(paths).channel("b-mode"), 255 - scan.channel("b-mode")
    )


def test_facts_hold_no_identity(tmp_path):
    paths = write_study(make_scan(), tmp_path, Style("multiframe"))
    edit(paths[0], lambda dataset: setattr(dataset, "PatientName", "SECRET^NAME"))
    facts = assemble_one(paths).facts
    assert facts["decoder"].startswith("pydicom ")
    assert not any("SECRET" in value or "PHANTOM" in value for value in facts.values())


def test_a_study_survives_being_saved(tmp_path):
    study = assemble(write_study(make_scan(shear_wave=True), tmp_path / "in", Style("frames")))
    (tmp_path / "out").mkdir()
    study.save(tmp_path / "out")
    again = Study.load(tmp_path / "out")
    assert again.acquisitions[0].sources == study.acquisitions[0].sources
    assert len(again.acquisitions[0].sources[0].headers()) == SHAPE[0]
