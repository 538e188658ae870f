"""The layer analysis' own words: private codes for what no standard scheme has (dictionary: 99LAYER)."""

from models.codes import private

# The decision
PAIN = private("PAIN", "Myofascial pain")
# Read with a probability beside them ("present: 13 %"), so their names say nothing of how likely they are.
PAIN_PRESENT = private("PAIN-PRESENT", "Myofascial pain present")
PAIN_ABSENT = private("PAIN-ABSENT", "Myofascial pain absent")

# Quantities
VISIBLE_DEPTH = private("VISIBLE-DEPTH", "Visible depth, cut off by the image")
COVERAGE = private("COVERAGE", "Share of columns measured")
CONTRIBUTION = private("CONTRIBUTION", "Contribution to the logit, in log-odds")
ENRICHMENT = private("ENRICHMENT", "Saliency mass share over volume share, null 1")

# Methods
TILT_3D = private("T2-3D", "Complete columns, times cosine of tilt")
TILT_IN_PLANE = private("T2-2D", "Complete columns, times cosine of in-plane tilt")
ALONG_COLUMNS = private("T1", "Height along the columns")
CALIPER = private("CALIPER", "One column, upper to lower interface")
VOXEL_COUNT = private("VOXELS", "Voxel count times voxel volume")
VISIBLE_PART = private("VISIBLE-PART", "Part of it that the image shows")
INNER_VOXELS = private("ERODED", "Stored gray level, edge voxels left out")
VALID_VOXELS = private("VALID", "Valid shear-wave voxels")
GRADIENT = private("GRAD-P99.5", "Absolute gradient, 99.5th percentile as 1")
GRADIENT_NULL = private("GRAD-NULL", "Absolute gradient, all layers: the null value")
GRADIENT_NOT_MUSCLE = private("GRAD-NONMUSCLE", "Absolute gradient, layers 1 to 5 pooled")
SHAPLEY = private("SHAPLEY-MOMENT", "Appearance, exact Shapley, moment reference")
TERMS = {
    "appearance": private("TERM-APPEARANCE", "Appearance, additive term of the network"),
    "thickness": private("TERM-THICKNESS", "Thickness, additive term of the network"),
    "shear wave": private("TERM-SHEARWAVE", "Shear-wave speed, additive term of the network"),
}

# Reasons to distrust
SIMULATED = private("SIMULATED", "Trained on simulated data")
MISSING = private("LAYER-MISSING", "Layer not found")
THIN_COVERAGE = private("COVERAGE-LOW", "Layer measured in few columns")
TOO_FEW = private("COLUMNS-TOO-FEW", "Too few columns to measure")
ORDER = private("ORDER", "Order of layers put right")
TRUNCATED = private("TRUNCATED", "Muscle cut off by the image")
IMPLAUSIBLE = private("IMPLAUSIBLE", "Thickness outside plausible limits")
FRAME_STEP = private("FRAME-STEP", "Distance of frames unknown")
DECLARED = private("DECLARED", "Geometry not measured")
NEAR_REFERENCE = private("NEAR-REFERENCE", "Prediction near reference")
FLAT_MAP = private("NO-SALIENCY", "Map without contrast")
SHEAR_THIN = private("SHEAR-THIN", "Layer below shear-wave resolution")
SHEAR_LEFT_OUT = private("SHEAR-LEFT-OUT", "Shear wave left out")
GEOMETRY_NOTE = private("GEOMETRY-NOTE", "Remark on the geometry")
LOSSY = private("LOSSY", "Lossy images")
