"""Standard codes, each as DICOM's tables print it; the private scheme 99LAYER where there is none.

CID numbers: PS3.16. Every DCM, SCT, LN and UCUM triple below is one that a DICOM dictionary knows.
"""

from models.findings import Code

PRIVATE_SCHEME = "99LAYER"

# Categories and places: CID 7150, CID 4
TISSUE = Code("85756007", "SCT", "Tissue")
LUMBAR_REGION = Code("52612000", "SCT", "Lumbar region")

# Tissues: CID 7191, CID 7192
SKIN = Code("39937001", "SCT", "Skin")
FAT = Code("55603005", "SCT", "Fat")
FASCIAL_LAYER = Code("120576005", "SCT", "Fascial layer")
ERECTOR_SPINAE = Code("44947003", "SCT", "Erector spinae muscle")

# Quantities: CID 12304, 7472, 7180, 12308
THICKNESS = Code("59089-3", "LN", "Thickness")
VOLUME = Code("118565006", "SCT", "Volume")
ECHOGENICITY = Code("110849", "DCM", "Echogenicity")
SHEAR_WAVE_SPEED = Code("130611", "DCM", "Shear Wave Speed")
ELASTICITY = Code("110830", "DCM", "Elasticity")
SALIENCY = Code("130404", "DCM", "Saliency")
PROBABILITY = Code("122157", "DCM", "Probability")

# Derivations: CID 7464, CID 7465
MEAN = Code("373098007", "SCT", "Mean")
STANDARD_DEVIATION = Code("386136009", "SCT", "Standard Deviation")
MINIMUM = Code("255605001", "SCT", "Minimum")
MAXIMUM = Code("56851009", "SCT", "Maximum")
MEDIAN = Code("373099004", "SCT", "Median")
PERCENTILE_5 = Code("371888009", "SCT", "5th Percentile Value of population")
PERCENTILE_10 = Code("371890005", "SCT", "10th Percentile Value of population")
PERCENTILE_90 = Code("371887004", "SCT", "90th Percentile Value of population")
PERCENTILE_95 = Code("371889001", "SCT", "95th Percentile Value of population")
INTERQUARTILE_RANGE = Code("130614", "DCM", "Interquartile Range of population")
IQR_TO_MEDIAN = Code("130615", "DCM", "Interquartile Range to Median ratio of population")

# Units: CID 7181. Liters and m/s are not in it.
MM = Code("mm", "UCUM", "mm")
CM3 = Code("cm3", "UCUM", "cubic centimeter")
CM_PER_S = Code("cm/s", "UCUM", "centimeter/second")
KPA = Code("kPa", "UCUM", "kPa")
PERCENT = Code("%", "UCUM", "Percent")
NO_UNITS = Code("1", "UCUM", "no units")
RATIO = Code("{ratio}", "UCUM", "ratio")


def private(value: str, meaning: str) -> Code:
    """A concept that no standard scheme has, in the private scheme.

    Raises ValueError when the value is longer than the 16 characters of a short string (PS3.5 6.2) or the
    meaning longer than the 64 of a long string.
    """
    if len(value) > 16 or len(meaning) > 64:
        raise ValueError(f"code {value!r} ({meaning!r}): at most 16 and 64 characters")
    return Code(value, PRIVATE_SCHEME, meaning)
