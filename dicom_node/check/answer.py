"""What a look at one thing says."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Check:
    """One thing looked at: whether it is good, and one sentence on how it is or what to do."""

    what: str
    good: bool
    sentence: str
