"""Phantom: a physics-based simulator of lumbar 3D ultrasound with known truth. Needs numpy and scipy.

Written for training and tests. It is a model of the image, not of a patient: no figure measured on it
transfers to patients.
"""

from models.phantom.cohort import Protocol, person_seed, varied_request
from models.phantom.synthesize import Phantom, PhantomRequest, synthesize
from models.phantom.truth import write_truth

__all__ = [
    "Phantom",
    "PhantomRequest",
    "Protocol",
    "person_seed",
    "synthesize",
    "varied_request",
    "write_truth",
]
