"""What each destination gets: defaults, and mistakes that are named."""

from pathlib import Path

import pytest

from dicom_node.errors import SettingsError
from dicom_node.settings import load

BLOCK = "[[destinations]]\nname = 'a'\nae_title = 'A'\nhost = 'h'\n"


def test_the_defaults_are_what_most_archives_and_viewers_take(tmp_path: Path) -> None:
    file = tmp_path / "node.toml"
    file.write_text(BLOCK)
    (destination,) = load(file, {}).destinations
    assert destination.objects == ("SEG", "SR", "PM", "SC")
    assert (destination.sr, destination.seg) == ("comprehensive-3d", "binary")
    assert (destination.seg_frames, destination.encoding) == ("sparse", "explicit")
    assert not destination.companion


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("objects = ['SEG', 'PR']", "destinations[0].objects is ('SEG', 'PR'); allowed: some of"),
        ("objects = []", "destinations[0].objects"),
        ("objects = ['SR']", "SR only with SEG"),
        ("objects = 'SEG'", "destinations[0].objects must be a list"),
        ("sr = '88.33'", "allowed: comprehensive-3d, comprehensive"),
        ("seg = 'fractional'", "allowed: binary, labelmap"),
        ("seg_frames = 'all'", "allowed: sparse, dense"),
        ("encoding = 'jpeg'", "allowed: explicit, deflated, j2k"),
        ("companion = 1", "destinations[0].companion must be of type"),
        ("seg = 'labelmap'", "destination 'a' wants SR and label maps"),
    ],
)
def test_a_wrong_value_is_named(tmp_path: Path, line: str, words: str) -> None:
    file = tmp_path / "node.toml"
    file.write_text(BLOCK + line)
    with pytest.raises(SettingsError) as error:
        load(file, {})
    assert words in str(error.value)
