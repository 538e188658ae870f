"""Pixels of another color model than their header says are seen as what they are; honest ones stay."""

import io

import numpy as np
import pytest
from PIL import Image
from pydicom.encaps import encapsulate
from pydicom.pixels import convert_color_space
from pydicom.uid import JPEG2000Lossless, JPEGBaseline8Bit, RLELossless

from dicom_node.assemble.color_model import told
from dicom_node.errors import UnsupportedPixels
from models.layer import concepts
from models.layer.sizes.flags import source_flags
from tests.assemble_pictures import echo, in_color, jet, painted, region, speeds, write_frames
from tests.assemble_studies import assemble_one

GRAY = echo()[:3]


def doppler(frames):
    """A box of saturated red and blue speckle, as color flow paints it."""
    frames = frames.copy()
    noise = np.random.default_rng(1).normal(size=(30, 40))
    box = frames[:, 10:40, 20:60]
    box[:, noise > 0.5], box[:, noise < -0.5] = (255, 30, 0), (0, 60, 255)
    return frames


PICTURES = {
    "gray": in_color(GRAY),
    "dark": in_color((GRAY * 0.05).astype(np.uint8)),
    "bright": in_color((160 + GRAY // 3).astype(np.uint8)),
    "overlay": painted(GRAY, speeds(shape=GRAY.shape)),
    "half-transparent overlay": painted(GRAY, speeds(shape=GRAY.shape), opacity=0.5),
    "doppler": doppler(in_color(GRAY)),
    "small": in_color(GRAY[:, 20:36, 20:36]),
}


def to_ybr(frames):
    return np.stack([convert_color_space(frame, "RGB", "YBR_FULL") for frame in frames])


def as_planes(dataset, frames):
    dataset.PlanarConfiguration = 1
    dataset.PixelData = frames.transpose(0, 3, 1, 2).tobytes()


def as_jpeg(dataset, frames, jfif=False, adobe=None):
    """Planes coded as they are; Pillow writes JFIF, which is cut out of the stream again."""
    codes = []
    for frame in frames:
        buffer = io.BytesIO()
        picture = Image.frombytes("YCbCr", frame.shape[1::-1], frame.tobytes())
        picture.save(buffer, "JPEG", quality=92, subsampling="4:2:2")
        code = buffer.getvalue()
        length = int.from_bytes(code[4:6], "big")
        rest = code[2:] if jfif else code[4 + length :]
        marker = b"" if adobe is None else b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0" + bytes([adobe])
        codes.append(code[:2] + marker + rest)
    dataset.PixelData = encapsulate(codes)
    dataset["PixelData"].VR = "OB"
    dataset.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    dataset.LossyImageCompression = "01"


def compressed(syntax):
    return lambda dataset, frames: dataset.compress(syntax, generate_instance_uid=False)


ENCODINGS = {
    "raw": lambda dataset, frames: None,
    "planes": as_planes,
    "rle": compressed(RLELossless),
    "j2k": compressed(JPEG2000Lossless),
    "jpeg": as_jpeg,
}


def written(folder, frames, header, encoding="raw"):
    def change(dataset):
        ENCODINGS[encoding](dataset, frames)
        dataset.PhotometricInterpretation = header

    _, rows, columns, _ = frames.shape
    return write_frames(folder, frames, [region(0, 0, columns - 1, rows - 1)], change=change)


def seen(folder, frames, header, encoding="raw"):
    scan = assemble_one(written(folder, frames, header, encoding))
    return scan.channel("b-mode"), scan.facts.get("pixel_notes", ""), scan.valid


def every(encodings):
    """Each picture raw, and two of them in each encoding."""
    return [(name, "raw") for name in PICTURES] + [
        (name, encoding)
        for name in ("gray", "doppler")
        for encoding in encodings
        if encoding != "raw"
    ]


@pytest.mark.parametrize(("picture", "encoding"), every(ENCODINGS))
def test_ybr_pixels_under_an_rgb_header_are_seen_as_ybr(tmp_path, picture, encoding):
    frames = PICTURES[picture]
    honest, note, valid = seen(tmp_path / "honest", frames, "RGB")
    assert note == ""
    found, note, also = seen(tmp_path / "wrong", to_ybr(frames), "RGB", encoding)
    assert "declared as RGB, but are YBR" in note
    near = 16 if encoding == "jpeg" else 2
    assert np.quantile(np.abs(found - honest)[valid & also], 0.99) <= near
    assert (also == valid).mean() > 0.9


@pytest.mark.parametrize("header", ["YBR_FULL", "YBR_FULL_422"])
@pytest.mark.parametrize(("picture", "encoding"), every(("planes", "rle", "jpeg")))
def test_rgb_pixels_under_a_ybr_header_are_seen_as_rgb(tmp_path, picture, encoding, header):
    frames = PICTURES[picture]
    honest, _, valid = seen(tmp_path / "honest", frames, "RGB")
    found, note, also = seen(tmp_path / "wrong", frames, header, encoding)
    assert "but are RGB" in note
    near = 30 if encoding == "jpeg" else 0  # halved green and blue
    assert np.quantile(np.abs(found - honest)[valid & also], 0.99) <= near


@pytest.mark.parametrize(("picture", "encoding"), every(ENCODINGS))
def test_an_honest_header_is_believed(tmp_path, picture, encoding):
    frames = PICTURES[picture]
    honest, _, _ = seen(tmp_path / "honest", frames, "RGB")
    pairs = [("YBR_FULL", to_ybr(frames))]
    if encoding != "jpeg":  # whose planes are halved, as no RGB is
        pairs.append(("RGB", frames))
    for header, stored in pairs:
        if (header, encoding) == ("YBR_FULL", "j2k"):
            continue
        found, note, _ = seen(tmp_path / header, stored, header, encoding)
        assert note == ""
        assert np.quantile(np.abs(found - honest), 0.99) <= (16 if encoding == "jpeg" else 2)


def tinted(gray, *factors):
    return np.clip(in_color(gray) * np.array(factors), 0, 255).astype(np.uint8)


def on_teal(gray):
    frames = in_color(gray).copy()
    frames[:, :, :60] = 0, 128, 128
    return frames


@pytest.mark.parametrize(
    "frames",
    [
        tinted(GRAY, 0.4, 1, 0.5),
        tinted(GRAY, 0.3, 1, 1),
        tinted(GRAY // 2 + 90, 0.3, 1, 1),
        tinted(GRAY // 2 + 90, 0.4, 1, 0.5),
        np.clip(in_color(GRAY).astype(int) + np.array([0, 60, 10]), 0, 255).astype(np.uint8),
        on_teal(GRAY),
        np.random.default_rng(2).integers(0, 256, (3, 64, 80, 3)).astype(np.uint8),
    ],
    ids=["green", "teal", "bright teal", "bright green", "greenish", "on teal", "noise"],
)
def test_green_and_teal_rgb_is_not_taken_for_ybr(frames):
    assert all(told(frame) != "YBR" for frame in frames)
    for quality in (90, 50):
        for frame in frames:
            buffer = io.BytesIO()
            Image.fromarray(frame).save(buffer, "JPEG", quality=quality)
            assert told(np.asarray(Image.open(buffer))) != "YBR"


def test_a_frame_that_tells_nothing_is_what_its_neighbors_are(tmp_path):
    """A frame that is one map of colors has no gray to tell by."""
    frames = in_color(GRAY).copy()
    frames[0] = jet(np.linspace(0, 1, 64 * 80).reshape(64, 80))
    assert told(to_ybr(frames)[0]) is None
    honest, _, _ = seen(tmp_path / "honest", frames, "RGB")
    found, note, _ = seen(tmp_path / "wrong", to_ybr(frames), "RGB")
    assert "are YBR" in note
    assert np.abs(found - honest).max() <= 2


def test_frames_of_two_color_models_are_refused(tmp_path):
    frames = in_color(GRAY).copy()
    frames[1] = to_ybr(frames)[1]
    with pytest.raises(UnsupportedPixels, match="some frames are RGB and others YBR"):
        assemble_one(written(tmp_path, frames, "RGB"))


def test_a_jpeg_marker_is_believed_and_an_adobe_marker_does_not_convert_twice(tmp_path):
    frames = PICTURES["overlay"]
    honest, _, _ = seen(tmp_path / "honest", frames, "RGB")
    for number, (header, marks) in enumerate(
        [("RGB", {"jfif": True}), ("RGB", {"adobe": 1}), ("YBR_FULL_422", {"adobe": 1})]
    ):

        def change(dataset, header=header, marks=marks):
            as_jpeg(dataset, to_ybr(frames), **marks)
            dataset.PhotometricInterpretation = header

        scan = assemble_one(write_frames(tmp_path / str(number), frames, change=change))
        assert np.quantile(np.abs(scan.channel("b-mode") - honest), 0.99) <= 16


def test_halved_chroma_under_an_rgb_header_is_told_by_its_length(tmp_path):
    ybr = to_ybr(PICTURES["gray"]).reshape(-1, 2, 3)
    halved = np.concatenate((ybr[..., 0], ybr[:, 0, 1:]), axis=1).tobytes()

    def change(dataset):
        dataset.PixelData = halved

    scan = assemble_one(write_frames(tmp_path, PICTURES["gray"], change=change))
    assert np.abs(scan.channel("b-mode") - GRAY).max() <= 1


def test_the_reader_of_the_results_is_told(tmp_path):
    scan = assemble_one(written(tmp_path, to_ybr(PICTURES["gray"]), "RGB"))
    (flag,) = [flag for flag in source_flags(scan) if flag.code == concepts.PIXEL_NOTE]
    assert "declared as RGB, but are YBR" in flag.sentence
