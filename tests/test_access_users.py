"""Users: associations and web requests that must say who they are, and a door that fails shut."""

import http.client
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from pynetdicom import AE, evt
from pynetdicom.sop_class import Verification

from dicom_node.access.rules import Calling, Refusal, Rules
from dicom_node.check import check
from dicom_node.deliver import echo
from dicom_node.errors import Busy
from dicom_node.receive import door
from dicom_node.settings import Access, Destination
from tests.conftest import make_study, peer
from tests.guarded import HERE, PASSCODE, Guarded, post, start_guarded


@pytest.fixture(scope="module")
def personal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """No TLS, but every association and request names its user."""
    rules = "[access]\nuser_identity = true"
    with start_guarded(tmp_path_factory.mktemp("users"), rules, tls=False) as guarded:
        yield guarded


def test_what_fails_at_the_door_keeps_it_shut() -> None:
    """pynetdicom goes on where a handler has raised."""

    class Broken(Rules):
        def refusal(self, calling: Calling) -> Refusal | None:
            raise KeyError(calling.ae_title)

    entity = AE("NODE")
    entity.add_supported_context(Verification)
    keeper = door.Doorkeeper(Broken(Access(), None))
    listener = entity.start_server(
        (HERE, 0), block=False, evt_handlers=[(evt.EVT_REQUESTED, keeper.on_requested)]
    )
    port = listener.server_address[1]
    with pytest.raises(Busy, match="No reason given"):
        echo(Destination("node", "NODE", HERE, port), "US1")
    listener.shutdown()


@pytest.mark.peer
def test_users_of_associations(personal: Guarded, tmp_path: Path) -> None:
    right = ["-usr", "us1", "-pwd", PASSCODE]
    (path, *_) = make_study(tmp_path / "sent", seed=62)
    address = ["-aec", "DICOM_NODE", HERE, str(personal.node.node.port)]
    command = [peer("storescu"), *right, *address, str(path)]
    assert subprocess.run(command, timeout=60).returncode == 0
    assert personal.node.rows("select count(*) from instances") == [(1,)]
    for options, reason in (
        ([], "it names no user"),
        (["-usr", "us1"], "of type 1, not username and passcode"),
        (["-usr", "us1", "-pwd", "wrong"], "wrong user or passcode"),
        (["-usr", "us2", "-pwd", PASSCODE], "wrong user or passcode"),
        (["-usr", "us1", "-pwd", ""], "wrong user or passcode"),
    ):
        command = [peer("storescu"), *options, *address, str(path)]
        said = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert said.returncode != 0, options
        assert "Association Rejected" in said.stderr, said.stderr
        assert reason in personal.reason(), options
    again = [peer("storescu"), *right, *address, str(path)]
    assert subprocess.run(again, timeout=60).returncode == 0
    users = personal.node.data / "users"
    kept = users.read_text()
    users.write_text("us1:nothing\n")  # whoever damages the file keeps everyone out, not in
    assert subprocess.run(again, capture_output=True, timeout=60).returncode != 0
    assert "line 1 is no user" in personal.reason()
    users.write_text(kept)
    # Two more wrong ones, and whoever is at this address must wait, also with the right passcode.
    for passcode, reason in (("no", "wrong user"), ("no", "wrong user"), (PASSCODE, "must wait")):
        command = [peer("storescu"), "-usr", "us1", "-pwd", passcode, *address, str(path)]
        assert subprocess.run(command, capture_output=True, timeout=60).returncode != 0
        assert reason in personal.reason()


def test_the_web_asks_for_a_login(personal: Guarded) -> None:
    line = http.client.HTTPConnection(HERE, personal.web_port, timeout=60)
    assert post(line).headers["www-authenticate"].startswith("Basic ")
    assert post(line, "us1", PASSCODE).status == 415
    assert "must be multipart/related" in personal.reason()
    for _ in range(5):
        assert post(line, "us1", "wrong").status == 401
        assert "wrong user" in personal.reason()
    assert post(line, "us1", PASSCODE).status == 429
    assert "must wait" in personal.reason()
    audited = (personal.node.data / "audit" / "receive.xml").read_text()
    for words in (
        "no login",
        "must be multipart/related",
        "wrong user or passcode",
        "it must wait",
    ):
        assert words in audited, words


def test_check_knows_a_running_node_behind_its_door(personal: Guarded) -> None:
    found = {each.what: each for each in check(personal.settings)}
    assert found["port"].good
    assert "a node is running; to this machine it says: association rejected" in (
        found["port"].sentence
    )
    assert found["users"].sentence == "1 may log in"
    assert personal.reason() == "it names no user"
