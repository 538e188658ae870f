"""The layer analysis' own words: private codes for what no standard scheme has (dictionary: 99LAYER)."""

from models.codes import private
from models.findings import Code

# The decision
PAIN = private("PAIN", "Myofascial pain")
# Read with a probability beside them ("present: 13 %"), so their names say nothing of how likely they are.
PAIN_PRESENT = private("PAIN-PRESENT", "Myofascial pain present")
PAIN_ABSENT = private("PAIN-ABSENT", "Myofascial pain absent")
PROBABILITY = private("PROBABILITY", "Probability of the first outcome")
OF_MEMBERS = private("OF-MEMBERS", "Over the members of the ensemble")

# Quantities
VISIBLE_DEPTH = private("VISIBLE-DEPTH", "Visible depth, cut off by the image")
COVERAGE = private("COVERAGE", "Share of columns measured")
ECHOVARIATION = private("ECHOVARIATION", "Echovariation, 100 SD over mean")
ECHO_TO_MUSCLE = private("ECHO-MUSCLE", "Echogenicity over that of muscle")
ECHO_TO_FAT = private("ECHO-FAT", "Echogenicity over that of superficial fat")
SATURATED = private("SATURATED", "Share of pixels at the highest gray level")
FLOOR = private("FLOOR", "Share of pixels at gray level 0")
SHEAR_VALID = private("SHEAR-SHARE", "Share of voxels with valid shear-wave speed")
SHEAR_COUNT = private("SHEAR-COUNT", "Voxels with valid shear-wave speed")
SHEAR_MODULUS = private("SHEAR-MODULUS", "Shear modulus, density times squared speed")
CONTRIBUTION = private("CONTRIBUTION", "Contribution to the logit, in log-odds")
RANK = private("RANK", "Rank by size of contribution, where it can be told")
RANKS_FIRST = private("RANKS-FIRST", "Share of alternatives in which the layer ranks first")
SIGN_AGREES = private("SIGN-AGREES", "Share of alternatives that agree on the sign")
REFERENCE_LOGIT = private(
    "REFERENCE-LOGIT", "Logit of the average scan, contributions count from it"
)
DELETION = private("DELETION", "Change of the logit without what the first layer adds")
AGREEMENT = private("AGREEMENT", "Lowest rank correlation between methods")
LIKE_UNTRAINED = private("LIKE-UNTRAINED", "Rank correlation with the mean of untrained networks")
LIKE_GRADIENT = private("LIKE-GRADIENT", "Rank correlation with the absolute gradient's map")
ENRICHMENT = private("ENRICHMENT", "Share of saliency over share of the layers' volume, null 1")
ABOVE_UNTRAINED = private("SALIENCY-ABOVE", "Saliency less that of untrained networks, null 0")

# Methods
TILT_3D = private("T2-3D", "Complete columns, times cosine of tilt")
TILT_IN_PLANE = private("T2-2D", "Complete columns, times cosine of in-plane tilt")
ALONG_COLUMNS = private("T1", "Height along the columns")
THICKNESS = {
    "T1": ALONG_COLUMNS,
    "T2": TILT_3D,
    "T3": private("T3", "Distance of nearest points of the two surfaces"),
    "T4": private("T4", "Length of field lines between the two surfaces"),
    "T6": private("T6", "Volume over area of the middle surface"),
}
CALIPER = private("CALIPER", "One column, upper to lower interface")
VOXEL_COUNT = private("VOXELS", "Voxel count times voxel volume")
VISIBLE_PART = private("VISIBLE-PART", "Part of it that the image shows")
INNER_VOXELS = private("ERODED", "Stored gray level, edge voxels left out")
MIDDLE_ROWS = private("MIDDLE-ROWS", "Stored gray level, middle rows of a thin layer")
VALID_VOXELS = private("VALID", "Valid shear-wave voxels")
BELOW_RESOLUTION = private("VALID-THIN", "Valid voxels of a layer below shear-wave resolution")
ISOTROPIC = private("ISOTROPIC", "Isotropic equivalent, 3 x shear modulus")
EVIDENCE = private("CAM-P99.5", "Mean of the evidence map (CAM), its 99.5th percentile as 1")
# A method ending in -NULL or -NONMUSCLE tells of the whole scan what its namesakes tell of a layer.
EVIDENCE_NULL = private("CAM-NULL", "Mean of the evidence map over all layers: the null value")
EVIDENCE_NOT_MUSCLE = private("CAM-NONMUSCLE", "Mean of the evidence map, layers 1 to 5 pooled")
UNTRAINED = private("UNTRAINED-CAM", "The same of 10 networks that have learned nothing")
SHAPLEY = private("SHAPLEY-TOTAL", "Layer total, exact Shapley value against the average scan")
SHAPLEY_PARTS = {
    "appearance": private("SHAPLEY-LOOK", "Part from appearance, exact Shapley value"),
    "thickness": private("SHAPLEY-THICK", "Part from thickness, exact Shapley value"),
    "shear wave": private("SHAPLEY-SHEAR", "Part from shear-wave speed, exact Shapley value"),
}
ALTERNATIVES = private("ALTERNATIVES", "Over ensemble members and borders one voxel away")
THREE_METHODS = private("THREE-METHODS", "Shapley, additive terms, captum FeatureAblation")
OF_CONTRIBUTIONS = private("OF-CONTRIBUTION", "Of the layers' contributions, by size")
OF_SALIENCY = private("OF-SALIENCY", "Of the layers' mean saliency")
OF_SHARES = private("OF-SHARES", "Of the layers' shares of the map")

