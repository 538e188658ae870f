"""Settings: the shipped file equals the defaults, and every mistake names its key."""

import re
from pathlib import Path

import pytest

from dicom_node.errors import SettingsError
from dicom_node.settings import Destination, OtherWeights, Settings, load

ROOT = Path(__file__).parents[1]


def test_the_shipped_file_holds_the_defaults() -> None:
    assert load(ROOT / "config" / "node.toml", {}) == Settings() == load(None, {})


def test_the_commented_examples_parse(tmp_path: Path) -> None:
    text = (ROOT / "config" / "node.toml").read_text(encoding="utf-8")
    lines = [re.sub(r"^# (\[\[|\w+ = )", r"\1", line) for line in text.splitlines()]
    file = tmp_path / "node.toml"
    file.write_text("\n".join(lines), encoding="utf-8")
    settings = load(file, {})
    assert settings.destinations[0].port == 4242
    assert settings.sources[0].match.ae_title == "US3"
    assert settings.sources[0].frame_spacing_mm == 0.5


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[recieve]\nport = 1", ["recieve", "did you mean 'receive'"]),
        ("[receive]\nprot = 1", ["receive.prot", "did you mean 'receive.port'"]),
        ("[receive]\nport = '104'", ["receive.port", "whole number", "'104'"]),
        ("[receive]\nport = true", ["receive.port", "whole number"]),
        ("[receive]\nport = 70000", ["receive.port", "70000", "0 to 65535"]),
        ("[receive]\nquiet_seconds = nan", ["receive.quiet_seconds", "0 to 3600"]),
        ("[node]\nae_title = 'SEVENTEEN LETTERS'", ["node.ae_title", "16"]),
        ("[node]\nanalyses = 'models.layer:analysis'", ["node.analyses", "list"]),
        ("[files]\nurl = 'http://bucket'", ["files.url", "s3://BUCKET"]),
        ("[files]\nendpoint = 'https://me:pass@host'", ["files.endpoint", "without a user"]),
        (
            "[files]\nurl = 's3://bucket'\n[node]\nfiles_dir = '/srv'",
            ["files.url", "node.files_dir"],
        ),
        ("[node]\nanalyses = [1]", ["node.analyses[0]", "text"]),
        ("[analyze]\ndevice = 'gpu'", ["analyze.device", "auto, cpu, cuda"]),
        (
            "[analyze]\nweights = [{ analysis = 'layer' }]",
            ["analyze.weights[0].folder", "a folder"],
        ),
        ("[analyze]\nweights = [{ folder = 'w' }]", ["analyze.weights[0].analysis", "not empty"]),
        (
            "[[analyze.weights]]\nanalysis = 'layer'\nfolder = 'w'\n" * 2,
            ["analyze.weights", "'layer' twice"],
        ),
        ("node = 3", ["node", "table"]),
        ("[[destinations]]\nname = 'a'\nhost = 'h'", ["destinations[0].ae_title"]),
        (
            "[[destinations]]\nname='a'\nhost='h'\nae_title='A'\n" * 2,
            ["two destinations", "'a'"],
        ),
        ("[[sources]]\npixel_spacing_mm = [0.1]", ["sources[0].pixel_spacing_mm", "two numbers"]),
        (
            "[[sources]]\norientation = [1, 0, 0, 1, 0, 0]",
            ["sources[0].orientation", "unit vectors"],
        ),
        (
            "[[sources]]\nmatch = { modle = 'x' }",
            ["sources[0].match.modle", "sources[0].match.model"],
        ),
        ("[[sources]]\ndual = 'left'", ["sources[0].dual", "left-right"]),
        ("[[sources]]\ncolor = { map = 'jet' }", ["sources[0]", "color.range, color.unit"]),
        (
            "[[sources]]\ncolor = { range = [0, 8], unit = 'm/s' }",
            ["sources[0]", "lacks color.map or color.bar"],
        ),
        (
            "[[sources]]\ncolor = { map = 'jet', range = [0, 60], unit = 'kPa' }",
            ["sources[0]", "lacks elasticity"],
        ),
        (
            "[[sources]]\ncolor = { map = 'jett', range = [0, 8], unit = 'm/s' }",
            ["sources[0].color.map", "'jett'", "CSV or PNG"],
        ),
        (
            "[[sources]]\ncolor = { bar = [9, 9, 9, 20], range = [0, 8], unit = 'm/s' }",
            ["sources[0].color.bar", "first column"],
        ),
        (
            "[[sources]]\ncolor = { map = 'jet', range = [8, 8], unit = 'm/s' }",
            ["sources[0].color.range", "different"],
        ),
        ("[node", ["not valid TOML"]),
    ],
)
def test_a_mistake_names_file_key_and_what_is_allowed(
    tmp_path: Path, text: str, words: list[str]
) -> None:
    file = tmp_path / "node.toml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(SettingsError) as caught:
        load(file, {})
    for word in ["node.toml", *words]:
        assert word in str(caught.value)


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"absent\.toml"):
        load(tmp_path / "absent.toml", {})


def test_the_environment_overrides_every_kind_of_value() -> None:
    settings = load(
        None,
        {
            "DICOM_NODE__RECEIVE__PORT": "104",
            "DICOM_NODE__RECEIVE__QUIET_SECONDS": "3",
            "DICOM_NODE__NODE__AE_TITLE": "LAYER",
            "DICOM_NODE__NODE__ANALYSES": '["models.layer:analysis"]',
            "DICOM_NODE__DESTINATIONS__0__NAME": "pacs",
            "DICOM_NODE__DESTINATIONS__0__AE_TITLE": "ORTHANC",
            "DICOM_NODE__DESTINATIONS__0__HOST": "127.0.0.1",
            "DICOM_NODE__DESTINATIONS__0__PORT": "4242",
            "DICOM_NODE__SOURCES__0__MATCH__STATION": "US3",
            "DICOM_NODE__ANALYZE__WEIGHTS__0__ANALYSIS": "layer",
            "DICOM_NODE__ANALYZE__WEIGHTS__0__FOLDER": "/srv/weights",
            "PATH": "/usr/bin",
        },
    )
    assert (settings.receive.port, settings.receive.quiet_seconds) == (104, 3.0)
    assert settings.node.ae_title == "LAYER"
    assert settings.destinations == (Destination("pacs", "ORTHANC", "127.0.0.1", 4242),)
    assert settings.sources[0].match.station == "US3"
    assert settings.analyze.weights == (OtherWeights("layer", Path("/srv/weights")),)


@pytest.mark.parametrize(
    "variable",
    ["DICOM_NODE__RECEIVE__PROT", "DICOM_NODE__SOURCES__1__FRAME_SPACING_MM", "DICOM_NODE__X"],
)
def test_a_mistaken_variable_is_an_error(variable: str) -> None:
    with pytest.raises(SettingsError):
        load(None, {variable: "1"})
