"""What a site declares of a scanner: [[sources]]."""

from dataclasses import dataclass, field
from pathlib import Path

from dicom_node.errors import SettingsError
from dicom_node.settings.allowed import (
    BAR,
    CHARACTER_SET,
    ENDS,
    ORIENTATION,
    SPACING,
    between,
    key,
    one_of,
)

COLOR_MAPS = ("jet",)


@dataclass(frozen=True, slots=True)
class Match:
    """[sources.match]: whom a declaration is for; every key that is given must be equal."""

    ae_title: str = key("", "calling AE title")
    manufacturer: str = key("", "Manufacturer (0008,0070)")
    model: str = key("", "ManufacturerModelName (0008,1090)")
    station: str = key("", "StationName (0008,1010)")
    series: str = key("", "SeriesDescription (0008,103E)")


@dataclass(frozen=True, slots=True)
class Expect:
    """[sources.expect]: how much one study of this scanner holds; it is complete when that is here."""

    instances: int = key(0, "0 = not said", between(0, 100000))
    series: int = key(0, "0 = not said", between(0, 1000))


@dataclass(frozen=True, slots=True)
class Color:
    """[sources.color]: what the colors of a shear-wave picture mean, where no object says their values."""

    map: str = key("", f"the colors, lowest first: a CSV or PNG file, or {', '.join(COLOR_MAPS)}")
    bar: tuple[int, ...] = key((), "where the image itself shows its color bar", BAR)
    range: tuple[float, ...] = key((), "value of the first color, of the last", ENDS)
    unit: str = key(
        "", "of the range; the one in which the bar is even", one_of("", "m/s", "cm/s", "kPa")
    )
    opacity: float = key(
        1.0, "share of color in a pixel laid over B-mode; 1 hides it", between(0.2, 1)
    )


@dataclass(frozen=True, slots=True)
class Source:
    """[[sources]]: geometry that the site declares where the scanner does not write it."""

    match: Match = field(default_factory=Match)
    pixel_spacing_mm: tuple[float, ...] = key((), "distance of rows, of columns", SPACING)
    frame_spacing_mm: float = key(
        0.0, "distance of neighboring frames of a sweep; 0 = not declared", between(0, 50)
    )
    orientation: tuple[float, ...] = key(
        (), "ImageOrientationPatient (0020,0037): direction of a row, of a column", ORIENTATION
    )
    elasticity: str = key(
        "",
        "what this scanner's kPa mean; never guessed",
        one_of("", "youngs-modulus", "shear-modulus"),
    )
    expect: Expect = field(default_factory=Expect)
    stat: bool = key(False, "its studies go before all others, as with a C-STORE of high priority")
    color: Color = field(default_factory=Color)
    character_set: str = key(
        "",
        "SpecificCharacterSet (0008,0005) of its text, where it declares none or a wrong one; several "
        "values with backslashes between them",
        CHARACTER_SET,
    )
    dual: str = key(
        "",
        "two pictures in one frame: where the B-mode is, then where the same with shear wave is",
        one_of("", "left-right", "right-left", "top-bottom", "bottom-top"),
    )


def check_color(source: Source, file: str, section: str) -> None:
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
