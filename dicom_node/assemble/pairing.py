"""Which elasticity map lies on the grid of which B-mode volume."""

from collections.abc import Sequence

import numpy as np

from dicom_node.assemble.placement import Placed

# Voxel centers of one grid may differ by this share of the smallest spacing.
SAME_PLACE = 0.05


def pair(tissue: Sequence[Placed], elastic: Placed) -> tuple[int | None, str]:
    """The position of the one B-mode volume that shares the grid, or None and the reason.

    With measured positions the grids must be equal in one frame of reference. Without positions, size and
    spacing must be equal, and where several volumes fit, the map must refer to one of them.
    """
    fits = [number for number, placed in enumerate(tissue) if _shares_grid(placed, elastic)]
    if len(fits) > 1:
        referred = _referred(elastic)
        fits = [number for number in fits if referred & _uids(tissue[number])]
        if len(fits) != 1:
            return None, "elasticity map fits several B-mode volumes and names none of them"
    if not fits:
        return None, "elasticity map shares its grid with no B-mode volume of the study"
    return fits[0], ""


def _shares_grid(tissue: Placed, elastic: Placed) -> bool:
    if tissue.stack.shape != elastic.stack.shape or tissue.geometry != elastic.geometry:
        return False
    if tissue.frame_of_reference != elastic.frame_of_reference:
        return False
    # Corner voxels are the farthest apart, so a small angle cannot hide.
    last = np.array(tissue.stack.shape) - 1
    corners = np.array([[0, 0, 0, 1], [*last, 1], [last[0], 0, 0, 1], [0, last[1], 0, 1]])
    apart = np.linalg.norm((corners @ (tissue.affine - elastic.affine).T)[:, :3], axis=1)
    smallest = np.linalg.norm(tissue.affine[:3, :3], axis=0).min()
    return bool(apart.max() <= SAME_PLACE * smallest)


def _uids(placed: Placed) -> set[str]:
    return {instance.stored.sop_instance_uid for instance in placed.stack.instances}


def _referred(placed: Placed) -> set[str]:
    """SOP Instance UIDs that the instances refer to (PS3.3 C.7.6.1, C.12.4)."""
    return {
        str(item.get("ReferencedSOPInstanceUID"))
        for instance in placed.stack.instances
        for sequence in ("ReferencedImageSequence", "SourceImageSequence")
        for item in instance.header.get(sequence) or ()
    }
