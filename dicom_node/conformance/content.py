"""The content trees of the reports: what stands where, under which name."""

from dicom_node.conformance.markdown import table

ANY = "a quantity"
"""In place of a concept name: one of the quantities of 8.3."""

_TRACKING = """
3 | HAS OBS CONTEXT | TEXT | 112039 DCM Tracking Identifier | {identifier}
3 | HAS OBS CONTEXT | UIDREF | 112040 DCM Tracking Unique Identifier | {uid}
"""
_ALGORITHM = """
3 | HAS CONCEPT MOD | TEXT | 111001 DCM Algorithm Name | analysis
3 | HAS CONCEPT MOD | TEXT | 111003 DCM Algorithm Version | its version
3 | HAS CONCEPT MOD | TEXT | 111002 DCM Algorithm Parameters | SHA-256 of the weights; each setting
"""
_LAYER = """
3 | CONTAINS | CODE | 276214006 SCT Finding category | category of the segment
3 | CONTAINS | CODE | 121071 DCM Finding | type of the segment
3 | HAS CONCEPT MOD | CODE | 363698007 SCT Finding Site | anatomic region of the segment
"""
_REGION = """
3 | CONTAINS | SCOORD | 111030 DCM Image Region | {region}
4 | SELECTED FROM | IMAGE | 260753009 SCT Source | that frame
3 | CONTAINS | TEXT | 121106 DCM Comment | {comment}
"""
_GROUP = "2 | CONTAINS | CONTAINER | 125007 DCM Measurement Group | {group}"
_DRAWN = """
4 | INFERRED FROM | SCOORD | 260753009 SCT Source | {drawn}
5 | SELECTED FROM | IMAGE | 260753009 SCT Source | that frame
"""

