# Two commands from a fresh clone: `make demo` and `make test`. Each installs what it needs into .venv, once.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

# CPU threads: two, so that a laptop stays usable and results do not depend on the machine's size.
export OMP_NUM_THREADS ?= 2
export TOKENIZERS_PARALLELISM ?= false

.PHONY: demo test test-slow bench release check format install clean

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade -c constraints.txt pip
	$(BIN)/python -m pip install --quiet -c constraints.txt torch
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	touch $@

# Trains Self-MM on the synthetic corpus, saves it, loads it again in a new process and predicts; then draws clips of
# speaking faces, extracts their features, trains on those, and says what a clip of an unseen speaker shows.
CLIP := runs/synthetic_clips/Raw/speaker020/2.mp4
demo: install
	rm -rf runs/quickstart runs/quickstart_media runs/synthetic_clips runs/synthetic_clips_features runs/synthetic_clips_features.clips
	$(BIN)/accelerate launch --num_processes 1 --num_machines 1 --mixed_precision no --dynamo_backend no \
		train.py recipes/quickstart.yaml --output_dir runs/quickstart
	$(BIN)/python predict.py runs/quickstart --split test --limit 5
	$(BIN)/python -m datasets_scripts.synthetic_clips runs/synthetic_clips --clips 120
	$(BIN)/python extract.py runs/synthetic_clips --output runs/synthetic_clips_features
	$(BIN)/accelerate launch --num_processes 1 --num_machines 1 --mixed_precision no --dynamo_backend no \
		train.py recipes/media/self_mm.yaml --data_file runs/synthetic_clips_features --output_dir runs/quickstart_media
	$(BIN)/python predict.py runs/quickstart_media --video $(CLIP) --window 1.5 \
		--transcript "the cast was poor and the ending was poor"

# Tests run side by side, a process per core, each with one thread.
test: install
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist worksteal

test-slow: install
	HF_HUB_OFFLINE=1 $(BIN)/python -m pytest -m slow

# Trains the reference checkpoints from the files in DATA and puts their cards into model_cards/: hours on a laptop.
DATA ?= ../shared/data/mosi
release: install
	$(BIN)/python release.py --data $(DATA) $(if $(TEXT_ENCODER),--text_encoder $(TEXT_ENCODER))

# All benchmarks that need no data of a corpus; the peer goes into a folder of its own. What they print stays in
# runs/benchmarks. One that fails ends it.
BENCH := PYTHONPATH=$(VENV)/peer OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 $(BIN)/python
PRINTED := runs/benchmarks
bench: install $(VENV)/peer
	mkdir -p $(PRINTED)
	$(BENCH) benchmarks/training_speed.py --rounds 1 --seconds 2 --batches 4 --rows here MMSA limit > $(PRINTED)/training_speed.txt
	for name in label_generation inference training_options profile_training growth; do \
		$(BENCH) benchmarks/$$name.py > $(PRINTED)/$$name.txt || exit 1; \
	done
	cat $(PRINTED)/*.txt

$(VENV)/peer: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --no-deps --target $@ mmsa easydict nvidia-ml-py3

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) runs build *.egg-info
