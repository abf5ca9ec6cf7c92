# `make figure3` and `make test` do all the set-up they need.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
NEWEST_PYTHON = $(firstword $(wildcard $(addprefix $(HOME)/.pyenv/versions/,3.13*/bin/python 3.12*/bin/python)) \
    $(shell for v in 3.13 3.12; do python$$v -c '' 2>/dev/null && command -v python$$v; done) $(PYTHON))
OUT ?= runs/figure3-$(shell date +%Y%m%d-%H%M%S)
QUIETLY := --quiet --disable-pip-version-check
SEED ?= 0

.PHONY: figure3 test test-slow test-all test-newest test-accelerators lint package docs clean

figure3: $(VENV)/.installed
	$(BIN)/maven-jax figure3 --configs maven_team qmix --seed $(SEED) --seeds 6 --steps 14000 --out $(OUT)

PYTEST = $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

# What a contributor needs to trust a change; `slow` is what takes more than a few seconds.
test: $(VENV)/.installed-dev
	$(PYTEST) -m "not slow"

test-slow: $(VENV)/.installed-dev
	$(PYTEST) -m slow

test-all: test test-slow

# With the newest Python and packages to be had here: every algorithm trains, the golden cases, and
# what has differed between versions of Python and PyYAML.
test-newest: $(VENV)-newest/.installed
	$(VENV)-newest/bin/python -m pytest -n 2 --dist loadfile $(addprefix tests/,learning/test_golden_learner.py \
	    latents/test_golden_latent.py networks/test_gru.py networks/test_layers.py config/test_config.py \
	    environments/test_checker.py experiments/test_sweep.py) \
	    "tests/training/test_train.py::test_every_form_trains"

# QMIX and MAVEN compiled for an H100 and for TPUs, on a CPU.
test-accelerators: $(VENV)-accelerators/.installed
	JAX_PLATFORMS=cpu $(VENV)-accelerators/bin/python -m pytest tests/test_accelerators.py

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	@find maven_jax/ envs/ -name '*.py' | xargs wc -l | awk '$$2 != "total" && $$1 > 300 \
	    {print $$2 " has " $$1 " lines; allowed: 300"; long = 1} END {exit long}'

# The sdist and the wheel in dist/, installed in an empty environment and tried there.
package:
	PYTHON=$(PYTHON) .ci/package

# The site, in build/site; a broken link or a name without an entry is an error.
docs: $(VENV)/.installed-docs
	NO_MKDOCS_2_WARNING=1 JAX_PLATFORMS=cpu $(BIN)/mkdocs build --strict

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; v = sys.version_info[:2]; (3, 11) <= v <= (3, 13) or sys.exit("maven-jax needs Python 3.11 to 3.13, this is %d.%d: try make PYTHON=python3.12" % v)'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(VENV)/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install $(QUIETLY) -c constraints.txt -e .
	touch $@

$(VENV)/.installed-dev: $(VENV)/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install $(QUIETLY) -c constraints.txt -e '.[dev]'
	touch $@ $(VENV)/.installed

$(VENV)/.installed-docs: $(VENV)/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install $(QUIETLY) -c constraints.txt -e '.[docs]'
	touch $@

# The compilers say on every start of JAX that they find no device: they stay in a place of their own.
$(VENV)-accelerators/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)-accelerators
	$(VENV)-accelerators/bin/python -m pip install $(QUIETLY) -c constraints.txt -e '.[test,accelerators]'
	touch $@

$(VENV)-newest/.installed: pyproject.toml
	$(NEWEST_PYTHON) -m venv $(VENV)-newest
	$(VENV)-newest/bin/python -m pip install $(QUIETLY) -e '.[test]'
	touch $@

clean:
	rm -rf $(VENV) $(VENV)-newest $(VENV)-accelerators build dist *.egg-info
