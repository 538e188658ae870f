"""What a destination's answer to a C-STORE means: stored, not now, there already, or refused.

PS3.7 annex C names the statuses and their classes, PS3.4 table B.2-1 those of the Storage service.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

SUCCESS = 0x0000
DUPLICATE = 0x0111
"""Duplicate SOP Instance, PS3.7 annex C."""

NOT_SUPPORTED = 0x0122
"""SOP class not supported, PS3.7 annex C: here also of a presentation context that was not accepted."""

WARNINGS: Mapping[int, str] = MappingProxyType(
    {
        0x0001: "stored; requested optional attributes are not supported",
        0x0107: "stored; attribute list error",
        0x0116: "stored; attribute value out of range",
    }
)
"""Of the class Warning beside 0xBxxx, PS3.7 annex C: the operation was carried out."""

NOT_NOW: Mapping[int, str] = MappingProxyType(
    {
        0x0110: "processing failure",
        0x0124: "not authorized",
        0x0210: "duplicate invocation",
        0x0213: "resource limitation",
    }
)
"""Failures that pass, or that an administrator mends: the same object may be taken later.

0x0110 is a failure of the peer in processing, 0x0213 of its resources; 0x0210 means the number of a message,
which is another one on the next association; 0x0124 is a permission that somebody can give.
"""

OUT_OF_RESOURCES = "out of resources"
UNFINISHED = "no final answer"
"""Pending and Cancel say nothing of the object, and are no answers to a C-STORE."""


def not_now(status: int) -> str:
    """Why a status lets the object be sent again later, in words; "" where it does not."""
    if status >> 8 == 0xA7:
        return OUT_OF_RESOURCES
    if status >> 8 in (0xFE, 0xFF):
        return UNFINISHED
    return NOT_NOW.get(status, "")


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a destination answered for one instance.

    ``may_be_there``: an earlier send of it was not answered, or the destination will be asked to commit to
    it, so that "duplicate" is believed.
    """

    sop_instance_uid: str
    status: int
    may_be_there: bool = False

    @property
    def is_delivered(self) -> bool:
        """Success, or a warning: the object was stored; or it was there from before."""
        return self.status == SUCCESS or self.is_warning or self.is_repeated

    @property
    def is_warning(self) -> bool:
        """Stored, with a change or a doubt."""
        return self.status >> 12 == 0xB or self.status in WARNINGS

    @property
    def is_repeated(self) -> bool:
        """There already, as the answer to an earlier send was lost."""
        return self.status == DUPLICATE and self.may_be_there

    @property
    def is_deferred(self) -> bool:
        """Not taken now; to be sent again later."""
        return bool(not_now(self.status))

    @property
    def said(self) -> str:
        """What was answered, for people."""
        code = f"0x{self.status:04X}"
        if self.status == NOT_SUPPORTED:
            return "it takes no such objects"
        if self.status == DUPLICATE:
            return (
                f"answered {code}, it has an object of this UID that we have not sent; look at it there, "
                "remove it, then `jobs retry`"
            )
        return f"{not_now(self.status)} ({code})" if self.is_deferred else f"answered {code}"

    @property
    def sentence(self) -> str:
        """The same, with the instance."""
        what = f"instance {self.sop_instance_uid}"
        return f"{self.said} at {what}" if self.is_deferred else f"{what}: {self.said}"
