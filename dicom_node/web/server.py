"""The web role's server: the application on its own port."""

from dataclasses import replace

from dicom_node import audit, index
from dicom_node.access.serving import Guarded
from dicom_node.access.web import NO_LOGIN
from dicom_node.pseudonyms import open_pseudonyms
from dicom_node.settings import Settings
from dicom_node.web.app import make_app

BUSY_SECONDS = 3.0
"""A database that does not answer within is away: who asks whether the node is ready must hear soon."""


class Web:
    """Listens from the start. Raises CannotListen."""

    def __init__(self, settings: Settings) -> None:
        self._engine = index.open_engine(settings.node.database_url, BUSY_SECONDS)
        # Beyond this machine there is a login; browsers and Prometheus seldom have certificates.
        wanted = settings.tls.client_certificates and settings.web.client_certificates
        tls = replace(settings.tls, client_certificates=wanted)
        app = make_app(settings, self._engine, open_pseudonyms(settings))

        def refused(address: str, user: str, reason: str) -> None:
            if reason != NO_LOGIN:  # a browser asks without one first, and then its user
                audit.user_authenticated(user, address, settings.node.ae_title, reason)

        own = replace(settings, tls=tls)
        self._server = Guarded(own, app, settings.web.host, settings.web.port, refused)

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._server.port

    def start(self) -> None:
        """Begin to answer."""
        self._server.start()

    def stop(self) -> None:
        """Stop answering."""
        self._server.stop()
        self._engine.dispose()
