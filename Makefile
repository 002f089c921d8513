# Two commands: `make demo` and `make test`. Both set .venv up on first use and need no network afterwards.
.PHONY: demo test check setup setup-test

demo: setup
	@.venv/bin/ipa demo

test: setup-test check
	.venv/bin/pytest -m "not slow"

check:
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

setup:
	@sh deployments/setup.sh

setup-test:
	@sh deployments/setup.sh dev
