# `make` lists the targets. On a new machine: `make demo`, `make test`.
#   BROWSER=1        `make setup` installs Chromium too, for the test of the viewer's page
#   ORT=cpu|gpu      ONNX Runtime for CPU or for NVIDIA GPUs (default: the one already chosen, else cpu)
#   SCALE=1          with setup: install Ray too, with which `make test` tests scale/
#   CARGOFLAGS=…     more options for cargo build, test, bench, clippy and doc
#   TESTFLAGS=…      more options for cargo test alone
#   PLUGIN_DIR=…     where `make install` puts the plugin
#   BIN_DIR=…        where it puts the command `onnxsegment`
#   MAN_DIR=…        where it puts the manual pages
#   COMPLETIONS_DIR=…  where it puts completions: bash-completion/completions/, zsh/site-functions/ and
#                    fish/vendor_completions.d/ below it

CARGO ?= cargo
CARGOFLAGS ?=
TESTFLAGS ?=
TARGET_DIR := $(or $(CARGO_TARGET_DIR),target)
PLUGIN := libgstonnxsegment.so
DATA_DIR := $(or $(XDG_DATA_HOME),$(HOME)/.local/share)
PLUGIN_DIR ?= $(DATA_DIR)/gstreamer-1.0/plugins
COMMAND := onnxsegment
BIN_DIR ?= $(HOME)/.local/bin
MAN_DIR ?= $(DATA_DIR)/man/man1
COMPLETIONS_DIR ?= $(DATA_DIR)
BASH_COMPLETION := $(COMPLETIONS_DIR)/bash-completion/completions/$(COMMAND)
ZSH_COMPLETION := $(COMPLETIONS_DIR)/zsh/site-functions/_$(COMMAND)
FISH_COMPLETION := $(COMPLETIONS_DIR)/fish/vendor_completions.d/$(COMMAND).fish
SHARE := $(TARGET_DIR)/release/share

# rustup's place, for shells that were open before rustup came.
export PATH := $(PATH):$(HOME)/.cargo/bin
export ORT SCALE

.PHONY: help setup build demo test scale lint docs bench peers share install uninstall deb clean
.DEFAULT_GOAL := help

help: ## list the targets
	@sed -nE 's/^([a-z]+):.*## (.*)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 18

setup: ## install what is missing: Debian packages, ONNX Runtime, the demo scene, crates
	@tools/setup.sh

build: setup ## build the plugin and the command
	$(CARGO) build --release $(CARGOFLAGS)

demo: build ## segment the demo scene into out/: masks, overlay, uncertainty, a video, and a table of scores
	pipelines/demo.sh

test: build ## run all tests; needs no network once `make setup` has run
	G_DEBUG=fatal_warnings $(CARGO) test $(CARGOFLAGS) $(TESTFLAGS)
	tests/shell/run.sh
	scale/tests/run.sh

scale: build ## run all tests of scale/, with 20 workers and 5 drivers killed (minutes; needs `make setup SCALE=1`)
	ONNXSEGMENT_KILLS=20 scale/tests/run.sh

lint: setup ## check formatting, clippy and the documentation; of scale/ types and style
	@$(CARGO) fmt --version >/dev/null && $(CARGO) clippy --version >/dev/null || \
	  { echo 'lint: rustfmt and clippy are needed: rustup component add rustfmt clippy' >&2; exit 1; }
	$(CARGO) fmt --all --check
	$(CARGO) clippy --all-targets $(CARGOFLAGS) -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --no-deps $(CARGOFLAGS)
	@[ ! -e .cache/scale/installed.txt ] || { cd scale && PATH=$$PWD/../.cache/scale/bin:$$PATH && \
	  ruff check --config pyproject.toml . ../benches/scale.py && mypy src tests ../benches/scale.py; }

docs: setup ## write docs/elements/ anew, from what the elements register
	UPDATE_DOCS=1 $(CARGO) test --quiet $(CARGOFLAGS) --test docs elements

