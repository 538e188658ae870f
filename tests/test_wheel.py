"""The node as a site gets it: a wheel in an environment of its own, far from any checkout."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import venv
import zipfile
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import pytest
from packaging.metadata import Metadata
from packaging.requirements import Requirement

from models.training.config import load as load_config
from tests.models.conftest import CONFIG

ROOT = Path(__file__).parents[1]
FILES = (
    "node.toml",
    "layer.toml",
    "dicom-node.service",
    "alerts.yml",
    "OPERATIONS.md",
    "ALERTS.md",
)


@dataclass(frozen=True)
class Installed:
    """An environment with the wheel, and an empty folder to work in."""

    wheel: Path
    environment: Path
    work: Path

    @property
    def surroundings(self) -> dict[str, str]:
        known = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        return known | {"OMP_NUM_THREADS": "1", "COLUMNS": "200"}

    def run(self, *arguments: str | Path, status: int = 0) -> subprocess.CompletedProcess[str]:
        """One command of the installed program; fails where it ends otherwise."""
        command = [self.environment / "bin" / "dicom-node", *map(str, arguments)]
        done = subprocess.run(
            command,
            cwd=self.work,
            env=self.surroundings,
            capture_output=True,
            text=True,
            timeout=240,
        )
        assert done.returncode == status, f"{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr
        return done


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """The wheel of what the container's build copies, beside the libraries that are here already."""
    if not find_spec("hatchling"):
        pytest.skip("hatchling is not installed")
    folder = tmp_path_factory.mktemp("wheel")
    source, work = folder / "source", folder / "work"
    work.mkdir()
    _copy_as_the_container_does(source)
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder]
    subprocess.run(build, cwd=source, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    environment = folder / "environment"
    venv.create(environment, with_pip=False)
    python = environment / "bin" / "python"
    (packages,) = environment.glob("lib/python3*/site-packages")
    here = [path for path in sys.path if path.endswith("site-packages")]
    (packages / "libraries.pth").write_text("\n".join(here))
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", python]
    command = [*pip, "install", "--quiet", "--no-index", "--no-deps", "--ignore-installed", wheel]
    subprocess.run(command, check=True, env=Installed(wheel, environment, work).surroundings)
    shutil.rmtree(source)
    return Installed(wheel, environment, work)


def _copy_as_the_container_does(to: Path) -> None:
    """The COPY lines of the build, of what .dockerignore lets through."""
    allowed = (ROOT / "deploy" / "Dockerfile.dockerignore").read_text().splitlines()
    recipe = (ROOT / "deploy" / "Dockerfile").read_text()
    for line in re.findall(r"^COPY (?!--)(.+)$", recipe, re.MULTILINE):
        *names, target = line.split()
        for name in names:
            assert f"!{name}" in allowed
            place = to / target / (name if (ROOT / name).is_file() else "")
            place.parent.mkdir(parents=True, exist_ok=True)
            if (ROOT / name).is_file():
                shutil.copy(ROOT / name, place)
            else:
                ignored = shutil.ignore_patterns("__pycache__")
                shutil.copytree(ROOT / name, place, symlinks=True, ignore=ignored)


@pytest.fixture(scope="module")
def phantoms(installed: Installed) -> Path:
    """Two persons' scans, analyzed, and the table that says who they are."""
    rows = ["subject,study,pain"]
    for seed in (1, 2):
        installed.run("phantom", "--out", f"study{seed}", "--seed", str(seed), "--size", "4x128x96")
        shutil.copytree(
            installed.work / f"study{seed}" / "dicom", installed.work / "data" / str(seed)
        )
    installed.run("process", "data", "--out", "results")
    found = json.loads((installed.work / "results" / "findings.json").read_text())
    for number, study in enumerate(found["studies"]):
        rows.append(f"person{number},{study['study_instance_uid']},{number % 2}")
    for path in (installed.work / "results").glob("*/*.dcm"):
        shutil.copy(path, installed.work / "data" / f"{path.parent.name}-{path.name}")
    (installed.work / "data" / "subjects.csv").write_text("\n".join(rows))
    return installed.work / "data"


@pytest.mark.peer
def test_the_wheel_runs_by_itself(installed: Installed) -> None:
    program = "import dicom_node, models, models.layer; print(dicom_node.__file__, models.__file__)"
    python = installed.environment / "bin" / "python"
    done = subprocess.run(
        [python, "-c", program], cwd=installed.work, env=installed.surroundings,
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert all(str(installed.environment) in path for path in done.stdout.split())
    assert "Research use only" in installed.run("--version").stdout
    assert installed.run("conformance").stdout == (ROOT / "deploy" / "CONFORMANCE.md").read_text()


@pytest.mark.peer
def test_init_writes_what_a_site_needs_and_overwrites_nothing(installed: Installed) -> None:
    said = installed.run("init", "--out", "etc").stdout
    folder = installed.work / "etc"
    assert sorted(path.name for path in folder.iterdir()) == sorted(FILES)
    assert "check --config etc/node.toml" in said
    assert (folder / "node.toml").read_text() == (ROOT / "config" / "node.toml").read_text()
    unit = (folder / "dicom-node.service").read_text()
    start = f"{installed.environment}/bin/dicom-node serve --config {folder}/node.toml"
    assert f"\nExecStart={start}\n" in unit
    installed.run("init", "--out", "etc")
    (folder / "node.toml").write_text("# mine\n")
    (folder / "alerts.yml").unlink()
    said = installed.run("init", "--out", "etc", status=2).stderr
    assert "node.toml is there already" in said
    assert "--force" in said
    assert (folder / "node.toml").read_text() == "# mine\n"
    assert not (folder / "alerts.yml").exists()
    installed.run("init", "--out", "etc", "--force")
    assert tomllib.loads((folder / "node.toml").read_text())["receive"]["port"] == 11112


@pytest.mark.peer
def test_a_node_is_checked_served_and_sent_to(installed: Installed, phantoms: Path) -> None:
    installed.run("init", "--out", "served")
    config = installed.work / "served" / "node.toml"
    own = f'data_dir = "{installed.work / "kept"}"'
    text = (
        config.read_text()
        .replace('data_dir = "node-data"', own)
        .replace("port = 11112", "port = 0")
    )
    config.write_text(text)
    checked = installed.run("check", "--config", config, status=1).stdout
    assert re.findall(r"│ (\w+) +│ fix", checked) == ["destinations"], checked
    command = [installed.environment / "bin" / "dicom-node", "serve", "--config", config]
    command += ["--role", "receive"]
    with subprocess.Popen(
        command, cwd=installed.work, env=installed.surroundings, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    ) as node:  # fmt: skip
        try:
            assert node.stdout is not None
            port = json.loads(node.stdout.readline())["port"]
            installed.run(
                "send", phantoms.parent / "study1" / "dicom", "--to", f"DICOM_NODE@127.0.0.1:{port}"
            )
        finally:
            node.terminate()
    listed = json.loads(installed.run("jobs", "list", "--json", "--config", config).stdout)
    assert len(listed) == 1


@pytest.mark.peer
def test_the_tour_ends_with_commands_that_work(installed: Installed) -> None:
    said = installed.run("demo", "--out", "tour").stdout
    steps = said.split("next ", 1)[1].splitlines()
    assert [line.split()[1] for line in steps[:3]] == ["init", "check", "serve"]
    programs = {line.split()[0] for line in steps[:3]}
    assert programs == {str(installed.environment / "bin" / "dicom-node")}
    installed.run(*steps[0].split()[1:])
    assert (installed.work / steps[1].split()[-1]).is_file()


@pytest.mark.peer
def test_training_and_evaluation_need_no_checkout(installed: Installed, phantoms: Path) -> None:
    (package,) = installed.environment.glob("lib/python3*/site-packages/models/training")
    assert load_config(package / "layer.toml") == load_config(ROOT / "config" / "layer.toml")
    (installed.work / "tiny.toml").write_text(CONFIG.replace("steps = 40", "steps = 2"))
    training = ("train", "layer", "--data", phantoms, "--out", "trained")
    assert "--own" in installed.run(*training, status=1).stderr
    installed.run(*training, "--own", "--config", "tiny.toml")
    card = (installed.work / "trained" / "weights.toml").read_text()
    assert "masks of 2 of 2 scans are this program's own results" in card
    installed.run("cohort", "results", "--out", "c", "--subjects", phantoms / "subjects.csv")
    installed.run("evaluate", "layer", "--summary", "--volumes", "1", "--out", "measured")
    assert (installed.work / "measured" / "evaluation.json").exists()


@pytest.mark.peer
def test_every_library_is_bounded_and_the_wheels_own_constraints_fit(installed: Installed) -> None:
    with zipfile.ZipFile(installed.wheel) as wheel:
        (name,) = (name for name in wheel.namelist() if name.endswith("/METADATA"))
        metadata = Metadata.from_email(wheel.read(name), validate=False)
        text = wheel.read("dicom_node/install/constraints.txt").decode()
    pins = dict(line.lower().replace("_", "-").split("==") for line in text.split())
    for requirement in metadata.requires_dist or ():
        _check_bounds(requirement, pins)


def _check_bounds(requirement: Requirement, pins: dict[str, str]) -> None:
    name = requirement.name.lower().replace("_", "-")
    if name == "dicom-node":
        return
    bounds = {item.operator for item in requirement.specifier}
    assert bounds in ({">=", "<"}, {"=="}), requirement
    assert requirement.specifier.contains(pins[name]), requirement
