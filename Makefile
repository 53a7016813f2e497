# Everything happens in .venv, which the first command creates. torch comes first and from wherever pip is told to
# look: on a machine without a GPU, set PIP_INDEX_URL or PIP_FIND_LINKS to a CPU build to save space.
PYTHON ?= python3
TORCH ?= torch==2.13.0
BIN := .venv/bin
# Most of what is installed is never imported: what is compiles itself then.
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --no-compile

.PHONY: demo docs quick test test-all

demo: .venv/installed
	$(BIN)/hf-zspa demo --output zspa-demo.png

test: .venv/installed-for-tests
	@rm -f .nox/closing-line.txt
	@$(BIN)/nox; status=$$?; cat .nox/closing-line.txt && exit $$status

test-all: export TEST_ALL = 1
test-all: test

quick: .venv/installed-for-tests
	@$(BIN)/nox -R -s quick  # what is installed there stays as it is

# The reference is read from the source, not imported: the site needs the extra `docs` and nothing else of the package.
docs: .venv-docs/installed
	NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build --strict

.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(PIP) $(TORCH)
	$(PIP) --editable .
	@touch $@

.venv/installed-for-tests: .venv/installed
	$(PIP) --editable '.[test]'
	@touch $@

.venv-docs/installed: pyproject.toml
	$(PYTHON) -m venv .venv-docs
	.venv-docs/bin/python -m pip --disable-pip-version-check install --quiet tomli  # Python 3.10 has no tomllib
	.venv-docs/bin/python -c 'import tomli; print(*tomli.load(open("$<", "rb"))["project"]["optional-dependencies"]["docs"], sep="\n")' > .venv-docs/requirements.txt
	.venv-docs/bin/python -m pip --disable-pip-version-check install --quiet --requirement .venv-docs/requirements.txt
	@touch $@
