"""The rules: config/node.toml as frozen dataclasses; unknown keys, wrong types, bad values are errors."""

import difflib
import os
import tomllib
import types
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

from dicom_node.errors import SettingsError

ENVIRONMENT_PREFIX = "DICOM_NODE__"


def _key(default: Any, why: str, allowed: str = "") -> Any:
    """A setting: its default, why it is that, and what is allowed (a range or a list, for the error)."""
    metadata = {"why": why, "allowed": allowed}
    if isinstance(default, list):
        return field(default_factory=lambda: tuple(default), metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, slots=True)
class Node:
    """[node]: who this node is and where it keeps things."""

    ae_title: str = _key(
        "DICOM_NODE", "what scanners and archives enter as our AE title", "1 to 16 characters"
    )
    data_dir: Path = _key(
        Path("node-data"), "everything the node keeps; local disk, as SQLite needs one"
    )
    database: str = _key("", "SQLAlchemy URL; empty means SQLite in data_dir, for one machine")
    analyses: tuple[str, ...] = _key(
        ["models.layer:analysis"], "import path of each analysis, tried in order"
    )

    @property
    def database_url(self) -> str:
        return self.database or f"sqlite:///{self.data_dir.absolute() / 'node.db'}"


@dataclass(frozen=True, slots=True)
class Receive:
    """[receive]: the Storage SCP."""

    host: str = _key("127.0.0.1", "loopback only, until the site decides who may send")
    port: int = _key(11112, "the registered port of DICOM", "0 to 65535")
    quiet_seconds: float = _key(
        10.0,
        "a study is complete when its associations are released and this long nothing arrived",
        "0 to 3600",
    )


@dataclass(frozen=True, slots=True)
class Destination:
    """[[destinations]]: a Storage SCP that gets the results."""

    name: str = _key("", "how status pages and logs call it", "not empty, no other destination's")
    ae_title: str = _key("", "the archive's AE title", "1 to 16 characters")
    host: str = _key("", "the archive's address", "not empty")
    port: int = _key(104, "the archive's port", "1 to 65535")


@dataclass(frozen=True, slots=True)
class Match:
    """[sources.match]: which instances a declaration is for; every key that is given must be equal."""

    ae_title: str = _key("", "calling AE title")
    manufacturer: str = _key("", "Manufacturer (0008,0070)")
    model: str = _key("", "ManufacturerModelName (0008,1090)")
    station: str = _key("", "StationName (0008,1010)")


@dataclass(frozen=True, slots=True)
class Source:
    """[[sources]]: geometry that the site declares where the scanner does not write it."""

    match: Match = field(default_factory=Match)
    pixel_spacing_mm: tuple[float, ...] = _key(
        [], "distance of rows, distance of columns", "two numbers above 0"
    )
    frame_spacing_mm: float = _key(
        0.0, "distance of neighboring frames of a sweep; 0 = not declared", "0 to 50"
    )
    orientation: tuple[float, ...] = _key(
        [],
        "ImageOrientationPatient (0020,0037): direction of a row, then of a column",
        "six numbers, two unit vectors",
    )
    elasticity: str = _key("", "what kPa of this scanner mean", "youngs-modulus or shear-modulus")


@dataclass(frozen=True, slots=True)
class Analyze:
    """[analyze]: where the networks run."""

    device: str = _key("auto", "a GPU where there is one", "auto, cpu or cuda")
    threads: int = _key(0, "processor threads of one analysis; 0 = all", "0 to 256")


@dataclass(frozen=True, slots=True)
class Settings:
    """The whole configuration of a node."""

    node: Node = field(default_factory=Node)
    receive: Receive = field(default_factory=Receive)
    analyze: Analyze = field(default_factory=Analyze)
    destinations: tuple[Destination, ...] = ()
    sources: tuple[Source, ...] = ()


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
    _check(settings, name)
    return settings


