"""From TOML and environment variables to one frozen object; what is not known or not allowed is an error."""

import difflib
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from dicom_node.errors import SettingsError
from dicom_node.settings.access import Access, Tls, check_access, with_identity
from dicom_node.settings.destinations import Destination
from dicom_node.settings.files import Files
from dicom_node.settings.keeping import Keep
from dicom_node.settings.observe import Audit, Web
from dicom_node.settings.parts import Analyze, Assemble, Node, Report
from dicom_node.settings.senders import Peer, Receive
from dicom_node.settings.sources import Source, check_color

ENVIRONMENT_PREFIX = "DICOM_NODE__"


@dataclass(frozen=True, slots=True)
class Settings:
    """The whole configuration of a node."""

    node: Node = field(default_factory=Node)
    receive: Receive = field(default_factory=Receive)
    tls: Tls = field(default_factory=Tls)
    access: Access = field(default_factory=Access)
    assemble: Assemble = field(default_factory=Assemble)
    analyze: Analyze = field(default_factory=Analyze)
    report: Report = field(default_factory=Report)
    web: Web = field(default_factory=Web)
    audit: Audit = field(default_factory=Audit)
    files: Files = field(default_factory=Files)
    keep: Keep = field(default_factory=Keep)
    destinations: tuple[Destination, ...] = ()
    sources: tuple[Source, ...] = ()
    peers: tuple[Peer, ...] = ()

    @property
    def folders(self) -> tuple[Path, ...]:
        """Where there must be room, their disks may differ: what is being received, kept files, SQLite."""
        kept = () if self.files.url else (self.node.files,)
        here = self.node.data_dir.absolute()
        return tuple(dict.fromkeys((here, *kept, *self.node.database_folders)))


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
        check_color(source, name, f"sources[{number}]")
    check_access(settings.tls, settings.access, name)
    return replace(
        settings,
        destinations=with_identity(settings.destinations, settings.tls),
        peers=with_identity(settings.peers, settings.tls),
    )


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
        elif isinstance(value, tuple) and any(map(is_dataclass, value)):
            for number, entry in enumerate(value):
                _check(entry, file, f"{key}[{number}]")
        elif (allowed := item.metadata.get("allowed")) and not allowed.test(value):
            raise SettingsError(f"{file}: {key} is {value!r}; allowed: {allowed.sentence}")


def _check_names(settings: Settings, file: str) -> None:
    if settings.files.url and settings.node.files_dir:
        raise SettingsError(f"{file}: files.url and node.files_dir are both set; leave one empty")
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
