"""The sentence: receive, assemble, analyze, report, deliver. Research use only, not a medical device."""

__version__ = "0.1.0"