TREES = {
    "report": """
0 | | CONTAINER | 126000 DCM Imaging Measurement Report | TID 1500
1 | HAS CONCEPT MOD | CODE | 121049 DCM Language of Content Item and Descendants | en-US
1 | HAS OBS CONTEXT | CODE | 121005 DCM Observer Type | 121007 DCM Device
1 | HAS OBS CONTEXT | UIDREF | 121012 DCM Device Observer UID | Device UID: changes with program or weights
1 | HAS OBS CONTEXT | TEXT | 121013 DCM Device Observer Name | dicom-node
1 | HAS OBS CONTEXT | TEXT | 121014 DCM Device Observer Manufacturer | dicom-node
1 | HAS OBS CONTEXT | TEXT | 121015 DCM Device Observer Model Name | analysis
1 | HAS OBS CONTEXT | TEXT | 121016 DCM Device Observer Serial Number | last digits of the Device UID
1 | HAS CONCEPT MOD | CODE | 121058 DCM Procedure reported | the source's, else 16310003 SCT
1 | CONTAINS | CONTAINER | 121072 DCM Impressions | SEPARATE, as every container
2 | CONTAINS | TEXT | 121073 DCM Impression | decision and range, what was found, each caution
1 | CONTAINS | CONTAINER | 111028 DCM Image Library |
2 | CONTAINS | CONTAINER | 126200 DCM Image Library Group |
3 | CONTAINS | IMAGE | 260753009 SCT Source | each source instance
4 | HAS ACQ CONTEXT | CODE | 121139 DCM Modality | the source's
4 | HAS ACQ CONTEXT | UIDREF | 112227 DCM Frame of Reference UID | where the source has one
4 | HAS ACQ CONTEXT | NUM | 110910 DCM Pixel Data Rows | the source's
4 | HAS ACQ CONTEXT | NUM | 110911 DCM Pixel Data Columns | the source's
"""
    + f"3 | CONTAINS | IMAGE | {ANY} | each map that the same destination gets"
    + """
1 | CONTAINS | CONTAINER | 126010 DCM Imaging Measurements | the groups below, the decision last
""",
    "caliper": _GROUP.format(group="TID 1410")
    + _TRACKING.format(
        identifier="Cornerstone3DTools@^0.1.0:Length: and analysis, number, label",
        uid="that of the segment",
    )
    + _LAYER
    + _ALGORITHM
    + "3 | CONTAINS | NUM | 59089-3 LN Thickness | length of the line, mm"
    + _DRAWN.format(drawn="POLYLINE of two points, upper to lower border in one column")
    + "3 | CONTAINS | CODE | told 99DICOMNODE What these numbers are | line, or no-line"
    + _REGION.format(region="the same line", comment="number and label"),
    "layer": _GROUP.format(group="TID 1411")
    + _TRACKING.format(identifier="analysis, number, label", uid="that of the segment")
    + _LAYER
    + _ALGORITHM
    + f"3 | CONTAINS | NUM | {ANY} | value and unit"
    + """
4 | HAS CONCEPT MOD | CODE | 370129005 SCT Measurement Method | where one is named, of 8.3
4 | HAS CONCEPT MOD | CODE | 121401 DCM Derivation | where it is one: mean, SD, a percentile and so on
3 | CONTAINS | CODE | told 99DICOMNODE What these numbers are | statistics
3 | CONTAINS | IMAGE | 121191 DCM Referenced Segment | the segment of the SEG
3 | CONTAINS | IMAGE | 121233 DCM Source Image for Segmentation | each source instance of the B-mode
""",
    "decision": _GROUP.format(group="TID 1410")
    + _TRACKING.format(
        identifier="Cornerstone3DTools@^0.1.0:ArrowAnnotate: and what is decided",
        uid="derived",
    )
    + "3 | CONTAINS | CODE | 121071 DCM Finding | what is decided, of 8.3"
    + _ALGORITHM
    + "3 | CONTAINS | NUM | 122157 DCM Probability | of the first outcome, %; of each level"
    + _DRAWN.format(drawn="POINT in the middle of the region")
    + """
3 | CONTAINS | NUM | logit 99DICOMNODE Logit | before calibration
"""
    + f"3 | CONTAINS | NUM | {ANY} | what was measured of the whole scan, as in a layer group"
    + """
4 | HAS CONCEPT MOD | CODE | 370129005 SCT Measurement Method | where one is named, of 8.3
4 | HAS CONCEPT MOD | CODE | 121401 DCM Derivation | where it is one
3 | CONTAINS | CODE | what is decided | the likeliest outcome
"""
    + _REGION.format(
        region="closed POLYLINE: what was analyzed", comment="outcome, %, research only"
    )
    + """
3 | CONTAINS | CODE | intended-use 99DICOMNODE Intended use | research-only
3 | CONTAINS | CODE | not-found 99DICOMNODE Structure not found | where a segment has no voxels
3 | CONTAINS | CODE | geometry-plane 99DICOMNODE Provenance of pixel spacing | measured, declared, assumed
3 | CONTAINS | CODE | geometry-step 99DICOMNODE Provenance of frame spacing | measured, declared, assumed
3 | CONTAINS | CODE | geometry-axes 99DICOMNODE Provenance of orientation | measured, declared, assumed
3 | CONTAINS | CODE | caliper 99DICOMNODE Caliper drawn | where none could be drawn: non-square
3 | CONTAINS | CODE | flag 99DICOMNODE Reason to distrust | where there is one, of 8.3
3 | CONTAINS | TEXT | flag 99DICOMNODE Reason to distrust | where there is one: its sentence
""",
    "answer": """
0 | | CONTAINER | refusal 99DICOMNODE Analysis not performed | no template
1 | CONTAINS | CODE | intended-use 99DICOMNODE Intended use | research-only
1 | CONTAINS | CODE | 111017 DCM CAD Processing and Findings Summary | 111245 DCM: no algorithms succeeded
1 | CONTAINS | CODE | reason 99DICOMNODE Reason | one of the reasons of 8.3, for each ground
1 | CONTAINS | TEXT | reason 99DICOMNODE Reason | the sentence, for each ground
1 | CONTAINS | TEXT | what-to-do 99DICOMNODE What to do | advice, for each different reason
""",
}
"""By name, a line for each content item: depth, relationship, value type, concept name, value."""


def rows(name: str) -> list[list[str]]:
    """The five cells of each line of a tree."""
    lines = TREES[name].strip().splitlines()
    return [[cell.strip() for cell in line.split("|")] for line in lines if line.strip()]


def tables() -> dict[str, object]:
    heads = ("depth", "relationship", "value type", "concept name", "value")
    return {f"tree_{name}": table(heads, rows(name)) for name in TREES}
