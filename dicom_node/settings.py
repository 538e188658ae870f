"""The rules: config/node.toml as frozen dataclasses; unknown keys, wrong types, bad values are errors."""

import difflib
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from dicom_node.allowed import (
    AE_TITLE,
    BAR,
    ENDS,
    FOLDER,
    NOT_EMPTY,
    OBJECTS,
    ORIENTATION,
    SPACING,
    UIDS,
)
from dicom_node.allowed import between as _between
from dicom_node.allowed import key as _key
from dicom_node.allowed import one_of as _one_of
from dicom_node.errors import SettingsError

ENVIRONMENT_PREFIX = "DICOM_NODE__"
COLOR_MAPS = ("jet",)


@dataclass(frozen=True, slots=True)
class Node:
    """[node]: who this node is and where it keeps things."""

    ae_title: str = _key("DICOM_NODE", "what scanners and archives enter as our AE title", AE_TITLE)
    data_dir: Path = _key(Path("node-data"), "all that the node keeps; SQLite needs a local disk")
    database: str = _key("", "SQLAlchemy URL; empty means SQLite in data_dir, for one machine")
    analyses: tuple[str, ...] = _key(
        ("models.layer:analysis",), "import path of each analysis; each runs on what it accepts"
    )

    @property
    def database_url(self) -> str:
        return self.database or f"sqlite:///{self.data_dir.absolute() / 'node.db'}"


@dataclass(frozen=True, slots=True)
class Receive:
    """[receive]: the Storage SCP, and STOW-RS."""

    host: str = _key("127.0.0.1", "loopback only, until the site decides who may send", NOT_EMPTY)
    port: int = _key(11112, "the registered port of DICOM; 0 = any free one", _between(0, 65535))
    quiet_seconds: float = _key(
        10.0,
        "the last resort: nothing carries a study and nothing came for so long",
        _between(0, 3600),
    )
    release_seconds: float = _key(
        3.0,
        "a scanner that opens one association per image opens the next sooner after a release",
        _between(0, 3600),
    )
    private_sop_classes: tuple[str, ...] = _key(
        (), "a manufacturer's own objects: kept, though nothing here reads them", UIDS
    )
    web_port: int = _key(0, "STOW-RS (DICOMweb) on the same host; 0 = off", _between(0, 65535))


LARGEST_MIB = 4096
"""32 sweeps of 128 frames of 512 x 512 as float32; fits into a machine of 8 GB with all else that runs."""


@dataclass(frozen=True, slots=True)
class Assemble:
    """[assemble]: how much of a study is decoded."""

    largest_mib: int = _key(
        LARGEST_MIB,
        "memory for all scans of one study; what claims to be larger is refused undecoded",
        _between(1, 1 << 20),
    )


@dataclass(frozen=True, slots=True)
class Report:
    """[report]: what is said of a study that cannot be analyzed."""

    refusals: bool = _key(
        True, "answer it with a report that says why; false where whole archives are pushed here"
    )


@dataclass(frozen=True, slots=True)
class Destination:
    """[[destinations]]: a Storage SCP that gets the results."""

    name: str = _key("", "how jobs and logs call it; no two alike", NOT_EMPTY)
    ae_title: str = _key("", "the archive's AE title", AE_TITLE)
    host: str = _key("", "the archive's address", NOT_EMPTY)
    port: int = _key(104, "the archive's port; 104 is what most archives use", _between(1, 65535))
    refusals: bool = _key(True, "also reports that say why a study was not analyzed")
    objects: tuple[str, ...] = _key(
        ("SEG", "SR", "PM", "SC"),
        "what it gets; a map (PM) only of measured geometry; a PDF repeats the SC pages",
        OBJECTS,
    )
    sr: str = _key(
        "comprehensive-3d",
        "class of the reports; some viewers read Comprehensive SR alone",
        _one_of("comprehensive-3d", "comprehensive"),
    )
    seg: str = _key(
        "binary", "more viewers read it than the quicker label map", _one_of("binary", "labelmap")
    )
    seg_frames: str = _key(
        "sparse",
        "dense also writes empty frames, for viewers that count frames",
        _one_of("sparse", "dense"),
    )
    encoding: str = _key(
        "explicit",
        "every archive reads it; deflated: all objects; j2k: lossless JPEG 2000 of SEG and SC",
        _one_of("explicit", "deflated", "j2k"),
    )
    companion: bool = _key(
        False, "also single images of square pixels, to which all else refers; for simple viewers"
    )


@dataclass(frozen=True, slots=True)
class Match:
    """[sources.match]: whom a declaration is for; every key that is given must be equal."""

    ae_title: str = _key("", "calling AE title")
    manufacturer: str = _key("", "Manufacturer (0008,0070)")
    model: str = _key("", "ManufacturerModelName (0008,1090)")
    station: str = _key("", "StationName (0008,1010)")
    series: str = _key("", "SeriesDescription (0008,103E)")


