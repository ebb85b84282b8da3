# Every target sets up what it needs; only Python >= 3.10 and make have to be there.
PYTHON ?= python3
VENV ?= .venv
VENV_OPENMMLAB ?= .venv-openmmlab
VENV_PLUGINS ?= .venv-plugins
SEED ?= 0
# A wheel for this Python, where there is one; else pip builds mmcv (40 minutes on two cores).
TAG := $(shell $(PYTHON) -c 'import sys; print("cp%d%d" % sys.version_info[:2])')
MMCV ?= $(or $(wildcard ../shared/wheels/mmcv-2.1.0-$(TAG)-*_$(shell uname -m).whl),mmcv==2.1.0)
# A process a core, each test file in one of them. One that ends early ends the suite.
PYTEST = python -m pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder \
  --max-worker-restart 0
NEW_PYTHON = $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Python >= 3.10 needed")'

.PHONY: demo setup test test-fast test-openmmlab setup-plugins test-plugins test-stress lint
.DELETE_ON_ERROR:

demo: $(VENV)/.ready
	@$(VENV)/bin/ibnseg demo --seed $(SEED)

setup: $(VENV)/.ready

$(VENV)/.ready: setup.py constraints.txt
	@echo "setting up $(VENV) (about a minute)"
	@$(NEW_PYTHON)
	@$(PYTHON) -m venv $(VENV)
	@$(VENV)/bin/pip install -q -c constraints.txt -e '.[onedl,fast,hf,test]'
	@touch $@

$(VENV_OPENMMLAB)/.ready: setup.py constraints.txt
	@echo "setting up $(VENV_OPENMMLAB) (OpenMMLab's packages)"
	@$(NEW_PYTHON)
	@$(PYTHON) -m venv $(VENV_OPENMMLAB)
	@$(VENV_OPENMMLAB)/bin/pip install -q -c constraints.txt torch wheel 'setuptools<81'
	@$(VENV_OPENMMLAB)/bin/pip install -q -c constraints.txt --no-build-isolation $(MMCV)
	@$(VENV_OPENMMLAB)/bin/pip install -q -c constraints.txt -e '.[openmmlab,fast,test]'
	@touch $@

setup-plugins: $(VENV_PLUGINS)/.ready

# MMDetection's ReID is MMPretrain's classifier, which needs torchvision: these two go together.
PLUGIN_TORCH = torch==2.14.1 torchvision==0.29.1

$(VENV_PLUGINS)/.ready: setup.py constraints.txt
	@echo "setting up $(VENV_PLUGINS): MMDetection, MMPretrain and timm on OpenMMLab's packages (6 GB, minutes)"
	@echo "mmcv with compiled ops from $(MMCV)$(if $(filter %.whl,$(MMCV)),, (no wheel: pip builds it with a C++ compiler in about 40 minutes))"
	@$(NEW_PYTHON)
	@$(PYTHON) -m venv $(VENV_PLUGINS)
	@grep -v '^torch==' constraints.txt > $(VENV_PLUGINS)/constraints.txt
	@$(VENV_PLUGINS)/bin/pip install -q -c $(VENV_PLUGINS)/constraints.txt $(PLUGIN_TORCH) wheel 'setuptools<81'
	@$(VENV_PLUGINS)/bin/pip install -q -c $(VENV_PLUGINS)/constraints.txt --no-build-isolation $(MMCV)
	@$(VENV_PLUGINS)/bin/pip install -q -c $(VENV_PLUGINS)/constraints.txt -e '.[openmmlab,timm,test]' mmdet mmpretrain
	@touch $@

test: $(VENV)/.ready lint
	@$(VENV)/bin/$(PYTEST)

# While editing: the tests that neither train a network nor draw whole datasets.
test-fast: $(VENV)/.ready lint
	@$(VENV)/bin/$(PYTEST) -m fast

# What the MM packages take part in; the rest is the same on both.
test-openmmlab: $(VENV_OPENMMLAB)/.ready
	@$(VENV_OPENMMLAB)/bin/$(PYTEST) -m 'not one_stack and not slow and not stress'

# ImageNet, detection, re-identification, foundation backbones. All of it runs or fails: nothing is
# skipped for want of a package.
test-plugins: $(VENV_PLUGINS)/.ready
	@IBNSEG_NO_SKIP=1 $(VENV_PLUGINS)/bin/$(PYTEST) tests/plugins tests/test_foundation.py

# Runs ended at random moments, a long run, random inputs; counts: make test-stress KILLS=13
# SIGNALS=20 SOAK=500 EXAMPLES=300.
KILLS ?= 100
SIGNALS ?= 200
SOAK ?= 2000
EXAMPLES ?= 2000
test-stress: $(VENV)/.ready
	@IBNSEG_KILLS=$(KILLS) IBNSEG_SIGNALS=$(SIGNALS) IBNSEG_SOAK=$(SOAK) IBNSEG_SEED=$(SEED) \
	  $(VENV)/bin/python -m pytest -m stress -rP tests/stress
	@IBNSEG_EXAMPLES=$(EXAMPLES) \
	  $(VENV)/bin/python -m pytest --hypothesis-seed=$(SEED) tests/test_fuzz.py

lint: $(VENV)/.ready
	@$(VENV)/bin/ruff check -q .
	@$(VENV)/bin/ruff format --check -q .

