# agedge: `make help` lists the targets.
.DEFAULT_GOAL := all
SHELL := /bin/sh

VENV := .venv
PY := $(VENV)/bin/python
STAMP := $(VENV)/.installed
RUFF = $(VENV)/bin/ruff check -q . && $(VENV)/bin/ruff format -q --check .
PYRIGHT = $(VENV)/bin/pyright --warnings
TESTS = $(PY) -m pytest -n auto --maxprocesses 4 --dist worksteal
# Newest first; a name that is there but does not run (a pyenv shim without its version) is passed over.
FIND_PYTHON = for p in $(PYTHON) python3.11 python3.10 python3.9 python3; do \
	"$$p" -c 'import sys, venv, ensurepip; sys.exit(not (3, 9) <= sys.version_info < (3, 12))' 2>/dev/null && { echo "$$p"; break; }; done

# What libmxnet.so of mxnet-cu112 asks for; all but the driver's libcuda.so.1 is on PyPI.
CUDA := $(addsuffix -cu11,$(addprefix nvidia-,cuda-runtime cublas cufft curand cusolver cudnn cuda-nvrtc nccl nvtx))
DEMO_MODEL := out/demo/runs/mobilenet025-wiki
DEMO_VAL := out/demo/data/packed/wiki/val.rec

.PHONY: all test test-all lint demo gpu bench clean help

all: $(STAMP)  ## .venv with everything, Cython helpers built
	@$(PY) -c "from agedge.faces import boxes; print('ready: $(PY); box helpers in', 'Cython' if boxes._boxes else 'NumPy')"

$(STAMP): pyproject.toml setup.py constraints.txt $(addprefix src/agedge/,faces/_boxes.pyx faces/_patches.pyx training/data/_augment.pyx training/data/_warp.h)
	@python=$$($(FIND_PYTHON)); \
	if [ -z "$$python" ]; then echo "make: Python 3.9, 3.10 or 3.11 (with venv) is needed and was not found; PYTHON=/path/to/python3.11 make names one" >&2; exit 1; fi; \
	echo "using $$("$$python" --version) ($$python)"; \
	test -x $(PY) || "$$python" -m venv $(VENV)
	$(PY) -m pip install -q --disable-pip-version-check -c constraints.txt setuptools wheel cython numpy
	$(PY) -m pip install -q --disable-pip-version-check -c constraints.txt --no-build-isolation -e '.[train,export,test]'
	@# These three come without their dependencies. gluoncv pulls a second, GUI OpenCV over the headless one; pnnx
	@# declares torch, which its binary does not need; of mtcnn only the weights are used, and those also serve the
	@# Python 3.9 that it refuses.
	$(PY) -m pip install -q --disable-pip-version-check -c constraints.txt --no-deps --ignore-requires-python gluoncv pnnx mtcnn
	@touch $@

test: $(STAMP)  ## set up, then ruff, pyright and all fast tests
	$(RUFF)
	$(PYRIGHT)
	$(TESTS)

test-all: $(STAMP)  ## the slow tests too
	$(TESTS) -m "slow or not slow"

lint: $(STAMP)  ## ruff, pyright, and the architecture (imports, circles, sizes of rooms and files)
	$(RUFF)
	$(PYRIGHT)
	$(PY) -m pytest tests/test_house.py

demo: $(STAMP)  ## the whole pipeline on drawn faces: draw, pack, train, fine-tune, evaluate, detect, export, check
	rm -rf out/demo
	DEMO=1 DATA_DIR=out/demo/data RUNS=out/demo/runs sh train.sh
	$(PY) evaluate.py --model $(DEMO_MODEL) --data $(DEMO_VAL) --json out/demo/evaluation.json --report out/demo
	$(PY) -m deploy export --model $(DEMO_MODEL) --to onnx,ncnn --out out/demo/export
	$(PY) -m deploy check --model $(DEMO_MODEL) --exported out/demo/export --data $(DEMO_VAL)
	$(PY) test.py --det 0 --model out/demo/export --runtime ncnn --save out/demo/pictures --json out/demo/faces.jsonl
	$(PY) test.py --det 0 --model models/mobilenet025 --save out/demo/pictures-shipped
	@echo "demo: done; see out/demo: runs/*/curves.png, errors.png, pictures/, export/"

gpu: $(STAMP)  ## mxnet-cu112 and the CUDA 11 libraries in place of the CPU build
	$(PY) -m pip uninstall -q -y mxnet
	$(PY) -m pip install -q --disable-pip-version-check -c constraints.txt --no-deps mxnet-cu112 $(CUDA)
	$(PY) -m agedge.gpu

bench: $(STAMP)  ## what is timed; nothing else should be running
	$(PY) -m benchmarks.packing
	$(PY) -m benchmarks.training
	$(PY) -m benchmarks.boxes

clean:  ## remove .venv and what was built; data, runs and models stay
	rm -rf $(VENV) build src/*.egg-info src/agedge/*/_*.c src/agedge/*/*/_*.c src/agedge/*/*.so src/agedge/*/*/*.so

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12