@dataclass(frozen=True, slots=True)
class Expect:
    """[sources.expect]: how much one study of this scanner holds; it is complete when that is here."""

    instances: int = _key(0, "0 = not said", _between(0, 100000))
    series: int = _key(0, "0 = not said", _between(0, 1000))


@dataclass(frozen=True, slots=True)
class Peer:
    """[[peers]]: a scanner to which answers are brought, where it does not wait for them."""

    ae_title: str = _key("", "its AE title, as it calls us", AE_TITLE)
    host: str = _key("", "its address", NOT_EMPTY)
    port: int = _key(104, "where it listens", _between(1, 65535))


@dataclass(frozen=True, slots=True)
class Color:
    """[sources.color]: what the colors of a shear-wave picture mean, where no object says their values."""

    map: str = _key("", f"the colors, lowest first: a CSV or PNG file, or {', '.join(COLOR_MAPS)}")
    bar: tuple[int, ...] = _key((), "where the image itself shows its color bar", BAR)
    range: tuple[float, ...] = _key((), "value of the first color, of the last", ENDS)
    unit: str = _key(
        "", "of the range; the one in which the bar is even", _one_of("", "m/s", "cm/s", "kPa")
    )
    opacity: float = _key(
        1.0, "share of color in a pixel laid over B-mode; 1 hides it", _between(0.2, 1)
    )


@dataclass(frozen=True, slots=True)
class Source:
    """[[sources]]: geometry that the site declares where the scanner does not write it."""

    match: Match = field(default_factory=Match)
    pixel_spacing_mm: tuple[float, ...] = _key((), "distance of rows, of columns", SPACING)
    frame_spacing_mm: float = _key(
        0.0, "distance of neighboring frames of a sweep; 0 = not declared", _between(0, 50)
    )
    orientation: tuple[float, ...] = _key(
        (), "ImageOrientationPatient (0020,0037): direction of a row, of a column", ORIENTATION
    )
    elasticity: str = _key(
        "",
        "what this scanner's kPa mean; never guessed",
        _one_of("", "youngs-modulus", "shear-modulus"),
    )
    expect: Expect = field(default_factory=Expect)
    color: Color = field(default_factory=Color)
    dual: str = _key(
        "",
        "two pictures in one frame: where the B-mode is, then where the same with shear wave is",
        _one_of("", "left-right", "right-left", "top-bottom", "bottom-top"),
    )


@dataclass(frozen=True, slots=True)
class OtherWeights:
    """[[analyze.weights]]: a folder with weights and card that an analysis takes in place of its own."""

    analysis: str = _key("", "name of a configured analysis, e.g. layer", NOT_EMPTY)
    folder: Path = _key(Path(), "as `train` writes it; not empty", FOLDER)


@dataclass(frozen=True, slots=True)
class Analyze:
    """[analyze]: where the networks run, and with which weights."""

    device: str = _key("auto", "a GPU where there is one", _one_of("auto", "cpu", "cuda"))
    threads: int = _key(0, "processor threads of one analysis; 0 = all", _between(0, 256))
    weights: tuple[OtherWeights, ...] = _key(
        (), "weights of the site's own training; else the shipped"
    )


@dataclass(frozen=True, slots=True)
class Settings:
    """The whole configuration of a node."""

    node: Node = field(default_factory=Node)
    receive: Receive = field(default_factory=Receive)
    assemble: Assemble = field(default_factory=Assemble)
    analyze: Analyze = field(default_factory=Analyze)
    report: Report = field(default_factory=Report)
    destinations: tuple[Destination, ...] = ()
    sources: tuple[Source, ...] = ()
    peers: tuple[Peer, ...] = ()


def load(path: Path | None, environment: Mapping[str, str] = os.environ) -> Settings:
    """Read a TOML file (None = defaults), then the ``DICOM_NODE__SECTION__KEY`` variables.

    Raises SettingsError naming file, key and the allowed values.
    """
    name = str(path) if path else "(defaults)"
    data: dict[str, Any] = {}
    if path:
        try:
            data = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(f"{name}: cannot be read: {error}") from error
        except tomllib.TOMLDecodeError as error:
            raise SettingsError(f"{name}: not valid TOML: {error}") from error
    for variable in sorted(environment):
        if variable.startswith(ENVIRONMENT_PREFIX):
            _override(data, variable, environment[variable])
    settings = _build(Settings, data, name, "")
    _check(settings, name, "")
    _check_names(settings, name)
    for number, source in enumerate(settings.sources):
        _check_color(source, name, f"sources[{number}]")
    return settings


