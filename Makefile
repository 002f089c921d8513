# Two commands: `make demo` and `make test`. Both set .venv up on first use and need no network afterwards.
.PHONY: demo test test-slow faults check setup setup-test

PYTEST = .venv/bin/pytest --durations 10
# A process for each core, each with whole files of tests: what those set up is set up once.
SPREAD = --numprocesses logical --maxprocesses 8 --dist loadfile

demo: setup
	@.venv/bin/ipa demo

test: setup-test check
	$(PYTEST) $(SPREAD) -m "not slow"

test-slow: setup-test
	$(PYTEST) $(SPREAD) --timeout 900 -m slow

check:
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/bandit --quiet --configfile pyproject.toml --recursive flows ipa_core storage

setup:
	@sh deployments/setup.sh

setup-test:
	@sh deployments/setup.sh dev

faults: setup-test
	.venv/bin/python -m benchmarks.faults --output docs/durability.md
