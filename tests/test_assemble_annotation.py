"""What is written into the picture is no tissue, and no tissue is taken for writing."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageFont

from dicom_node.assemble.annotation import find_marks
from models.phantom import PhantomRequest, synthesize
from tests.assemble_pictures import echo, in_color, region, write_frames
from tests.assemble_studies import assemble_one

SHAPE = (64, 80)
WHOLE = (region(0, 0, 79, 63),)


def writing(level=255):
    """A caliper, a focus marker and a frame with sharp edges: gray levels (row, column), 0 where none is."""
    picture = Image.new("L", SHAPE[::-1], 0)
    pen = ImageDraw.Draw(picture)
    pen.line((20, 40, 28, 40), fill=level)
    pen.line((24, 36, 24, 44), fill=level)
    pen.polygon([(3, 20), (3, 26), (7, 23)], fill=level)
    pen.rectangle((40, 12, 70, 30), outline=level)
    return np.asarray(picture)


def lettering():
    """Smooth letters, as scanners draw them."""
    picture = Image.new("L", SHAPE[::-1], 0)
    ImageDraw.Draw(picture).text((8, 8), "L4 3.2mm", fill=255, font=ImageFont.load_default(14))
    return np.asarray(picture)


def written(gray, ink, opacity=None):
    """Ink over each frame; its gray level is its opacity where none is given."""
    share = ink / 255 if opacity is None else np.where(ink > 0, opacity, 0)
    level = 255 if opacity is None else ink
    return np.rint(share * level + (1 - share) * gray).astype(np.uint8)


def grown(mask):
    padded = np.pad(mask, 1)
    rows, columns = mask.shape
    return np.any(
        [padded[r : r + rows, c : c + columns] for r in range(3) for c in range(3)], axis=0
    )


@pytest.mark.parametrize("level", [255, 180])
def test_still_writing_and_a_pixel_around_it_are_not_tissue(tmp_path, level):
    ink = writing(level)
    frames = in_color(written(np.rint(echo() * ((level - 60) / 220)), ink, opacity=1))
    found = assemble_one(write_frames(tmp_path, frames, WHOLE))
    np.testing.assert_array_equal(~found.valid, np.broadcast_to(grown(ink > 0), found.shape))
    assert found.facts["annotation"] == f"{np.count_nonzero(grown(ink > 0))} pixels left out"


def test_smooth_letters_are_found_for_the_most_part(tmp_path):
    ink = lettering()
    found = assemble_one(write_frames(tmp_path, in_color(written(echo(), ink)), WHOLE))
    hidden = ~found.valid[0]
    assert hidden[ink > 128].mean() > 0.6
    assert not hidden[~grown(grown(ink > 0))].any()


def test_colored_writing_in_gray_tissue_is_no_tissue_in_any_frame(tmp_path):
    """It needs neither time nor stillness: a caliper on one frame alone is found."""
    ink = writing() > 0
    frames = in_color(echo())[:3]
    frames[1][ink] = (255, 255, 0)
    found = assemble_one(write_frames(tmp_path, frames, WHOLE))
    np.testing.assert_array_equal(~found.valid[1], grown(ink))
    assert found.valid[[0, 2]].all()


def test_writing_as_bright_as_the_tissue_around_it_cannot_be_told(tmp_path):
    """Tissue saturates at a gray level of the scanner's choice, so standing still alone proves nothing."""
    frames = in_color(written(echo(), writing(150), opacity=1))
    found = assemble_one(write_frames(tmp_path, frames, WHOLE))
    assert found.valid[:, 12:31, 40:71].all()


@pytest.mark.parametrize("frames", [2, 7])
def test_what_cannot_be_told_is_said(tmp_path, frames):
    """White writing on few frames, or on a frozen film, may be tissue."""
    gray = written(echo(), writing(), opacity=1)[:frames]
    found = assemble_one(write_frames(tmp_path, in_color(gray), WHOLE))
    assert found.valid.all()
    assert found.facts["annotation"] == "not searched in fewer than 8 frames"
    still = np.repeat(gray[:1], 12, axis=0)
    found = assemble_one(write_frames(tmp_path, in_color(still), WHOLE))
    assert found.valid.all()
    assert "annotation" not in found.facts


def test_writing_beside_the_fan_does_not_make_it_tissue(tmp_path):
    gray = echo()
    rows, columns = np.indices(SHAPE)
    corner = columns < 34 - rows
    gray[:, corner] = 0
    gray[:, 4:9, 4:6] = 255
    found = assemble_one(write_frames(tmp_path, in_color(gray), WHOLE))
    np.testing.assert_array_equal(~found.valid, np.broadcast_to(corner, found.shape))


def phantom(seed, **request):
    scan = synthesize(seed, PhantomRequest((10, 96, 96), (0.4, 0.3, 0.3), **request)).scan
    return scan.channel("b-mode"), scan.valid.any(axis=0)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("request_", [{}, {"wide": True}, {"convex": True, "wide": True}])
def test_no_speckle_is_taken_for_writing_whatever_the_gain(seed, request_):
    gray, inside = phantom(3000 + seed, **request_)
    for gain, offset in ((1, 0), (1.6, 30), (3, 0), (8, 0)):
        shown = np.clip(np.rint(gain * gray + offset), 0, 255).astype(np.float32)
        for is_lossy in (False, True):
            marks = find_marks(shown, inside, is_lossy)
            assert marks.searched
            assert not marks.on_tissue.any()


@given(
    seed=st.integers(0, 2**32 - 1),
    thickness=st.integers(1, 6),
    level=st.sampled_from([200, 255, 300]),
    moves=st.floats(0.3, 3),
)
@settings(max_examples=40, deadline=None)
def test_a_bright_membrane_is_tissue(seed, thickness, level, moves):
    """A line that stays saturated in its core over all frames has blurred edges, or edges that move."""
    rng = np.random.default_rng(seed)
    gray = echo(seed, (12, *SHAPE)).astype(np.float32)
    rows = np.arange(SHAPE[0])[:, None]
    for number in range(len(gray)):
        middle = 32 + moves * np.sin(number + np.linspace(0, 3, SHAPE[1]))
        profile = np.exp(-(((rows - middle) / (thickness / 2 + 1)) ** 2))
        line = level * profile * rng.normal(1, 0.05, SHAPE[1])
        gray[number] = np.maximum(gray[number], line)
    shown = np.clip(np.rint(gray), 0, 255)
    for is_lossy in (False, True):
        assert not find_marks(shown, np.ones(SHAPE, np.bool_), is_lossy).on_tissue.any()


def test_the_phantom_with_writing_loses_the_writing_alone(tmp_path):
    gray, _ = phantom(3100)
    frames = np.clip(gray[:, :64, :80], 0, 230).astype(np.uint8)
    ink = writing()
    plain = assemble_one(write_frames(tmp_path / "a", in_color(frames), WHOLE))
    marked = assemble_one(
        write_frames(tmp_path / "b", in_color(written(frames, ink, opacity=1)), WHOLE)
    )
    lost = plain.valid[0] & ~marked.valid[0]
    assert lost[ink > 0].mean() > 0.8
    assert not lost[~grown(ink > 0)].any()
