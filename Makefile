# Two commands do everything on a fresh Debian machine with Python 3.11+, make and pip:
#   make demo    the main job on the embedded default
#   make test    all tests
# make wheel builds dist/*.whl, which deploy/OPERATIONS.md installs; it needs neither .venv nor the libraries.
# Also: make bench (seconds and memory), make bench-receive (the receiver beside DCMTK and Orthanc),
# make bench-pipeline (queue, database, outages; needs Postgres), make bench-status (status page and commands at
# 100,000 studies), make attack (what hostile senders achieve), make chaos (kill -9 under load, KILLS times),
# make soak (ASSOCIATIONS of every kind: what the receiver keeps of them), make faults (full disks, a clock that is
# set, peers that fall silent, memory that is short; as root, FAULTS=disk for some), make lint.
# On a machine without a GPU, the small CPU build of torch:
#   make demo TORCH_INDEX=https://download.pytorch.org/whl/cpu

PYTHON ?= python3
OUT ?= demo-output
TORCH_INDEX ?=
KILLS ?= 200
ASSOCIATIONS ?= 10000
FAULTS ?=
BIN := .venv/bin
TORCH := $(shell sed -n '/^torch==/p' constraints.txt)

.PHONY: demo test wheel bench bench-receive bench-pipeline bench-status attack chaos soak faults lint clean

demo: .venv/.ready
	$(BIN)/dicom-node demo --out $(OUT)

# The tests start some hundred processes: each would compile all sources anew where bytecode is not to be written.
test: .venv/.ready
	OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE= $(BIN)/pytest -n 3 --dist worksteal tests

wheel:
	rm -rf dist
	$(PYTHON) -m pip wheel --disable-pip-version-check --no-deps --wheel-dir dist .

bench: .venv/.ready
	$(BIN)/python tests/bench.py
	$(BIN)/python -m tests.bench_report

bench-receive: .venv/.ready
	$(BIN)/python -m tests.bench_receive $(BENCH)

bench-pipeline: .venv/.ready
	$(BIN)/python -m tests.bench_pipeline
	$(BIN)/python -m tests.bench_outage

bench-status: .venv/.ready
	$(BIN)/python -m tests.bench_status

attack: .venv/.ready
	$(BIN)/python -m tests.attack

chaos: .venv/.ready
	$(BIN)/python -m tests.chaos --kills $(KILLS)
	$(BIN)/python -m tests.chaos --kills $(KILLS) --database postgres

soak: .venv/.ready
	$(BIN)/python -m tests.soak --associations $(ASSOCIATIONS)

faults: .venv/.ready
	$(BIN)/python -m tests.faults $(FAULTS)

lint: .venv/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf .venv $(OUT)

# torch first, alone and at its exact pin: asked for by another package, pip may choose a build of several GB.
.venv/.ready: constraints.txt pyproject.toml
	@echo "Setting up .venv (once, a few minutes)"
	@$(PYTHON) -c "import sys; sys.exit(0 if (3, 11) <= sys.version_info < (3, 14) else 'Python 3.11 to 3.13 is needed; name one with PYTHON=')"
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --disable-pip-version-check $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) $(TORCH)
	$(BIN)/pip install --disable-pip-version-check -c constraints.txt -e ".[test]"
	@touch $@
