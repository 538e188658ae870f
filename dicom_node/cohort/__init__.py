"""cohort: the layer table over many analyzed scans, with persons as the unit (arXiv 2511.21767)."""
