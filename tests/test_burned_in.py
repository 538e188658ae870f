"""A name in the pixels: results say NO only where nothing of it is shown."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont
from pydicom import dcmread

from dicom_node.assemble.writing import find_writing
from dicom_node.report import write_objects
from dicom_node.report.page import write_page
from dicom_node.settings import Destination
from dicom_node.study import Outcome
from models.phantom import PhantomRequest, synthesize
from tests.assemble_pictures import echo, in_color, region, write_frames
from tests.assemble_studies import assemble, assemble_one
from tests.plain_analysis import Plain

ROWS, COLUMNS, MARGIN = 96, 160, 24
WANTED = (Destination("pacs", objects=("SEG", "SR", "SC", "PDF"), companion=True),)
NAME = "SMITH JOHN 19500101"
TOP = (region(1, MARGIN, COLUMNS - 2, ROWS + MARGIN - 1),)
LEFT = (region(MARGIN, 1, COLUMNS + MARGIN - 1, ROWS - 2),)
BOTTOM = (region(1, 0, COLUMNS - 2, ROWS - 1),)
SCREEN = (region(0, 0, COLUMNS - 1, ROWS - 1),)


def letters(shape, place=(4, 3), size=12, upright=False):
    """Opacity 0-1 (row, column) of a name; turned by a quarter where it runs upright."""
    picture = Image.new("L", shape if upright else shape[::-1], 0)
    pen = ImageDraw.Draw(picture)
    pen.text(place, NAME, fill=255, font=ImageFont.load_default(size))
    ink = np.asarray(picture) / 255
    return np.rot90(ink) if upright else ink


def frames(top=0, left=0, bottom=0, count=12):
    """Speckle with black margins."""
    gray = echo(shape=(count, ROWS, COLUMNS))
    return np.pad(gray, ((0, 0), (top, bottom), (left, 0)))


def written(gray, ink, color=(255, 255, 255)):
    share = ink[..., None]
    return np.rint(share * np.array(color) + (1 - share) * in_color(gray)).astype(np.uint8)


def say(value):
    def edit(dataset):
        dataset.BurnedInAnnotation = value
        if value is None:
            del dataset.BurnedInAnnotation

    return edit


def banner(said, **more):
    """A name above the tissue region: what is known of it."""
    gray = frames(top=MARGIN)
    picture = written(gray, letters(gray.shape[1:]))
    return picture, TOP, say(said), more


def inside(**drawing):
    gray = frames(top=MARGIN, count=drawing.pop("count", 12))
    color = drawing.pop("color", (255, 255, 255))
    if drawing.pop("is_frozen", False):
        gray = np.repeat(gray[:1], len(gray), axis=0)
    ink = letters(gray.shape[1:], (4, 60), **drawing)
    return written(gray, ink, color), TOP


def known(folder, picture, regions, said, quality=None):
    paths = write_frames(folder, picture, regions, quality, say(said))
    return assemble_one(paths).facts["burned_in"]


@pytest.mark.parametrize("said", ["YES", "NO", None])
def test_a_name_outside_a_calibrated_region_is_not_shown(tmp_path, said):
    above, aside, below = frames(top=MARGIN), frames(left=MARGIN), frames(bottom=MARGIN)
    for number, (gray, regions, place) in enumerate(
        (
            (above, TOP, {}),
            (aside, LEFT, {"upright": True}),
            (below, BOTTOM, {"place": (4, ROWS + 5)}),
        )
    ):
        picture = written(gray, letters(gray.shape[1:], **place))
        assert known(tmp_path / str(number), picture, regions, said) == "no"


@pytest.mark.parametrize("said", ["YES", "NO", None])
@pytest.mark.parametrize(
    "drawn",
    [
        {},
        {"color": (150,) * 3},
        {"color": (100,) * 3},
        {"color": (255, 255, 0)},
        {"color": (0, 200, 255)},
        {"size": 10},
        {"count": 3},
        {"is_frozen": True, "size": 16},
    ],
    ids=str,
)
def test_a_name_inside_the_region_is_a_yes_whatever_the_scanner_says(tmp_path, drawn, said):
    assert known(tmp_path, *inside(**drawn), said) == "yes"


@pytest.mark.parametrize("rows", [4, 7, 10])
def test_a_region_that_cuts_the_name_shows_a_part_of_it(tmp_path, rows):
    gray = frames(top=MARGIN)
    picture = written(gray, letters(gray.shape[1:], (4, 3)))
    off = (region(1, rows, COLUMNS - 2, ROWS + MARGIN - 1),)
    assert known(tmp_path, picture, off, "NO") == "yes"


@pytest.mark.parametrize("regions", [(), SCREEN], ids=["no region", "whole screen"])
@pytest.mark.parametrize("place", [(4, 3), (4, ROWS - 18)], ids=["top", "bottom"])
def test_without_a_region_that_bounds_the_tissue_nothing_is_hidden(tmp_path, regions, place):
    picture = written(frames(), letters((ROWS, COLUMNS), place))
    assert known(tmp_path, picture, regions, "NO") == "yes"


@pytest.mark.parametrize(
    ("regions", "said", "found"),
    [
        ((), "YES", "yes"),
        ((), "NO", "no"),
        ((), None, "unknown"),
        ((), "PERHAPS", "unknown"),
        (SCREEN, None, "unknown"),
        # The text that the scanner speaks of is nowhere to be seen outside, so it is inside.
        (TOP, "YES", "yes"),
        (TOP, "NO", "no"),
        (TOP, None, "no"),
    ],
)
def test_where_no_letters_are_seen_the_scanner_is_believed(tmp_path, regions, said, found):
    gray = frames(top=MARGIN) if regions == TOP else frames()
    assert known(tmp_path, in_color(gray), regions, said) == found


def test_a_region_without_centimeters_is_not_trusted(tmp_path):
    picture, (box,), _, _ = banner(None)
    box = region(1, MARGIN, COLUMNS - 2, ROWS + MARGIN - 1)
    box.PhysicalUnitsXDirection = box.PhysicalUnitsYDirection = 0
    assert known(tmp_path, picture, (box,), None) == "unknown"


def test_lossy_letters_on_tissue_that_scrolls_are_found(tmp_path):
    gray = np.stack([np.roll(frames(top=0)[0], 3 * n, axis=1) for n in range(12)])
    gray = np.pad(gray, ((0, 0), (MARGIN, 0), (0, 0)))
    picture = written(gray, letters(gray.shape[1:], (4, 60)), (200,) * 3)
    assert known(tmp_path, picture, TOP, "NO", quality=85) == "yes"


@pytest.mark.parametrize(("said", "found"), [("YES", "yes"), ("NO", "no"), (None, "unknown")])
def test_in_a_frozen_film_a_region_proves_nothing(tmp_path, said, found):
    gray = np.repeat(frames(top=MARGIN)[:1], 12, axis=0)
    picture = written(gray, letters(gray.shape[1:]))
    assert known(tmp_path, picture, TOP, said) == found


def test_letters_on_one_frame_are_found(tmp_path):
    picture, regions = inside(size=16)
    plain = in_color(frames(top=MARGIN))
    plain[5] = picture[5]
    assert known(tmp_path, plain, regions, "NO") == "yes"


@pytest.mark.parametrize("convex", [False, True])
def test_tissue_is_no_writing(convex):
    wanted = PhantomRequest((10, 96, 96), (0.4, 0.3, 0.3), convex=convex, wide=convex)
    for seed in range(3):
        gray = np.rint(synthesize(3000 + seed, wanted).scan.channel("b-mode"))
        none = np.zeros(gray.shape, np.bool_)
        assert not find_writing(gray.astype(np.float32), none, False).letters.any()


def results(folder, picture, regions, said):
    """Each object's kind and data set, and the folder of the page."""

    def edit(dataset):
        say(said)(dataset)
        dataset.RecognizableVisualFeatures = "NO"

    study = assemble(write_frames(folder / "source", picture, regions, change=edit))
    outcomes = (Outcome(0, "plain", Plain().run(study.acquisitions[0].scan)),)
    objects = write_objects(study, outcomes, folder, WANTED)
    write_page(study, outcomes, folder)
    return [(item, dcmread(item.path)) for item in objects]


