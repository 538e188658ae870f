"""How to train: one frozen object from one TOML file; an unknown or missing key is an error."""

import hashlib
import json
import tomllib
from dataclasses import MISSING, dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, get_args, get_type_hints

SHIPPED = Path(__file__).with_name("layer.toml")
"""How the shipped weights were trained; in a checkout a link to ``config/layer.toml``."""


class TrainingError(Exception):
    """A training cannot be begun or continued, for a reason that the person who asked for it can mend."""


class ConfigError(TrainingError):
    """The training configuration cannot be used; says which key."""


@dataclass(frozen=True, slots=True)
class SegmentConfig:
    """[segment]: the data and the fit of the segmentation network."""

    volumes: int
    slices: int
    spacing_mm: tuple[float, ...]
    neighbors: int
    channels: tuple[int, ...]
    steps: int
    batch: int
    crop: tuple[int, ...]
    wide: float
    convex: float
    learning_rate: float
    weight_decay: float
    dice_share: float


@dataclass(frozen=True, slots=True)
class PainConfig:
    """[pain]: the data and the fit of both pain networks."""

    volumes: int
    validation_volumes: int
    slices: int
    spacing_mm: tuple[float, ...]
    texture_maps: int
    penalties: tuple[float, ...]
    texture_penalty: float


@dataclass(frozen=True, slots=True)
class SiteConfig:
    """[site]: fine-tuning on a site's own data; grid, batch and loss are those of [segment]."""

    start: str
    validation_share: float
    steps: int
    learning_rate: float
    checkpoint_steps: int
    validation_steps: int
    patience: int
    pain_subjects: int

    def __post_init__(self) -> None:
        if self.start not in ("shipped", "scratch"):
            raise ConfigError(f'site.start is {self.start!r}; allowed: "shipped", "scratch"')
        if not 0 < self.validation_share < 1:
            raise ConfigError(f"site.validation_share is {self.validation_share}; allowed: 0 to 1")
        counts = (self.steps, self.checkpoint_steps, self.validation_steps, self.patience)
        if min(counts) < 1:
            raise ConfigError(
                "site: steps, checkpoint_steps, validation_steps, patience: 1 or more"
            )


@dataclass(frozen=True, slots=True)
class Config:
    """The whole file; ``sha256`` is of all values but [site], which the shipped weights never saw."""

    seed: int
    cohort: int
    threads: int
    processes: int
    segment: SegmentConfig
    pain: PainConfig
    gate_people: int = 0
    sha256: str = ""
    site: SiteConfig | None = None

    @property
    def digest(self) -> str:
        """SHA-256 of all values, [site] among them; how many processes there are changes no result."""
        return hashlib.sha256(repr(replace(self, processes=1)).encode()).hexdigest()


def load(path: Path) -> Config:
    """Read a training configuration. Raises ConfigError naming file and key."""
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    shared = {key: value for key, value in table.items() if key != "site"}
    values = json.dumps(shared, sort_keys=True).encode()  # a comment changes nothing
    table["sha256"] = hashlib.sha256(values).hexdigest()
    config: Config = _build(Config, table, f"{path}: ")
    return config


def _build(kind: Any, table: dict[str, Any], where: str) -> Any:
    known = {item.name for item in fields(kind)}
    needed = {item.name for item in fields(kind) if item.default is MISSING}
    if wrong := sorted((set(table) - known) | (needed - set(table))):
        raise ConfigError(f"{where}unknown or missing: {', '.join(wrong)}")
    hints = get_type_hints(kind)
    return kind(
        **{key: _value(hints[key], value, f"{where}{key}: ") for key, value in table.items()}
    )


def _value(hint: Any, value: Any, where: str) -> Any:
    hint = next((part for part in get_args(hint) if is_dataclass(part)), hint)  # X | None
    if is_dataclass(hint):
        if not isinstance(value, dict):
            raise ConfigError(f"{where}must be a table")
        return _build(hint, value, where)
    if isinstance(value, list):
        return tuple(value)
    if hint is float and isinstance(value, int):
        return float(value)
    if hint in (int, float, str) and type(value) is not hint:
        raise ConfigError(f"{where}must be {hint.__name__}, got {value!r}")
    return value