# Derivations
LOWER = private("P2.5", "2.5th percentile")
UPPER = private("P97.5", "97.5th percentile")
NULL = private("NULL", "Null value")

# Reasons to distrust
SIMULATED = private("SIMULATED", "Trained on simulated data")
MISSING = private("LAYER-MISSING", "Layer not found")
PARTIAL = private("LAYER-PARTIAL", "Layer found in part of the columns")
THIN_COVERAGE = private("COVERAGE-LOW", "Layer measured in few columns")
TOO_FEW = private("COLUMNS-TOO-FEW", "Too few columns to measure")
ORDER = private("ORDER", "Order of layers put right")
ORDER_LEFT = private("ORDER-LEFT", "Layers out of order")
SKIN_AT_PROBE = private("SKIN-AT-PROBE", "Skin measured from the first image row")
PARTLY_TRUNCATED = private("TRUNCATED-PART", "Muscle cut off in part of the image")
TOO_DEEP = private("TOO-DEEP", "Layers thicker than the image is deep")
NOT_TYPICAL = private("NOT-TYPICAL", "Measured columns unlike the rest of the layer")
TRUNCATED = private("TRUNCATED", "Muscle cut off by the image")
IMPLAUSIBLE = private("IMPLAUSIBLE", "Thickness outside plausible limits")
FRAME_STEP = private("FRAME-STEP", "Distance of frames unknown")
DECLARED = private("DECLARED", "Geometry not measured")
NOT_RANKED = private("NOT-RANKED", "Layers not ranked")
FLAT_MAP = private("NO-SALIENCY", "Map without contrast")
SHEAR_THIN = private("SHEAR-THIN", "Layer below shear-wave resolution")
SHEAR_UNSTEADY = private("SHEAR-UNSTEADY", "Shear-wave speed scatters")
SHEAR_LEFT_OUT = private("SHEAR-LEFT-OUT", "Shear wave left out")
GEOMETRY_NOTE = private("GEOMETRY-NOTE", "Remark on the geometry")
PIXEL_NOTE = private("PIXEL-NOTE", "Remark on the pixels")
LOSSY = private("LOSSY", "Lossy images")
PLACE_UNCHECKED = private("PLACE-UNCHECKED", "Not checked that this is a lumbar scan")
WITHHELD = private("WITHHELD", "Decision withheld")
UNSURE = private("BORDERS-UNSURE", "Borders of a layer uncertain")

# How sure a mask is
EXPECTED_DICE = private("EXPECTED-DICE", "Expected Dice of the mask, 1 = certain")
PROBABILITIES = private("PROBABILITIES", "From the network's class probabilities")


def level(number: int, count: int, name: str) -> Code:
    """One of a site's ordered levels of pain; numbers count from 0, which is no pain."""
    return private(f"PAIN-LEVEL-{number}", f"Level {number} of {count - 1}: {name}")