def pictures(made):
    return [pair for pair in made if pair[0].kind in ("page", "document", "companion")]


def test_pages_documents_and_companions_say_yes_and_a_caution_tells_it(tmp_path):
    shown = pictures(results(tmp_path, *inside(), "NO"))
    assert {item.kind for item, _ in shown} == {"page", "document", "companion"}
    for item, dataset in shown:
        assert dataset.BurnedInAnnotation == "YES"
        assert dataset.RecognizableVisualFeatures == "NO"
        assert "burned into the source images" in item.cautions[0]
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "burned into the source images" in html


def test_what_is_not_known_is_left_open_but_in_a_document_which_must_say(tmp_path):
    for item, dataset in pictures(results(tmp_path, in_color(frames()), (), None)):
        wanted = "YES" if item.kind == "document" else None
        assert dataset.get("BurnedInAnnotation") == wanted
        assert "do not say" in item.cautions[0]


def test_what_says_no_is_black_where_the_name_was(tmp_path):
    gray = frames(top=MARGIN)
    made = pictures(results(tmp_path, written(gray, letters(gray.shape[1:])), TOP, "YES"))
    for item, dataset in made:
        assert (dataset.BurnedInAnnotation, item.cautions) == ("NO", ())
        if item.kind == "companion":
            assert not dataset.pixel_array[:MARGIN].any()
    assert "burned into" not in (tmp_path / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("folder", "found"),
    [
        ("60a_name_in_pixels_region_is_all", "yes"),
        ("60b_name_in_pixels_no_region", "yes"),
        ("60d_name_above_region", "no"),
    ],
)
@pytest.mark.parametrize("said", ["YES", "NO", None])
def test_names_of_the_field(tmp_path, folder, found, said):
    shared = os.environ.get("DICOM_NODE_TEST_DATA")
    if not shared:
        pytest.skip("DICOM_NODE_TEST_DATA names no folder with the field's studies")
    path = Path(shared) / "field" / folder / "01.dcm"
    if not path.exists():
        pytest.skip(f"{path} is not there")
    dataset = dcmread(path)
    say(said)(dataset)
    dataset.save_as(tmp_path / "01.dcm")
    assert assemble_one([tmp_path / "01.dcm"]).facts["burned_in"] == found
