"""The web server beside the SCP, in the same process: one transaction, one index, another door."""

from starlette.applications import Starlette
from starlette.routing import Route

from dicom_node import audit
from dicom_node.access.serving import Guarded
from dicom_node.receive.carriers import Carriers
from dicom_node.receive.intake import Intake
from dicom_node.receive.stow import Stow
from dicom_node.settings import Settings


def stow_server(settings: Settings, intake: Intake, carriers: Carriers) -> Guarded:
    """STOW-RS on the receiver's host and web port. Raises CannotListen."""
    here = settings.receive
    ae_title = settings.node.ae_title
    stow = Stow(intake, carriers, here.private_sop_classes, ae_title)
    routes = [
        Route("/studies", stow.store, methods=["POST"]),
        Route("/studies/{study}", stow.store, methods=["POST"]),
    ]

    def refused(address: str, user: str, reason: str) -> None:
        audit.user_authenticated(user, address, ae_title, reason)

    return Guarded(settings, Starlette(routes=routes), here.host, here.web_port, refused)
