# Everything sets itself up: on a Debian machine, as root, what is missing comes from Debian's mirror and PyPI.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# What pip may install, also to build with, for which newer ones ask the second, and also a pip that a test starts
PINS := tests/pins.txt
export PIP_CONSTRAINT = $(PINS:%=$(CURDIR)/%)
export PIP_BUILD_CONSTRAINT = $(PIP_CONSTRAINT)
HOST_PACKAGES := python3-venv mmdebstrap systemd-container debian-archive-keyring openssh-client strace zsh ksh93u+m mksh \
    iproute2 dnsmasq-base arch-test
# What make package and its tests take
host-package: HOST_PACKAGES := debhelper dh-python dpkg-dev lintian python3-setuptools rpm rpmlint createrepo-c dnf zypper
# What the recipes in examples/images take, for test-all
host-images: HOST_PACKAGES := buildah cloud-image-utils debootstrap gpg guestfs-tools kiwi mkosi packer \
    qemu-system-x86 qemu-utils rsync sudo
# What others' checks of the package take, for test-all
host-peers: HOST_PACKAGES := piuparts shellcheck $(if $(shell command -v npm),,npm)

.PHONY: demo test test-all measure bench package lint unit mutants machine newest pins clean

# What SUITES may name
RELEASES := bullseye bookworm trixie forky
# Said before anything is installed
$(if $(filter-out $(RELEASES),$(SUITES)),$(error SUITES: no such release, there are $(RELEASES)))

demo: root host $(VENV)/installed  ## a real first boot, whose sshd disconnects a dead client and ends an idle session
	@$(BIN)/python tools/demo.py $(SUITES)

test: lint unit machine  ## all but what takes long

test-all: host-images host-peers test  ## what takes long, too
	@$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[images]'
	$(BIN)/pytest tests/unit -m slow -n 2
	@# Six workers have more machines at once than the usual 128 inotify instances are for.
	@limit=/proc/sys/fs/inotify/max_user_instances; [ "$$(cat $$limit)" -ge 1024 ] || echo 1024 >$$limit || true
	$(BIN)/pytest tests/machine -m slow -n 6 --dist worksteal -rP

# OPENSSH_BUILDS names a folder with other OpenSSH servers, as trees for / in folders named by their versions
measure: host $(VENV)/installed  ## what becomes of sessions on every OpenSSH, for docs/sessions.md
	$(BIN)/python tools/measure.py docs/sessions.md

bench: host $(VENV)/installed  ## what the promise is worth and what it costs, for docs/bench.md
	@$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[bench]'
	@$(BIN)/python tools/bench.py

package: host-package  ## dist/*.deb and dist/*.rpm, the same bytes from the same tree
	@rm -f dist/*.deb dist/*.rpm
	@packaging/build.sh dist
	@ls dist/*.deb dist/*.rpm

lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/vermin --target=3.6- --no-tips --violations cloudinit_module

mutants: $(VENV)/installed  ## errors put into the pure modules, and those that no unit test finds
	@$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[mutants]'
	@rm -rf .cache/mutants && mkdir -p .cache/mutants
	@cp -rL cloudinit_module .cache/mutants/src && cp -r tests pyproject.toml .cache/mutants
	@cd .cache/mutants && $(CURDIR)/$(BIN)/mutmut run && $(CURDIR)/$(BIN)/mutmut results

unit: $(VENV)/installed
	$(BIN)/pytest tests/unit -n 2

# More at once than CI has cores, since half of the time goes by waiting
machine: host host-package $(VENV)/installed
	$(BIN)/pytest tests/machine -n 4 --dist loadscope

newest:  ## lint and unit with the newest of everything, in a venv of its own; what is pinned anyway is left out
	@rm -rf .cache/newest
	@PYTEST_ADDOPTS='--ignore=tests/unit/test_pins.py --ignore=tests/unit/test_oldest_python.py' \
	    $(MAKE) --keep-going lint unit VENV=.cache/newest PINS=
	@.cache/newest/bin/pip list --disable-pip-version-check

pins:  ## tests/pins*.txt anew, with the newest of all
	@$(PYTHON) -m venv .cache/uv
	@PIP_CONSTRAINT= .cache/uv/bin/pip install --quiet --disable-pip-version-check --upgrade uv
	@.cache/uv/bin/uv pip compile --quiet --upgrade --custom-compile-command 'make pins' --output-file tests/pins.txt \
	    --universal --python-version 3.11 --fork-strategy fewest --all-extras setup.cfg
	@printf '%s\n' pip pytest PyYAML jsonschema | \
	    .cache/uv/bin/uv pip compile --quiet --upgrade --custom-compile-command 'make pins' \
	    --output-file tests/pins-python3.6.txt --python-version 3.6.15 --no-emit-package jsonschema -

.PHONY: root
root:
	@[ "$$(id -u)" = 0 ] || { echo 'run as root: it boots a machine' >&2; exit 1; }

.PHONY: host host-package host-images host-peers
host host-package host-images host-peers:
	@if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && ! dpkg -s $(HOST_PACKAGES) >/dev/null 2>&1; then \
	    echo 'Installing $(HOST_PACKAGES)' && apt-get -qq update && \
	    DEBIAN_FRONTEND=noninteractive apt-get -qqy install --no-install-recommends $(HOST_PACKAGES) >/dev/null; \
	fi

$(VENV)/installed: setup.py setup.cfg $(PINS) | host
	@echo 'Installing what tools and tests take, in $(VENV): a minute'
	@$(PYTHON) -m venv --clear $(VENV)
	@$(BIN)/pip install --quiet --disable-pip-version-check --upgrade --editable '.[test,lint]'
	@touch $@

clean:
	rm -rf $(VENV) .cache .hypothesis build dist cloudinit_module/*.egg-info