def _override(data: dict[str, Any], variable: str, text: str) -> None:
    """Put one variable into the parsed TOML; numbers count list entries, as in DESTINATIONS__0__PORT."""
    *parents, last = variable.removeprefix(ENVIRONMENT_PREFIX).lower().split("__")
    where: Any = data
    for position, part in enumerate([*parents, last]):
        is_last = position == len(parents)
        if isinstance(where, list):
            if not part.isdigit() or int(part) > len(where):
                raise SettingsError(f"{variable}: {part!r} is no entry of a list of {len(where)}")
            if int(part) == len(where):
                where.append({})
            part = int(part)  # type: ignore[assignment]
        elif not isinstance(where, dict):
            raise SettingsError(f"{variable}: {part!r} is not a section")
        if is_last:
            where[part] = _value(text)
        else:
            default: Any = [] if part in ("destinations", "sources") else {}
            where = where[part] if isinstance(where, list) else where.setdefault(part, default)


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
    names = {
        str: "text",
        int: "whole number",
        float: "number",
        Path: "path (not empty)",
        bool: "true or false",
    }
    if isinstance(hint, types.UnionType) or get_origin(hint) is Union:
        return " or ".join(_words(item) for item in get_args(hint))
    return names.get(hint, str(hint))


def _join(section: str, key: str) -> str:
    return f"{section}.{key}" if section else key


def _check(settings: Settings, file: str) -> None:
    """Ranges and lists of allowed values; the sentence comes from the key's own ``allowed``."""
    rules = [
        ("node", settings.node, "ae_title", _is_ae_title),
        ("receive", settings.receive, "port", lambda port: 0 <= port <= 65535),
        ("receive", settings.receive, "quiet_seconds", lambda seconds: 0 <= seconds <= 3600),
        ("analyze", settings.analyze, "device", lambda device: device in ("auto", "cpu", "cuda")),
        ("analyze", settings.analyze, "threads", lambda threads: 0 <= threads <= 256),
    ]
    names = [destination.name for destination in settings.destinations]
    for number, destination in enumerate(settings.destinations):
        section = f"destinations[{number}]"
        rules += [
            (section, destination, "name", lambda name: bool(name) and names.count(name) == 1),
            (section, destination, "ae_title", _is_ae_title),
            (section, destination, "host", bool),
            (section, destination, "port", lambda port: 1 <= port <= 65535),
        ]
    for number, source in enumerate(settings.sources):
        section = f"sources[{number}]"
        rules += [
            (
                section,
                source,
                "pixel_spacing_mm",
                lambda mm: not mm or (len(mm) == 2 and min(mm) > 0),
            ),
            (section, source, "frame_spacing_mm", lambda mm: 0 <= mm <= 50),
            (section, source, "orientation", _is_orientation),
            (
                section,
                source,
                "elasticity",
                lambda word: word in ("", "youngs-modulus", "shear-modulus"),
            ),
        ]
    for section, part, key, allowed in rules:
        value = getattr(part, key)
        if not allowed(value):
            sentence = next(item for item in fields(part) if item.name == key).metadata["allowed"]
            raise SettingsError(f"{file}: {section}.{key} is {value!r}; allowed: {sentence}")


def _is_ae_title(title: str) -> bool:
    """AE value representation, PS3.5 section 6.2: 1 to 16 printable characters, no backslash."""
    return (
        len(title.strip()) > 0
        and len(title) <= 16
        and title.isascii()
        and title.isprintable()
        and "\\" not in title
    )


def _is_orientation(values: tuple[float, ...]) -> bool:
    if not values:
        return True
    if len(values) != 6:
        return False
    row, column = values[:3], values[3:]
    unit = all(abs(sum(v * v for v in vector) - 1) < 1e-3 for vector in (row, column))
    return unit and abs(sum(a * b for a, b in zip(row, column, strict=True))) < 1e-3


def describe(kind: Any) -> list[tuple[str, Any, str, str]]:
    """(key, default, why, allowed) of one section, for ``check`` and the documentation."""
    rows = []
    for item in fields(kind):
        default = item.default if item.default is not MISSING else item.default_factory()  # type: ignore[misc]
        rows.append(
            (item.name, default, item.metadata.get("why", ""), item.metadata.get("allowed", ""))
        )
    return rows
