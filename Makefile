# Everything happens in a virtual environment inside the checkout.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test slow test-gpu lint docs nano clean

## demo: install, then fit an adapter on synthetic scenes in which only the geometry varies
demo: $(VENV)/demo.stamp
	$(BIN)/lorasub fit --config configs/geometry.yaml

## test: install, then run the default tests on two processes
test: $(VENV)/test.stamp
	# two workers of two spinning threads each would share two cores
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2

## slow: the tests that take minutes
slow: $(VENV)/test.stamp
	$(BIN)/python -m pytest -m slow

## test-gpu: the tests that need a GPU; with GPU_PACKAGES=folder on a machine without a network, see benchmarks/gpu
ifdef GPU_PACKAGES
test-gpu:
	PYTHONPATH=$(GPU_PACKAGES):. $(PYTHON) -m pytest -m gpu tests/gpu
else
test-gpu: $(VENV)/test.stamp
	$(BIN)/python -m pytest -m gpu tests/gpu
endif

## lint: style, formatting, types
lint: $(VENV)/test.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

## docs: the pages, into docs/_build/html; a warning is an error
docs: $(VENV)/docs.stamp
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build/html

## nano: everything that is shipped for the preset nano, from nothing: its weights (hours), then the attributes' bases
NANO := lorasub/backbones/weights/nano.safetensors
nano: $(VENV)/demo.stamp
	$(BIN)/lorasub fit --config configs/pretrain_nano.yaml
	cp runs/pretrain_nano/scratch/backbone/model.safetensors $(NANO)
	sed -i "s/sha256=\"[0-9a-f]*\"/sha256=\"$$(sha256sum $(NANO) | cut -c1-64)\"/" lorasub/backbones/vggt/presets.py
	$(BIN)/python -m benchmarks reference_bases
	$(BIN)/python -m benchmarks backbone --sensitivity 100 --json runs/pretrain_nano/backbone.json

clean:
	rm -rf $(VENV) docs/_build docs/_generated .pytest_cache .mypy_cache .ruff_cache

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/demo.stamp: $(VENV)/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install -q -c constraints.txt -e .
	touch $@

$(VENV)/test.stamp: $(VENV)/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install -q -c constraints.txt -e ".[test]"
	touch $@

$(VENV)/docs.stamp: $(VENV)/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install -q -c constraints.txt -e ".[docs]"
	touch $@
