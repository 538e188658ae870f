"""Imports flow one way, the receiver stays light, and the README draws the tree that is there."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SEAM = "models.scan models.findings models.analysis"
BASE = "dicom_node.__version__ dicom_node.settings dicom_node.errors dicom_node.reasons"
CARRY = (
    f"{BASE} dicom_node.checkpoint dicom_node.clock dicom_node.disk dicom_node.index dicom_node.study "
    f"dicom_node.files dicom_node.headers dicom_node.patient {SEAM} pydicom"
)
WATCHED = "dicom_node.audit dicom_node.counters dicom_node.pseudonyms"
VERBS = (
    "dicom_node.receive dicom_node.assemble dicom_node.analyze dicom_node.report dicom_node.deliver"
)
ALLOWED = {
    "dicom_node.reasons": "",
    "dicom_node.errors": "dicom_node.reasons",
    "dicom_node.settings": "dicom_node.errors",
    "dicom_node.options": "",
    "dicom_node.install": "dicom_node.errors",
    "dicom_node.orders": "dicom_node.options",
    "dicom_node.access": f"{BASE} dicom_node.options",
    "dicom_node.counters": "",
    "dicom_node.disk": "",
    "dicom_node.checkpoint": "pynetdicom",
    "dicom_node.clock": "",
    "dicom_node.files": f"{BASE} pydicom",
    "dicom_node.files.objects": f"{BASE} dicom_node.files.cache dicom_node.files.content "
    "dicom_node.files.folder s3fs botocore aiohttp",
    "dicom_node.pseudonyms": BASE,
    "dicom_node.audit": f"{BASE} {WATCHED}",
    "dicom_node.web": (
        f"{BASE} {WATCHED} dicom_node.access dicom_node.disk dicom_node.files dicom_node.index "
        "dicom_node.jobs dicom_node.lookup"
    ),
    "dicom_node.index": f"{BASE} dicom_node.study dbos",
    "dicom_node.migrations": f"{BASE} dicom_node.disk dicom_node.index",
    "dicom_node.patient": "pydicom",
    "dicom_node.headers": "pydicom",
    "dicom_node.study": f"{BASE} dicom_node.headers dicom_node.patient {SEAM} pydicom",
    "dicom_node.scanner": f"{BASE} dicom_node.study {SEAM} pydicom",
    "dicom_node.analyze": f"{CARRY} dicom_node.logs",
    "dicom_node.receive": f"{CARRY} {WATCHED} dicom_node.access pynetdicom dbos",
    "dicom_node.deliver": f"{CARRY} dicom_node.access pynetdicom",
    "dicom_node.assemble": f"{CARRY} highdicom",
    "dicom_node.report": f"{CARRY} highdicom",
    "dicom_node.cohort": f"{BASE} models.findings models.subjects pydicom",
    "dicom_node.conformance": "dicom_node models.findings pydicom pynetdicom",
    "dicom_node.pipeline": f"{CARRY} {WATCHED} {VERBS} dbos",
    "dicom_node": f"dicom_node {SEAM} pydicom dbos",
    "models.scan": "",
    "models.findings": "models.scan",
    "models.analysis": "models.scan models.findings",
    "models.codes": "models.findings",
    "models.subjects": "",
    "models.steps": f"{SEAM} models.codes torch monai captum SimpleITK",
    "models.phantom": f"{SEAM} SimpleITK",
    "models": "models torch monai captum SimpleITK",
}
GUARDED = [
    "dicom_node",
    "models",
    "pydicom",
    "pynetdicom",
    "highdicom",
    "dbos",
    "torch",
    "monai",
    "captum",
    "SimpleITK",
    "s3fs",
    "botocore",
    "aiohttp",
]
PACKAGES = ("dicom_node", "models")


def under(name: str, parts: list[str]) -> str | None:
    """The longest of ``parts`` that ``name`` is or lies below."""
    return max((p for p in parts if name == p or name.startswith(f"{p}.")), key=len, default=None)


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno} relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def sources() -> list[Path]:
    return [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def violations(path: Path) -> list[str]:
    part = under(module_name(path), list(ALLOWED))
    assert part, path
    allowed = [part, *ALLOWED[part].split()] if "." in part else ALLOWED[part].split()
    return [
        f"{path.relative_to(ROOT)} imports {name}"
        for name in imports(path)
        if under(name, GUARDED) and not under(name, allowed)
    ]


@pytest.mark.parametrize("path", sources(), ids=module_name)
def test_imports_flow_one_way(path: Path) -> None:
    assert violations(path) == []


def test_an_analysis_never_imports_another() -> None:
    analyses = {path.parent.name for path in (ROOT / "models").glob("*/labels.py")}
    for path in sources():
        part = module_name(path).split(".")
        if part[0] == "models" and len(part) > 1 and part[1] in analyses:
            for name in imports(path):
                other = name.split(".")[1:2] if name.startswith("models.") else []
                assert not (set(other) & (analyses - {part[1]})), f"{path} imports {name}"


def test_the_receiving_process_never_imports_torch() -> None:
    program = (
        "import sys, dicom_node.node, dicom_node.receive, dicom_node.pipeline, dicom_node.deliver\n"
        "heavy = {'torch', 'monai', 'captum', 'SimpleITK', 'dicom_node.cohort'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr


def test_files_functions_and_parameters_stay_small() -> None:
    too_big = []
    for path in sources():
        text = path.read_text(encoding="utf-8")
        if text.count("\n") > 400:
            too_big.append(f"{path}: {text.count(chr(10))} lines")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                doc = node.body[0] if ast.get_docstring(node) else None
                doc_lines = (doc.end_lineno or 0) - doc.lineno + 1 if doc else 0
                lines = (node.end_lineno or 0) - node.lineno + 1 - doc_lines
                if lines > 50:
                    too_big.append(f"{path}:{node.lineno} {node.name}: {lines} lines")
    assert too_big == []


def test_one_broad_except() -> None:
    broad = [
        f"{module_name(path)}:{node.lineno}"
        for path in sources()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ExceptHandler)
        and (
            node.type is None
            or (isinstance(node.type, ast.Name) and node.type.id in ("Exception", "BaseException"))
        )
    ]
    assert len(broad) <= 1, broad
    assert all(place.startswith("dicom_node.receive") for place in broad), broad


def test_the_readme_draws_the_real_tree() -> None:
    drawn = set(re.findall(r"^([\w./-]+?)/?  +\S", _readme_block("The tree"), flags=re.MULTILINE))
    listed = subprocess.run(
        ["git", "ls-files"], capture_output=True, text=True, cwd=ROOT, check=True
    )
    files = [Path(line) for line in listed.stdout.splitlines()]
    real = {file.parts[0] for file in files if not file.parts[0].startswith(".")}
    for package in PACKAGES:
        real |= {
            f"{package}/{file.parts[1]}"
            for file in files
            if file.parts[0] == package and file.parts[1] != "__init__.py"
        }
    assert drawn == real


def test_the_readme_names_every_command() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    commands = []
    for module, prefix in (("cli", ""), ("jobs_cli", "jobs ")):
        source = (ROOT / "dicom_node" / f"{module}.py").read_text(encoding="utf-8")
        pattern = r'^@app\.command\((?:"(\w+)")?\)\n(?:@\w+\n)*def (\w+)'
        found = re.findall(pattern, source, flags=re.MULTILINE)
        commands += [f"{prefix}{named or function}" for named, function in found]
    assert len(commands) >= 12
    missing = [name for name in commands if f"dicom-node {name}" not in text]
    assert missing == []


def _readme_block(heading: str) -> str:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    section = text.split(f"## {heading}\n", 1)[1]
    return section.split("```", 2)[1]
