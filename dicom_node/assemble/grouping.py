"""Which frames belong together: stacks of one meaning, out of one multi-frame instance or one series."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from dicom_node.assemble.concatenation import concatenation
from dicom_node.assemble.instances import Frame, Instance, malformed
from dicom_node.errors import StudyError, UnsupportedPixels
from dicom_node.study import Source as Origin
from dicom_node.study import SourceFrame, Unused

Kind = Literal["b-mode", "elasticity"]
# Quantity (246205007, SCT) of a Real World Value Mapping: PS3.16 CID 12308.
ELASTICITY_CODES = {("110830", "DCM"), ("130611", "DCM")}


@dataclass(frozen=True, slots=True, eq=False)
class Stack:
    """Frames of one meaning, all of them one slice of the same volume; not yet sorted in space."""

    kind: Kind
    frames: tuple[Frame, ...]

    @property
    def instances(self) -> tuple[Instance, ...]:
        """Each instance once, in the order of its first frame."""
        return tuple({id(frame.instance): frame.instance for frame in self.frames}.values())

    @property
    def shape(self) -> tuple[int, int, int]:
        header = self.frames[0].instance.header
        return len(self.frames), int(header.Rows), int(header.Columns)

    def origin(self) -> Origin:
        """The references that results need, slice by slice."""
        instances = self.instances
        position = {id(instance): number for number, instance in enumerate(instances)}
        return Origin(
            tuple(instance.stored.path for instance in instances),
            tuple(
                SourceFrame(
                    position[id(frame.instance)],
                    frame.number if "NumberOfFrames" in frame.instance.header else None,
                )
                for frame in self.frames
            ),
        )

    def unused(self, reason: str) -> list[Unused]:
        return [Unused(instance.stored.sop_instance_uid, reason) for instance in self.instances]


def group(
    study_uid: str, instances: Sequence[Instance]
) -> tuple[list[Stack], list[tuple[Unused, StudyError]]]:
    """Multi-frame instances are stacks by themselves, single frames of a series and parts of one object too.

    Frames of different meaning (tissue, elasticity) in one instance or series are different stacks.
    """
    stacks: dict[tuple[str, Kind], list[Frame]] = {}
    others: list[tuple[Unused, StudyError]] = []
    for instance in instances:
        try:
            with malformed(study_uid, "what the frames show cannot be read"):
                meanings = [(_kind(study_uid, frame), frame) for frame in _frames(instance)]
        except StudyError as error:
            others.append((Unused(instance.stored.sop_instance_uid, error.reason), error))
            continue
        single = instance.frame_count == 1
        alone = instance.header.SeriesInstanceUID if single else instance.header.SOPInstanceUID
        whole = concatenation(instance) or str(alone)
        for kind, frame in meanings:
            stacks.setdefault((whole, kind), []).append(frame)
    return [Stack(kind, tuple(frames)) for (_, kind), frames in stacks.items()], others


def _frames(instance: Instance) -> list[Frame]:
    return [Frame(instance, number) for number in range(1, instance.frame_count + 1)]


def _kind(study_uid: str, frame: Frame) -> Kind:
    """Tissue or elasticity: by Image Data Type (PS3.3 C.7.6.16.2.24), else by Real World Value Mapping."""
    data_type = frame.value("ImageDataTypeSequence", "DataType")
    if data_type == "ELASTICITY":
        return "elasticity"
    if data_type not in (None, "", "TISSUE_INTENSITY"):
        raise UnsupportedPixels(study_uid, f"frames of data type {data_type} are not analyzed")
    mappings = frame.instance.header.get("RealWorldValueMappingSequence") or ()
    if not mappings or data_type:
        return "b-mode"
    quantities = [q for item in mappings for q in item.get("QuantityDefinitionSequence") or ()]
    codes = [code for item in quantities for code in item.get("ConceptCodeSequence") or ()]
    if {
        (code.get("CodeValue"), code.get("CodingSchemeDesignator")) for code in codes
    } & ELASTICITY_CODES:
        return "elasticity"
    raise UnsupportedPixels(
        study_uid, "measured values of a quantity that is not said or not analyzed"
    )
