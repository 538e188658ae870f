"""The knowledge: what is learned, measured and simulated. Knows nothing of DICOM."""
