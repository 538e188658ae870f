"""STOW-RS, the Store transaction of DICOMweb (PS3.18 section 10.5): the promise of C-STORE, over HTTP."""

import asyncio
import logging
from dataclasses import dataclass, field
from pathlib import Path

from pydicom import Dataset
from pydicom.filereader import read_file_meta_info
from python_multipart.multipart import parse_options_header
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from dicom_node import audit
from dicom_node.errors import Oversized
from dicom_node.receive.bounds import TOO_LARGE, Body, TooLarge, announced
from dicom_node.receive.carriers import Carriers
from dicom_node.receive.contexts import STORAGE, TRANSFER_SYNTAXES
from dicom_node.receive.intake import ROUTINE, SUCCESS, Handed, Intake, Sender, check_size
from dicom_node.receive.parts import MALFORMED, Part, Parts
from dicom_node.receive.store import NOT_DICOM, is_uid

LOGGER = logging.getLogger(__name__)

CALLING_AE = "STOW-RS"
"""Web requests have no AE title; a site's declarations may match this one."""

SILENT_SECONDS = 60.0
"""A client may pause for so long within its body."""

PART_TYPE = "application/dicom"
OUT_OF_RESOURCES, CANNOT_UNDERSTAND = 0xA700, 0xC000
CLASS_NOT_SUPPORTED, SYNTAX_NOT_SUPPORTED = 0x0122, 0xC122
"""Failure Reasons, PS3.18 table I.2-2."""

OK, ACCEPTED, BAD_REQUEST, CONFLICT, UNSUPPORTED_MEDIA, BUSY = 200, 202, 400, 409, 415, 503
"""PS3.18 table 10.5.3-1; what is too large has its status from table 8.5-1."""

AS_IT_IS = "identity"
"""The only content coding that is taken, RFC 9110 section 8.4.1; a 415 says so (section 12.5.3)."""

LATER = {"Retry-After": "60"}
"""Seconds, RFC 9110 section 10.2.3: with every 503."""


@dataclass(slots=True)
class _Answer:
    """What became of each part so far: SOP class, SOP instance (each may be ""), status.

    ``oversized``: what was said last of one that is too large.
    """

    parts: list[tuple[str, str, int]] = field(default_factory=list)
    oversized: str = ""

    def add(self, sop_class: str, sop_uid: str, status: int) -> None:
        self.parts.append((sop_class, sop_uid, status))

    def response(self) -> Response:
        """The Store Instances Response Module, PS3.18 section I.2, and the status that sums it up.

        Where all that came is too large, the sentence that says so.
        """
        if self._status() == TOO_LARGE:
            return TooLarge(self.oversized)
        module = Dataset()
        stored: list[Dataset] = []
        failed: list[Dataset] = []
        nameless: list[Dataset] = []
        for sop_class, sop_uid, status in self.parts:
            item = Dataset()
            if status != SUCCESS:
                item.FailureReason = status
            if not (is_uid(sop_class) and is_uid(sop_uid)):
                nameless.append(item)
                continue
            item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = sop_class, sop_uid
            (failed if status else stored).append(item)
        if stored:
            module.ReferencedSOPSequence = stored
        if failed:
            module.FailedSOPSequence = failed
        if nameless:
            module.OtherFailuresSequence = nameless
        status = self._status()
        headers = LATER if status == BUSY else None
        content = module.to_json_dict()
        return JSONResponse(content, status, headers, media_type="application/dicom+json")

    def _status(self) -> int:
        statuses = {status for _, _, status in self.parts}
        if statuses == {SUCCESS}:
            return OK
        if SUCCESS in statuses:
            return ACCEPTED
        if statuses == {OUT_OF_RESOURCES}:
            return BUSY
        return TOO_LARGE if statuses == {Oversized.status} else CONFLICT


