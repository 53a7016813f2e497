# Everything happens in .venv, which the first command creates. torch comes first and from wherever pip is told to
# look: on a machine without a GPU, set PIP_INDEX_URL or PIP_FIND_LINKS to a CPU build to save space.
PYTHON ?= python3
TORCH ?= torch==2.13.0
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet

.PHONY: demo test

demo: .venv/installed
	$(BIN)/hf-zspa demo --output zspa-demo.png

test: .venv/installed-for-tests
	@rm -f .nox/closing-line.txt
	@$(BIN)/nox; status=$$?; cat .nox/closing-line.txt && exit $$status

.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(PIP) $(TORCH)
	$(PIP) --editable .
	@touch $@

.venv/installed-for-tests: .venv/installed
	$(PIP) --editable '.[test]'
	@touch $@
