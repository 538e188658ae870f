"""What keeps a node from starting, what is to be mended, and who may log in: before anything listens."""

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dicom_node.access.command import app
from dicom_node.access.logins import Logins, Verdict
from dicom_node.access.rules import admits, networks_of
from dicom_node.access.start import is_loopback, look, needs_login, refuse
from dicom_node.access.users import add_user, read_users
from dicom_node.errors import SettingsError
from dicom_node.settings import Settings, load
from tests.certificates import Authority, Pem
from tests.conftest import ROOT

PASSCODE = "correct horse battery"
OPEN = '[receive]\nhost = "0.0.0.0"\n'


class House:
    """A folder with an authority, a certificate, and configurations."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = Authority(folder)
        self.ours = self.authority.issue("node")

    def write(self, text: str) -> Path:
        path = self.folder / "node.toml"
        path.write_text(f'[node]\ndata_dir = "{self.folder / "data"}"\n{text}')
        return path

    def settings(self, text: str) -> Settings:
        return load(self.write(text), {})

    def tls(self, pem: Pem | None = None, more: str = "") -> str:
        return f'[tls]\n{(pem or self.ours).toml}\nca = "{self.authority.path}"\n{more}\n'


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> House:
    return House(tmp_path_factory.mktemp("house"))


def test_a_node_does_not_serve_other_machines_unencrypted_by_accident(house: House) -> None:
    command = [sys.executable, "-m", "dicom_node", "serve", "--config", house.write(OPEN)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert done.returncode == 2
    assert "receive.host 0.0.0.0" in done.stderr
    assert "[tls]" in done.stderr
    assert "receive.insecure = true" in done.stderr
    assert not (house.folder / "data" / "node.db").exists()
    for text in (f"{OPEN}insecure = true", f"{OPEN}{house.tls()}", '[receive]\nhost = "localhost"'):
        refuse(house.settings(text))
    refuse(house.settings(OPEN), roles=("work",))  # such a node has no port


@pytest.mark.parametrize("mistake", ["port", "folder"])
def test_a_role_that_cannot_start_has_the_last_word(house: House, mistake: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        text = f"[receive]\nport = {taken.getsockname()[1]}"
        words = "Address already in use; who holds the port"
        if mistake == "folder":
            text = 'files_dir = "/proc/none"\n[receive]\nport = 0'
            words = "No such file or directory; is node.files_dir"
        path = house.write(text)
        command = [
            sys.executable,
            "-m",
            "dicom_node",
            "serve",
            "--role",
            "receive",
            "--config",
            path,
        ]
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith("dicom-node: role receive could not start: ")
    assert words in last


def test_what_is_loopback() -> None:
    assert all(map(is_loopback, ("127.0.0.1", "127.9.9.9", "::1", "localhost")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "10.1.2.3", "no-such-host.invalid", "")))


Words = Callable[[House], tuple[str, str]]
CASES: dict[str, Words] = {
    "no certificate": lambda h: (h.tls(Pem(h.folder / "no", h.ours.private_key)), "no cannot be"),
    "no key": lambda h: (h.tls(Pem(h.ours.certificate, h.folder / "no")), "private_key"),
    "another key": lambda h: (
        h.tls(h.ours.with_key_of(h.authority.issue("other"))),
        "the key does not belong to the certificate",
    ),
    "no PEM": lambda h: (h.tls(Pem(h.write(""), h.ours.private_key)), "no PEM file"),
    "no password": lambda h: (h.tls(h.authority.issue("p", password="x" * 8)), "has a password"),
    "wrong password": lambda h: (
        h.tls(h.authority.issue("p", password="x" * 8), 'key_password_from = "env:WRONG"'),
        "password is wrong",
    ),
    "unset variable": lambda h: (
        h.tls(more='key_password_from = "env:NOT_SET"'),
        "NOT_SET, which holds a secret, is not set",
    ),
    "no authorities": lambda h: (
        f'[tls]\n{h.ours.toml}\nca = "{h.ours.private_key}"',
        "no certificates in PEM form",
    ),
    "no authorities of a destination": lambda h: (
        '[[destinations]]\nname = "a"\nae_title = "A"\nhost = "h"\ntls = true\nca = "/none"',
        "to A@h: ca /none cannot be read",
    ),
    "no users": lambda h: ("[access]\nuser_identity = true", "dicom-node access add NAME"),
    "no users of the web": lambda h: (f"{OPEN}insecure = true\nweb_port = 1", "access add NAME"),
}


@pytest.mark.parametrize("name", CASES)
def test_each_mistake_is_said_before_anything_listens(
    house: House, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WRONG", "not it")
    text, words = CASES[name](house)
    with pytest.raises(SettingsError) as caught:
        refuse(house.settings(text))
    assert words in str(caught.value)
    assert "not it" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[tls]\ncertificate = "c"', "tls.private_key go together"),
        ('[tls]\ncertificate = "c"\nprivate_key = "k"', "tls.client_certificates needs tls.ca"),
        ('[tls]\nkey_password_from = "secret"', "tls.key_password_from"),
        ('[access]\nnetworks = ["10.1.2.3/8"]', "access.networks"),
        ('[access]\ncallers = [{ ae_title = "" }]', "access.callers[0].ae_title"),
        (
            '[access]\ncallers = [{ ae_title = "A", certificate_name = "a" }]',
            "certificate_name needs [tls]",
        ),
    ],
)
def test_mistakes_in_the_file(house: House, text: str, words: str) -> None:
    with pytest.raises(SettingsError, match=words.replace("[", r"\[")):
        house.settings(text)


def test_what_is_soon_to_be_mended_is_said(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    def bad(text: str) -> str:
        settings = house.settings(text)
        refuse(settings)  # the node starts all the same
        return "\n".join(seen.sentence for seen in look(settings) if not seen.good)

    assert bad(house.tls()) == ""
    assert "peers refuse it" in bad(house.tls(house.authority.issue("old", days=-2.5)))
    assert "is the clock right?" in bad(house.tls(house.authority.issue("early", days=600)))
    assert "ends in 12 days" in bad(house.tls(house.authority.issue("soon", days=12.5)))
    open_key = house.authority.issue("open")
    open_key.private_key.chmod(0o644)
    assert f"chmod o-rwx {open_key.private_key}" in bad(house.tls(open_key))
    database = 'database = "postgresql+psycopg://node:hidden@db/node"\n'
    assert "node.database holds a password" in bad(database)
    assert "hidden" not in bad(database)
    monkeypatch.setenv("DICOM_NODE__NODE__DATABASE", "as there")
    assert bad(database) == ""


def test_a_destination_has_what_tls_says_unless_it_says_otherwise(house: House) -> None:
    block = '[[destinations]]\nname = "{0}"\nae_title = "A"\nhost = "h"\n'
    own = f'tls = true\nca = "own"\n{house.authority.issue("other").toml}\n'
    settings = house.settings(
        house.tls()
        + block.format("a")
        + "tls = true\n"
        + block.format("b")
        + own
        + block.format("c")
    )
    first, second, third = settings.destinations
    assert (first.certificate, first.ca) == (settings.tls.certificate, settings.tls.ca)
    assert second.ca == "own"
    assert second.certificate.endswith("other.crt")
    assert third.certificate == ""


def test_users_are_kept_as_salted_hashes(house: House) -> None:
    config, path = str(house.write("")), house.folder / "data" / "users"

    def run(*words: str, line: str = "") -> str:
        done = CliRunner().invoke(app, [*words, "--config", config], input=line)
        if done.exception and not isinstance(done.exception, SystemExit):
            raise done.exception
        return done.output

    run("add", "us1", line=f"{PASSCODE}\n")
    run("add", "us2", line=f"{PASSCODE}\n")
    first, second = path.read_text().splitlines()
    assert first.startswith("us1:scrypt:")
    assert first.split(":")[2:] != second.split(":")[2:], "each has a salt of its own"
    assert PASSCODE not in path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600
    assert run("list").split() == ["us1", "us2"]
    with pytest.raises(SettingsError, match="12 to 1024"):
        run("add", "us3", line="short\n")
    with pytest.raises(SettingsError, match="without ':'"):
        run("add", "us:3", line=f"{PASSCODE}\n")
    logins = Logins(path)
    assert logins.check("a", "us2", PASSCODE) is Verdict.RIGHT
    run("remove", "us2")
    assert logins.check("a", "us2", PASSCODE) is Verdict.WRONG, (
        "at once, though it was right before"
    )
    with pytest.raises(SettingsError, match="nobody is called 'us2'"):
        run("remove", "us2")
    path.write_text("us1:md5:x\n")
    with pytest.raises(SettingsError, match="line 1 is no user"):
        read_users(path)


def test_wrong_passcodes_of_one_address_are_none_of_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dicom_node.access.logins.FAILURES", 2)
    add_user(tmp_path / "users", "us1", PASSCODE)
    logins = Logins(tmp_path / "users")
    assert [logins.check("bad", "us1", f"{n}") for n in range(3)] == [
        *[Verdict.WRONG] * 2,
        Verdict.TOO_MANY,
    ]
    assert logins.check("bad", "us1", PASSCODE) is Verdict.TOO_MANY
    assert logins.check("good", "us1", PASSCODE) is Verdict.RIGHT


def test_networks() -> None:
    networks = networks_of(["10.1.0.0/16", "fd00::/8", "192.0.2.7"])
    inside = ("10.1.255.1", "::ffff:10.1.2.3", "fd12::1", "192.0.2.7", "fd00::1%eth0")
    assert all(admits(networks, address) for address in inside)
    assert not any(admits(networks, each) for each in ("10.2.0.1", "fe80::1", "192.0.2.8", ""))
    assert admits((), "192.0.2.8")


def test_the_web_wants_a_login_beyond_loopback(house: House) -> None:
    assert not needs_login(house.settings(""), "127.0.0.1")
    assert needs_login(house.settings(""), "0.0.0.0")
    assert needs_login(house.settings("[access]\nuser_identity = true"), "127.0.0.1")


def test_files_of_an_administrator_belong_to_the_node(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a file away")
    folder = tmp_path / "data"
    folder.mkdir()
    os.chown(folder, 4711, 4711)
    add_user(folder / "users", "us1", PASSCODE)
    status = (folder / "users").stat()
    assert (status.st_uid, status.st_gid) == (4711, 4711)