class Stow:
    """The handler of POST /studies and POST /studies/{study}."""

    def __init__(
        self, intake: Intake, carriers: Carriers, private: tuple[str, ...], ae_title: str
    ) -> None:
        self._ae_title = ae_title
        self._intake = intake
        self._carriers = carriers
        self._classes = {*map(str, STORAGE), *private}

    async def store(self, request: Request) -> Response:
        """Take every part in; its file is durable and in the index before the answer names it stored."""
        kind, options = parse_options_header(request.headers.get("content-type"))
        wanted = options.get(b"type", PART_TYPE.encode()).decode("latin-1")
        study_uid = request.path_params.get("study", "")
        if reason := _unsupported(request, kind, wanted):
            return self._refuse(request, reason, UNSUPPORTED_MEDIA)
        if not options.get(b"boundary") or (study_uid and not is_uid(study_uid)):
            return self._refuse(request, "no boundary, or no study UID", BAD_REQUEST)
        if reason := announced(request, self._intake.limits):
            return self._refuse(request, reason, TOO_LARGE)
        if self._intake.space.is_short():
            return self._refuse(request, "the disk is short of space; try again later", BUSY)
        carrier = self._carriers.request(ROUTINE)
        sender = Sender(CALLING_AE, _address(request), carrier)
        answer, complete = _Answer(), False
        parts = Parts(
            options[b"boundary"],
            self._intake.limits.instance_bytes,
            lambda part: self._take(part, study_uid, sender, answer),
        )
        try:
            complete = await self._read(request, parts, answer, sender)
        finally:
            parts.close()
            self._carriers.end(carrier, complete)
        if not answer.parts:
            return self._refuse(request, "the body has no parts", BAD_REQUEST)
        return answer.response()

    def _refuse(self, request: Request, reason: str, status: int) -> Response:
        """Answer a request of which nothing is taken; the audit trail has it as well."""
        address = _address(request)
        failed = audit.Transfer("", "", failure=reason)
        peer = audit.Peer(CALLING_AE, address)
        audit.transferred(failed, self._ae_title, peer, is_received=True)
        LOGGER.info("request refused", extra={"fields": {"peer": address, "reason": reason}})
        if status == TOO_LARGE:
            return TooLarge(reason)
        headers = LATER if status == BUSY else None
        if status == UNSUPPORTED_MEDIA and _coding(request):
            headers = {"Accept-Encoding": AS_IT_IS}
        return PlainTextResponse(reason, status, headers)

    async def _read(self, request: Request, parts: Parts, answer: _Answer, sender: Sender) -> bool:
        """Feed the body as it comes; whether it came to its end."""
        try:
            await self._feed(request, parts)
            if parts.close():
                answer.add("", "", CANNOT_UNDERSTAND)
            return parts.is_complete
        except Oversized as error:
            status, reason = error.status, error.reason
            answer.oversized = reason
        except (*MALFORMED, TimeoutError, ClientDisconnect, OSError) as error:
            full = isinstance(error, OSError) and not isinstance(error, TimeoutError)
            status = OUT_OF_RESOURCES if full else CANNOT_UNDERSTAND
            reason = type(error).__name__
        LOGGER.info("request cut off", extra={"fields": {"reason": reason}})
        answer.add("", "", status)
        self._intake.refused(status, f"the request was cut off ({reason})", sender)
        return False

    async def _feed(self, request: Request, parts: Parts) -> None:
        clock = asyncio.get_running_loop().time
        body = Body(self._intake.limits, self._intake.space.is_short)
        async with asyncio.timeout(SILENT_SECONDS) as silence:
            async for chunk in request.stream():
                silence.reschedule(None)  # our own work is not the client's silence
                body.add(len(chunk))
                # In a thread: a part that ends here is hashed, synced and indexed first.
                await run_in_threadpool(parts.feed, chunk)
                silence.reschedule(clock() + SILENT_SECONDS)

    def _take(self, part: Part, study_uid: str, sender: Sender, answer: _Answer) -> None:
        sop_class, sop_uid, syntax = _meta(part.path)
        status, reason = self._refusal(part, sop_class, syntax)
        if status:
            part.path.unlink(missing_ok=True)
            what = {"instance": sop_uid[:64], "status": f"0x{status:04X}", "peer": sender.peer}
            LOGGER.info("instance refused", extra={"fields": what | {"reason": reason}})
            self._intake.refused(status, reason, sender)
            if status == Oversized.status:
                answer.oversized = reason
        else:
            status = self._intake.store(Handed(part.path, sop_class, sop_uid, study_uid), sender)
        answer.add(sop_class, sop_uid, status)

    def _refusal(self, part: Part, sop_class: str, syntax: str) -> tuple[int, str]:
        """Status and reason of what is not looked at any further; 0 where it is."""
        refused = (
            (
                _media_type(part.kind or PART_TYPE) != PART_TYPE,
                (CANNOT_UNDERSTAND, f"a part is not {PART_TYPE}"),
            ),
            (bool(part.coding), (CANNOT_UNDERSTAND, f"a part is encoded as {part.coding}")),
            (
                not (sop_class or syntax),
                (CANNOT_UNDERSTAND, "a part is no DICOM file: it has no file meta information"),
            ),
            (
                bool(sop_class) and sop_class not in self._classes,
                (CLASS_NOT_SUPPORTED, "its SOP class is not taken"),
            ),
            (
                bool(syntax) and syntax not in TRANSFER_SYNTAXES,
                (SYNTAX_NOT_SUPPORTED, "its transfer syntax is not taken"),
            ),
        )
        if found := next((told for is_so, told in refused if is_so), None):
            return found
        try:
            check_size(part.size, "", self._intake.limits)
        except Oversized as error:
            return error.status, error.reason
        return 0, ""


def _address(request: Request) -> str:
    return request.client.host if request.client else ""


def _media_type(text: str) -> str:
    return text.partition(";")[0].strip().lower()


def _unsupported(request: Request, kind: bytes, wanted: str) -> str:
    """Why the body is of no kind that is taken; "" where it is."""
    if coding := _coding(request):
        return f"Content-Encoding {coding} is not taken; send the body as it is ({AS_IT_IS})"
    if kind != b"multipart/related" or _media_type(wanted) != PART_TYPE:
        return f'the body must be multipart/related; type="{PART_TYPE}"'
    return ""


def _coding(request: Request) -> str:
    """The codings of a body beside that which is taken, "" for none."""
    codings = request.headers.get("content-encoding", "").lower().split(",")
    return ", ".join(each.strip() for each in codings if each.strip() not in ("", AS_IT_IS))


def _meta(path: Path) -> tuple[str, str, str]:
    """SOP class, SOP instance and transfer syntax of the file meta; "" where it has none."""
    try:
        meta = read_file_meta_info(path)
    except (*NOT_DICOM, OSError):
        return "", "", ""  # the intake says what is wrong with it
    return (
        str(meta.get("MediaStorageSOPClassUID", "")),
        str(meta.get("MediaStorageSOPInstanceUID", "")),
        str(meta.get("TransferSyntaxUID", "")),
    )
