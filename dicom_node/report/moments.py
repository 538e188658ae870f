"""When an object was made: once for each generation, so that a replay gives the same bytes."""

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone

from pydicom import Dataset
from pydicom.sr.codedict import codes

ZONE = "TimezoneOffsetFromUTC"
DATES = ("InstanceCreationDate", "SeriesDate", "ContentDate", "DateOfSecondaryCapture")
"""Each has a time beside it. The study's and the acquisition's stay the source's."""

ALWAYS = ("InstanceCreationDate", "SeriesDate")


@dataclass(frozen=True, slots=True)
class Moments:
    """When objects are made, in seconds since 1970-01-01 UTC.

    now      of all that is new.
    earlier  by SOP Instance UID, of what an earlier generation made: the same object, the same bytes.
    """

    now: float = field(default_factory=time.time)
    earlier: Mapping[str, float] = field(default_factory=dict)

    def of(self, sop_instance_uid: str) -> float:
        return self.earlier.get(sop_instance_uid, self.now)


def moment_in_zone(seconds: float, offset: str = "") -> tuple[str, str]:
    """Date and time of day (DA and TM, PS3.5 6.2) in the zone of an offset such as +0330.

    Without an offset in the form of Timezone Offset From UTC (PS3.3 C.12.1.1.2): in the machine's zone.
    """
    moment = datetime.fromtimestamp(seconds, _zone(offset))
    return moment.strftime("%Y%m%d"), moment.strftime("%H%M%S.%f")


def _zone(offset: str) -> timezone | None:
    found = re.fullmatch(r"([+-])([01]\d)([0-5]\d)", offset.strip())
    if not found:
        return None
    sign, hours, minutes = found.groups()
    ahead = timedelta(hours=int(hours), minutes=int(minutes))
    return timezone(-ahead if sign == "-" else ahead)


def stamp(dataset: Dataset, header: Dataset, moments: Moments) -> None:
    """Set every time of making to the object's moment, in place, in the zone that the source declares."""
    offset = str(header.get(ZONE) or "")
    date, time_of_day = moment_in_zone(moments.of(str(dataset.SOPInstanceUID)), offset)
    if _zone(offset):
        setattr(dataset, ZONE, offset)
    for keyword in DATES:
        if keyword in dataset or keyword in ALWAYS:
            setattr(dataset, keyword, date)
            setattr(dataset, _time_beside(keyword), time_of_day)
    for item in _own_contributions(dataset):
        item.ContributionDateTime = date + time_of_day


def copy_moment(source: Dataset, target: Dataset) -> None:
    """Give an object the times of one that it stands for."""
    for keyword in (word for date in DATES for word in (date, _time_beside(date))):
        target.pop(keyword, None)
        if keyword in source:
            setattr(target, keyword, source[keyword].value)
    made = zip(_own_contributions(source), _own_contributions(target), strict=False)
    for old, new in made:
        new.ContributionDateTime = old.ContributionDateTime


def _time_beside(keyword: str) -> str:
    return keyword.replace("Date", "Time")


def _own_contributions(dataset: Dataset) -> list[Dataset]:
    """The items of Contributing Equipment that say what made this object, not what scanned."""
    purpose = codes.DCM.ProcessingEquipment.value
    return [
        item
        for item in dataset.get("ContributingEquipmentSequence", [])
        if item.PurposeOfReferenceCodeSequence[0].CodeValue == purpose
    ]
