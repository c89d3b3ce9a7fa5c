# What a developer runs.  Needs make and Python >= 3.11; everything else goes into $(VENV).
#   make demo      merge small models that talk and that read digits, and show that it works
#   make test      lint, types, tests; JOBS=1 runs one at a time, TESTS="tests/core -k plan" some of them
#   make check     lint and types alone
#   make coverage  merge a tiny model of every class of transformers, and count; CLASSES="qwen bert/" tries some
#   make docs      the site of the documentation, in build/site; open build/site/index.html
#   make docs-check  that site looked at in Chromium: links, search, phones, dark and light
#   make pictures  the pictures of commands and of reports in README.md and in the docs
#   make page-pictures  every state of the page of `mergecore ui` in Chromium, in build/page; one of them for the docs
#   make bench     speed and memory, side by side with other tools on PATH; BENCH="--help" shows the options
#   make accuracy  error of each method against the exact result rounded once
#   make in-memory  a merge in memory against that on disk, bit by bit, and what memory it takes
#   make kills     a merge of several documents, killed at random and taken up again; KILLS="--runs 500 --seed 1"
#   make fuzz      random merges against an independent float64 implementation; FUZZ="--runs 2000 --seed 0 --method ties"
#   make evidence  eight experts merged by every method, scored; writes a page of the docs
#   make search-digits  whether a search beats what was tuned by hand in `make evidence`; DIGITS="--seeds 1 --trials 60"
#   make evidence-llm  experts of a real language model, merged and asked; hours; EVIDENCE_LLM="--seeds 1 --method ties"
#   make averaging  last checkpoints averaged, beside the last one and beside a decay of the rate; writes a page of the docs
#   make lm-eval  the evaluators that need other packages, tested beside lm-eval's own command
#   make real-lora  a real LoRA trained, merged, extracted again; what the models say; REAL_LORA="--write-docs"
#   make template  plugins of every kind, with every answer of the tests, baked, installed, tested and used; some minutes
#   make routers   how well routers of every gate mode route; ROUTERS="--mergekit /path/to/mergekit-moe" compares
#   make format    put the code in the form that `check` wants
#   make clean     remove everything that was made here

VENV ?= .venv
PYTHON ?= $(firstword $(foreach name,python3 python3.13 python3.12 python3.11,\
	$(shell $(name) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $(name))))
BENCH ?=
CLASSES ?=
FUZZ ?=
KILLS ?=
ROUTERS ?=
EVIDENCE_LLM ?=
DEMO ?= mergecore-demo
JOBS ?= auto
REAL_LORA ?=
TESTS ?=

BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: demo test check lint types docs docs-check pictures page-pictures coverage bench accuracy in-memory \
	fuzz kills evidence evidence-llm averaging lm-eval real-lora moe4 routers template format clean

demo: $(VENV)/installed
	$(BIN)/mergecore demo --overwrite $(DEMO)

# One thread of torch in each worker: two of each on two cores wait for one another.
test: check
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses $(JOBS) --maxprocesses 8 --dist worksteal $(TESTS)

check: lint types

lint: $(VENV)/installed-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: $(VENV)/installed-dev
	$(BIN)/mypy

coverage: $(VENV)/installed-dev
	PYTHONPATH=tests HF_HUB_OFFLINE=1 $(BIN)/python -m zoo $(CLASSES)

docs: $(VENV)/installed-dev
	PYTHONPATH=docs $(BIN)/python -m build_site build/site
	@echo "the site is in build/site: open build/site/index.html"

docs-check: docs
	PYTHONPATH=docs:tests $(BIN)/python -m build_site.looking build/site

pictures: $(VENV)/installed
	PYTHONPATH=docs $(BIN)/python -m build_site.terminal docs/pictures/merge.svg
	PYTHONPATH=docs:tests $(BIN)/python -m build_site.reports docs/pictures

page-pictures: $(VENV)/installed-dev
	PYTHONPATH=tests $(BIN)/python -m ui_walk build/page docs/pictures

bench: $(VENV)/installed
	$(BIN)/python benchmarks/run.py $(BENCH)

accuracy: $(VENV)/installed
	$(BIN)/python benchmarks/accuracy.py

in-memory: $(VENV)/installed
	$(BIN)/python benchmarks/in_memory.py

kills: $(VENV)/installed-dev
	folder=$$(mktemp -d) && $(BIN)/python tests/interrupted_documents.py $$folder $(KILLS); status=$$?; rm -rf $$folder; exit $$status

moe4: $(VENV)/installed-dev
	$(BIN)/python benchmarks/moe_in_transformers4.py $(PYTHON4)

fuzz: $(VENV)/installed-dev
	PYTHONPATH=tests $(BIN)/python -m fuzz $(FUZZ)

evidence: $(VENV)/installed
	$(BIN)/python benchmarks/evidence.py --write-docs

search-digits: $(VENV)/installed-dev
	$(BIN)/python benchmarks/search_digits.py $(DIGITS)

evidence-llm: $(VENV)/installed
	$(INSTALL) --editable '.[bench]'
	$(BIN)/python -m benchmarks.evidence_llm --write-docs $(EVIDENCE_LLM)

averaging: $(VENV)/installed
	$(BIN)/python benchmarks/averaging.py --write-docs

lm-eval: $(VENV)/installed-dev
	$(INSTALL) --editable '.[lm-eval,sentence-transformers]'
	$(BIN)/python -m pytest tests/contrib/evaluators

real-lora: $(VENV)/installed
	$(INSTALL) --editable '.[bench]'
	$(BIN)/python benchmarks/real_lora.py $(REAL_LORA)

template: $(VENV)/installed-dev
	EVERY_ANSWER=1 $(BIN)/python -m pytest --numprocesses $(JOBS) --maxprocesses 8 --dist worksteal \
		tests/packaging/test_plugins_of_every_kind.py tests/packaging/test_cookiecutter.py

routers: $(VENV)/installed
	$(BIN)/python benchmarks/routers.py $(ROUTERS)

format: $(VENV)/installed-dev
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

clean:
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis mergecore-demo
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed; say where: make PYTHON=/path/to/python3" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

# Entry points are metadata, so a change of a pyproject.toml installs anew.
PROJECTS := pyproject.toml contrib/mergecore-spectral/pyproject.toml
CONTRIB := --editable ./contrib/mergecore-spectral

$(VENV)/installed: $(PROJECTS) constraints.txt | $(BIN)/python
	@echo "installing into $(VENV); the first time takes some minutes"
	$(INSTALL) --editable . $(CONTRIB)
	@touch $@

$(VENV)/installed-dev: $(PROJECTS) constraints.txt | $(BIN)/python
	@echo "installing into $(VENV); the first time takes some minutes"
	$(INSTALL) --editable '.[dev,docs,search,ui]' $(CONTRIB)
	$(INSTALL) --no-deps axe-playwright-python  # only for the axe.min.js in it; it never starts a playwright
	@touch $@ $(VENV)/installed
