# Everything that a user or CI runs. Two commands need nothing but Python >= 3.11: make demo, make test.
PYTHON ?= python3
BIN := .venv/bin
# What commands import is compiled by `compileall`, on all processors; what only tests do (torch is large), at its import.
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile

.PHONY: demo test lint ui bench rivals soak lock clean

demo: .venv/installed
	$(BIN)/rag demo

ui: .venv/installed
	$(BIN)/rag ui

# Where it is set, each process compiles our modules anew: 6 s in each test process, 0.15 s in each command.
unexport PYTHONDONTWRITEBYTECODE

# Four processes on two cores, too: half of the time is waiting for servers.
test: .venv/installed-dev
	$(BIN)/python -m pytest -n 4 --dist loadfile --no-loadscope-reorder

lint: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

# About two hours on a quiet machine; single rows: .venv/bin/python -m tests.benchmarks --only 1 "3 command"
bench: .venv/installed-dev
	-$(MAKE) --no-print-directory rivals
	$(BIN)/python -m tests.benchmarks

# What ingestion is measured beside, at its newest: an environment each, as they ask for different versions of pymilvus.
rivals: .rivals/langchain/installed .rivals/llama_index/installed

.rivals/langchain/installed: PACKAGES = langchain-classic langchain-milvus langchain-text-splitters 'psycopg[binary]' \
	'sqlalchemy[asyncio]'
.rivals/llama_index/installed: PACKAGES = llama-index-core llama-index-vector-stores-milvus \
	llama-index-storage-docstore-postgres langchain-text-splitters

.rivals/%/installed:
	$(PYTHON) -m venv .rivals/$*
	.rivals/$*/bin/python -m pip install --quiet --disable-pip-version-check $(PACKAGES) numpy psutil
	touch $@

# The long forms, by hand: random kills with every invariant after each, and whole commands killed.
soak: .venv/installed-dev
	$(BIN)/python -m tests.faults.soak --rounds 1000 --minutes 120
	RAG_FAULT_ROUNDS=50 $(BIN)/python -m pytest tests/faults/test_kills.py
	RAG_SWEEP=whole $(BIN)/python -m pytest tests/faults/test_sweep_*.py
	RAG_STATEFUL=1000,50 RAG_MISREADS=10000 $(BIN)/python -m pytest --hypothesis-profile=exploring \
		tests/faults/test_stateful.py tests/stores/test_misreads.py tests/unit

.venv/installed: requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; name one: make PYTHON=python3.12 …")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(PIP) -r requirements.lock
	$(PIP) --no-deps --editable .
# Where PYTHONDONTWRITEBYTECODE is set, as in many images, an import would compile it each time: 3 s a command.
	-$(BIN)/python -m compileall -q -j 0 .venv/lib rag_assets resources >.venv/compiled.log
	touch $@

# Torch and FlagEmbedding too: the tests put a tiny BGE-M3 through the real library.
.venv/installed-dev: .venv/installed requirements-dev.lock
	$(PIP) -r requirements-dev.lock
	touch $@

lock:
	$(BIN)/python -m pip install --quiet pip-tools
	$(BIN)/pip-compile --quiet --upgrade --strip-extras --no-emit-index-url --no-emit-find-links --no-annotate --no-header -o requirements.lock pyproject.toml
	$(BIN)/pip-compile --quiet --strip-extras --no-emit-index-url --no-emit-find-links --no-annotate --no-header --constraint requirements.lock --extra dev --extra bge-m3 -o requirements-dev.lock pyproject.toml
	sed -i 's/+cpu$$//' requirements-dev.lock  # torch's build is the machine's choice

clean:
	-test -x $(BIN)/rag && $(BIN)/rag down
	rm -rf .venv .rivals .rag *.egg-info .pytest_cache .ruff_cache .hypothesis
