# `make demo` and `make test` do everything on a fresh machine; they need Python >= 3.11 and nothing else.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO := demo

# The package is installed in place. A file added or removed, or another set of dependencies, makes it install again.
STAMP := $(shell (find landscape models probes figures \( -name '*.py' -o -name '*.toml' -o -name '*.cpp' -o -name '*.css' -o -name '*.js' -o -name '*.html' \) | sort; cat pyproject.toml constraints.txt) | cksum | cut -d' ' -f1)
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --config-settings editable_mode=strict

.PHONY: demo check test test-fast test-lowest lint format types bench docs gallery dist clean help

help:
	@echo "make demo       install, then a small study from training to the page: a few minutes"
	@echo "make check      before a commit: format, lint, types, the order of the rooms: seconds"
	@echo "make test-fast  before a push: all but the slow tests"
	@echo "make test       everything, what CI runs: about twenty minutes on two cores"
	@echo "make test-lowest  the fast tests with the lowest versions of all dependencies: about six minutes"
	@echo "make docs       build the documentation into build/site: about two minutes, then seconds"
	@echo "make gallery    make the pictures of the documentation alone: about a minute"
	@echo "make dist       sdist and wheel, into dist"
	@echo "make format     format the code"
	@echo "make bench      time the curvature engine against other libraries"
	@echo "make clean      remove the environment and everything that was made"

$(VENV)/installed-$(STAMP):
	$(PYTHON) -m venv $(VENV)
	rm -rf build $(VENV)/installed-* $(VENV)/developer-* $(VENV)/docs-*
	$(PIP) -e .
	touch $@

# With the tools of developers, in one go: installed twice it would be built twice.
$(VENV)/developer-$(STAMP):
	$(PYTHON) -m venv $(VENV)
	rm -rf build $(VENV)/installed-* $(VENV)/developer-* $(VENV)/docs-*
	$(PIP) -e ".[dev]"
	touch $(VENV)/installed-$(STAMP) $@

$(VENV)/docs-$(STAMP):
	$(PYTHON) -m venv $(VENV)
	rm -rf build $(VENV)/installed-* $(VENV)/developer-* $(VENV)/docs-*
	$(PIP) -e ".[dev,docs]"
	touch $(VENV)/installed-$(STAMP) $(VENV)/developer-$(STAMP) $@

demo: $(VENV)/installed-$(STAMP)
	$(BIN)/landscape reproduce --preset quick --jobs 2 -o $(DEMO)
	$(BIN)/landscape verdict $(DEMO)/runs/markov
	@echo "Open $(DEMO)/report.html; the pictures are in $(DEMO)/figures, the runs in $(DEMO)/runs/markov."

lint: $(VENV)/developer-$(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(VENV)/developer-$(STAMP)
	cd build && ../$(BIN)/mypy --config-file ../pyproject.toml -p landscape

format: $(VENV)/developer-$(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

check: lint types
	$(BIN)/pytest -q -m "not slow" tests/house/test_house.py

# One worker begins with the slow tests (tests/conftest.py), the other in the middle; the one that is done first takes
# from the end of what the other has left.
PYTEST := $(BIN)/pytest -n 2 --dist worksteal

test: lint types
	$(PYTEST)

test-fast: $(VENV)/developer-$(STAMP)
	$(PYTEST) -m "not slow"

# A check on tiny models, no result; docs/benchmarks.md has the commands that measure. Other libraries are compared with
# where they are installed: pip install landscaper "curvlinops-for-pytorch<4" hessian-eigenthings
bench: $(VENV)/developer-$(STAMP)
	$(BIN)/python benchmarks/curvature.py --quick --repeats 1 -o build/benchmarks
	$(BIN)/python benchmarks/report.py --results build/benchmarks --write build/benchmarks/benchmarks.md

# The lower bounds of pyproject.toml, for real: pins say which versions, an environment of its own holds them.
LOWEST := .venv-lowest
test-lowest:
	$(PYTHON) -m venv $(LOWEST)
	$(LOWEST)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints-lowest.txt \
	  --config-settings editable_mode=strict -e . pytest pytest-xdist hypothesis "setuptools>=77"
	$(LOWEST)/bin/pytest -n 2 --dist worksteal -m "not slow" -p no:cacheprovider

# Pictures are made once for a state of the package, notebooks when they change, pages always. Warnings are errors.
gallery: $(VENV)/docs-$(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python docs/gallery.py build/gallery

docs: gallery
	$(BIN)/sphinx-build -b html -E -W --keep-going -q -d build/doctrees docs build/site
	$(BIN)/python docs/check_site.py build/site
	@echo "Open build/site/index.html"

dist: $(VENV)/developer-$(STAMP)
	rm -rf dist
	$(BIN)/python -c "from setuptools import build_meta as b; print(b.build_sdist('dist'))"
	$(BIN)/python -m pip wheel --quiet --no-deps --no-build-isolation -w dist dist/*.tar.gz

clean:
	rm -rf $(VENV) $(LOWEST) build dist $(DEMO) *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