def _override(data: dict[str, Any], variable: str, text: str) -> None:
    """Put one variable into the parsed TOML; numbers count list entries: DESTINATIONS__0__PORT."""
    *parents, last = variable.removeprefix(ENVIRONMENT_PREFIX).lower().split("__")
    where = data
    while parents:
        part = parents.pop(0)
        if parents and parents[0].isdigit():
            entries, number = where.setdefault(part, []), int(parents.pop(0))
            if number > len(entries):
                raise SettingsError(f"{variable}: {part} has only {len(entries)} entries")
            if number == len(entries):
                entries.append({})
            where = entries[number]
        else:
            where = where.setdefault(part, {})
        if not isinstance(where, dict):
            raise SettingsError(f"{variable}: {part!r} is not a section")
    where[last] = _value(text)


def _value(text: str) -> Any:
    """The text as a TOML value where it is one, else as a string."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _build(kind: Any, data: Any, file: str, section: str) -> Any:
    """One dataclass from one TOML table."""
    if not isinstance(data, dict):
        raise SettingsError(f"{file}: {section} must be a table")
    known = {item.name: item for item in fields(kind)}
    hints = get_type_hints(kind)
    for key in data:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1, cutoff=0.0)[0]
            raise SettingsError(
                f"{file}: unknown key {_join(section, key)!r}; did you mean {_join(section, near)!r}?"
            )
    return kind(
        **{
            key: _convert(hints[key], value, file, _join(section, key))
            for key, value in data.items()
        }
    )


def _convert(hint: Any, value: Any, file: str, key: str) -> Any:
    if is_dataclass(hint):
        return _build(hint, value, file, key)
    if get_origin(hint) is tuple:
        if not isinstance(value, list | tuple):
            raise SettingsError(f"{file}: {key} must be a list, got {value!r}")
        return tuple(
            _convert(get_args(hint)[0], item, file, f"{key}[{n}]") for n, item in enumerate(value)
        )
    if hint is Path and isinstance(value, str) and value:
        return Path(value)
    if hint is float and type(value) is int:
        return float(value)
    if type(value) is not hint:
        raise SettingsError(f"{file}: {key} must be of type {_words(hint)}, got {value!r}")
    return value


def _words(hint: Any) -> str:
    return {str: "text", int: "whole number", float: "number", Path: "path"}.get(hint, str(hint))


def _join(section: str, key: str) -> str:
    return f"{section}.{key}" if section else key


def _check(part: Any, file: str, section: str) -> None:
    """Hold every value against what its key allows, sections and lists included."""
    for item in fields(part):
        value, key = getattr(part, item.name), _join(section, item.name)
        if is_dataclass(value):
            _check(value, file, key)
        elif item.name in ("destinations", "sources", "peers", "weights"):
            for number, entry in enumerate(value):
                _check(entry, file, f"{key}[{number}]")
        elif (allowed := item.metadata.get("allowed")) and not allowed.test(value):
            raise SettingsError(f"{file}: {key} is {value!r}; allowed: {allowed.sentence}")


def _check_names(settings: Settings, file: str) -> None:
    names = [destination.name for destination in settings.destinations]
    for name in names:
        if names.count(name) > 1:
            raise SettingsError(f"{file}: two destinations are called {name!r}; names must differ")
    for destination in settings.destinations:
        if destination.seg == "labelmap" and "SR" in destination.objects:
            raise SettingsError(
                f"{file}: destination {destination.name!r} wants SR and label maps, but no reader takes a "
                'report on label maps yet; leave SR out of objects or set seg = "binary"'
            )
    analyses = [other.analysis for other in settings.analyze.weights]
    for name in analyses:
        if analyses.count(name) > 1:
            raise SettingsError(
                f"{file}: analyze.weights names {name!r} twice; one folder for each"
            )


def _check_color(source: Source, file: str, section: str) -> None:
    """A color means something only with a map, a range, a unit, and for kPa the kind of modulus."""
    color = source.color
    if color == Color():
        return
    missing = [
        key
        for key, given in (
            ("color.map or color.bar", color.map or color.bar),
            ("color.range", color.range),
            ("color.unit", color.unit),
            ("elasticity", source.elasticity or color.unit != "kPa"),
        )
        if not given
    ]
    if missing:
        raise SettingsError(f"{file}: {section} declares colors and lacks {', '.join(missing)}")
    path = Path(color.map)
    is_file = path.suffix.lower() in (".csv", ".png") and path.is_file()
    if color.map and color.map not in COLOR_MAPS and not is_file:
        known = ", ".join(COLOR_MAPS)
        raise SettingsError(
            f"{file}: {section}.color.map is {color.map!r}; allowed: {known}, or a CSV or PNG file"
        )