bench: build .cache/unet2m.onnx ## run the benchmarks (minutes; see BENCHMARKS.md)
	$(CARGO) bench $(CARGOFLAGS) --bench pipeline -- --unet .cache/unet2m.onnx
	$(CARGO) bench $(CARGOFLAGS) --bench kernels
	$(CARGO) bench $(CARGOFLAGS) --bench mosaic -- --only speed,size,sparse,killed,blends,cascades

peers: build ## compare mosaics with GeoDeep and MONAI (downloads PyTorch; see BENCHMARKS.md)
	python3 -m venv .cache/venv
	.cache/venv/bin/pip install --quiet -r benches/requirements-peers.txt
	$(CARGO) bench $(CARGOFLAGS) --bench mosaic -- --only speed,peers --rounds 1

# A U-Net of two million random parameters; too large to keep, quick to make.
.cache/unet2m.onnx: tests/models/make_models.py
	@mkdir -p .cache
	python3 -m venv .cache/venv
	.cache/venv/bin/pip install --quiet numpy onnx==1.23.2
	.cache/venv/bin/python $< --unet $@

# The command's manual pages and completions, which it makes itself.
share: build
	@rm -rf "$(SHARE)"
	@"$(TARGET_DIR)/release/$(COMMAND)" man -o "$(SHARE)/man"
	@mkdir -p "$(SHARE)/completions"
	@for shell in bash zsh fish; do \
	  "$(TARGET_DIR)/release/$(COMMAND)" completions $$shell >"$(SHARE)/completions/$$shell" || exit 1; done

install: share ## put the plugin into your GStreamer plugin folder, and the command into ~/.local/bin
	@mkdir -p "$(PLUGIN_DIR)" "$(BIN_DIR)" "$(MAN_DIR)"
	@cp "$(TARGET_DIR)/release/$(PLUGIN)" "$(PLUGIN_DIR)/.$(PLUGIN).new"
	@mv -f "$(PLUGIN_DIR)/.$(PLUGIN).new" "$(PLUGIN_DIR)/$(PLUGIN)"
	@cp "$(TARGET_DIR)/release/$(COMMAND)" "$(BIN_DIR)/.$(COMMAND).new"
	@mv -f "$(BIN_DIR)/.$(COMMAND).new" "$(BIN_DIR)/$(COMMAND)"
	@install -m 644 "$(SHARE)"/man/*.1 "$(MAN_DIR)"
	@install -D -m 644 "$(SHARE)/completions/bash" "$(BASH_COMPLETION)"
	@install -D -m 644 "$(SHARE)/completions/zsh" "$(ZSH_COMPLETION)"
	@install -D -m 644 "$(SHARE)/completions/fish" "$(FISH_COMPLETION)"
	@echo "installed: $(PLUGIN_DIR)/$(PLUGIN) and $(BIN_DIR)/$(COMMAND),"
	@echo "  manual pages in $(MAN_DIR), completions below $(COMPLETIONS_DIR)"

uninstall: ## remove all of that from there
	@rm -f "$(PLUGIN_DIR)/$(PLUGIN)" "$(BIN_DIR)/$(COMMAND)" "$(MAN_DIR)/$(COMMAND).1" "$(MAN_DIR)/$(COMMAND)"-*.1 \
	  "$(BASH_COMPLETION)" "$(ZSH_COMPLETION)" "$(FISH_COMPLETION)"
	@echo "removed: $(PLUGIN_DIR)/$(PLUGIN) and $(BIN_DIR)/$(COMMAND), with manual pages and completions"

# Its version names the system that it is made on and for, such as 0.1.0-1~debian12: GDAL's library has another name in every suite.
deb: share ## make a Debian package for this system in target/debian/ (needs `cargo install cargo-deb`)
	@$(CARGO) deb --version >/dev/null 2>&1 || \
	  { echo 'deb: cargo-deb is needed: cargo install cargo-deb --locked' >&2; exit 1; }
	@gzip -9nkf "$(SHARE)"/man/*.1
	$(CARGO) deb --no-build --strip --deb-revision "1~$$(. /etc/os-release && echo "$$ID$$VERSION_ID")"

clean: ## remove target/ and out/
	$(CARGO) clean
	rm -rf out
