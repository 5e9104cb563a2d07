# `make build` makes this machine a farm and builds the usual images. The other targets: `make help`.
# What follows a target's name is passed on in ARGS: make build ARGS='-e farm_images=base --check'

SHELL := /bin/sh
ARGS ?=
WORKERS ?= auto
venv := .venv
# the environment's programs, and its Go if it has one, come before the machine's
export PATH := $(CURDIR)/$(venv)/bin:$(PATH):/usr/local/go/bin
export ANSIBLE_CONFIG := $(CURDIR)/ansible.cfg
# Ansible refuses to start in a locale that was not generated, and ssh may set one; every Debian has this one
export LC_ALL := C.UTF-8
# Ansible asks for the password if sudo needs one; having given it to another command does not help Ansible
playbook = ansible-playbook $(shell [ "$$(id -u)" = 0 ] || sudo -k -n true 2>/dev/null || echo --ask-become-pass)

# Without this, `make build farm_images=base` and `make build --check` (an option of make itself) would build as usual.
stray := $(foreach name,$(filter-out ARGS WORKERS,$(.VARIABLES)),\
    $(if $(filter command,$(firstword $(origin $(name)))),$(name)=))
stray += $(if $(findstring L,$(firstword -$(MAKEFLAGS))),--check)
ifneq ($(strip $(stray)),)
$(error $(strip $(stray)): this is not for make. Give it to ansible-playbook by ARGS: \
    make build ARGS='--check -e farm_images=base')
endif

.DEFAULT_GOAL := help
.PHONY: help setup setup-dev may-test unit build catalog check lock outdated licences status check-registry verify \
	remove stop clean test test-full test-catalog test-faults test-fleet lint changelog docs schemas readmes bench \
	requirements

help: ## show this
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## install Ansible, as pinned, into .venv
	@scripts/setup.sh run

setup-dev:
	@scripts/setup.sh dev

build: setup ## make this machine a farm and build the usual images; ARGS='-e farm_images=all': everything
	$(playbook) build.yml $(ARGS)

catalog: setup ## build all images, also those that `make build` leaves out, and verify them
	$(playbook) build.yml -e farm_images=all $(ARGS)
	$(playbook) playbooks/verify.yml -e farm_images=all $(ARGS)

check: setup ## say what `make build` would build, and why; change nothing
	$(playbook) build.yml --check --diff $(ARGS)

lock: setup ## resolve the inputs of the images again and write their locks
	$(playbook) playbooks/lock.yml $(ARGS)

outdated: setup ## say which inputs have newer versions upstream, and which were withdrawn there
	$(playbook) playbooks/outdated.yml $(ARGS)

licences: setup ## show the licences of everything that enters the images
	$(playbook) playbooks/licences.yml $(ARGS)

status: setup ## show services, versions, disk, and what the registry holds
	$(playbook) playbooks/status.yml $(ARGS)

check-registry: setup ## read everything in the registry and say what is damaged; ARGS='-e farm_repair=true' repairs it
	$(playbook) playbooks/check.yml $(ARGS)

verify: setup ## run the images, and check that they keep what their recipes promise
	$(playbook) playbooks/verify.yml $(ARGS)

remove: setup ## remove an image from the registry: ARGS='-e image=NAME'
	$(playbook) playbooks/remove.yml $(ARGS)

stop: setup ## stop the services of the farm; all data stays
	$(playbook) playbooks/stop.yml $(ARGS)

clean: setup ## stop the farm and remove everything that it made, and say how much it was
	$(playbook) playbooks/clean.yml $(ARGS)

# the code that is sent to nodes must run under the oldest Python that a node may have
travels := $(foreach name,child fetching gobuild golden programs renewal runner staging state supervised trial \
    trial_container trial_network,\
    tests/unit/test_$(name).py)

# much of lint uses one processor, so the unit tests run beside it
test: may-test setup-dev ## lint, and run the tests: unit, integration on two farms of their own, a molecule scenario
	$(MAKE) --jobs=2 --output-sync=target --no-print-directory lint unit
	scripts/test-under.sh 3.9 requirements-py39.txt $(travels)
	scripts/integration.sh 'not full and not catalog' --durations 30 $(ARGS)
	molecule test

unit: setup-dev
	pytest -n $(WORKERS) tests/unit $(ARGS)

test-full: may-test setup-dev ## run all tests, for all platforms, and the important ones under the oldest Ansible too
	$(MAKE) --jobs=2 --output-sync=target --no-print-directory lint unit
	DESIMAGES_TEST_EXAMPLES=350 pytest -n $(WORKERS) tests/unit/test_bad_recipes.py tests/unit/test_bad_locks.py \
	    tests/unit/test_bad_settings.py $(ARGS)
	scripts/test-under.sh 3.9 requirements-py39.txt $(travels)
	scripts/integration.sh 'not catalog' --durations 30 $(ARGS)
	scripts/test-under.sh 3.11 'requirements.txt requirements-dev.txt' tests/unit tests/integration/test_runs.py
	scripts/test-under.sh 3.11 'requirements.txt requirements-dev.txt' scripts/sanity.py
	molecule test --scenario-name=default --scenario-name=clone

test-catalog: may-test setup-dev ## the images that `make build` leaves out, with real clients of each
	pytest tests/integration -m catalog $(ARGS)

test-fleet: may-test setup-dev ## all molecule scenarios: fleets of like and unlike hosts over ssh, a virtual machine
	molecule test $(or $(ARGS),--all)

test-faults: may-test setup-dev ## what fails in a run: nodes, networks, disks, registries, processes; on real hosts
	pytest tests/integration -m faults $(ARGS)

may-test:
	@[ "$$(id -u)" = 0 ] || sudo -k -n true || { \
	    echo "run the tests as root, or as a user whose sudo asks for no password" >&2; exit 1; }

plugins := ansible_collections.desimages.farm.plugins
lint: setup-dev ## run the linters, the type checker and Ansible's own sanity tests
	ruff check .
	yamllint --strict .
	ansible-lint --strict
	MYPYPATH=collections mypy $(addprefix -p $(plugins).,module_utils plugin_utils action)
	MYPYPATH=images/homekit:images/homekit-wiz:images/homekit-alsa mypy --python-version 3.13 --ignore-missing-imports \
	    -p homekit -p homekit_wiz -p homekit_alsa
	scripts/galaxy.sh
	.cache/galaxy/bin/python scripts/site.py
	python scripts/sanity.py

changelog: setup-dev ## regenerate the changelog of the version in galaxy.yml from changelogs/fragments
	scripts/environment.sh .cache/galaxy .venv/bin/python requirements-galaxy.txt
	.cache/galaxy/bin/antsibull-changelog release --update-existing --refresh --reload-plugins \
	    --ansible-doc-bin .cache/galaxy/bin/ansible-doc
	rm -f changelogs/.plugin-cache.yaml

docs: setup-dev ## make the documentation site, and check its links: .cache/site/html
	scripts/environment.sh .cache/galaxy .venv/bin/python requirements-galaxy.txt
	.cache/galaxy/bin/python scripts/site.py

schemas: setup-dev ## regenerate docs/*.schema.json from the kinds of input
	python scripts/schemas.py

readmes: setup-dev ## regenerate images/*/README.md and docs/catalog.md from the recipes, and docs/map.md from the files
	python scripts/readmes.py

bench: setup-dev ## run the measurements, and print each with the machine's load
	for name in plan simulate sizes debian bake repeat first fleet provision memory verify; do \
		python tests/bench/$$name.py $(ARGS) || exit 1; \
	done

# One hashed file for all Python versions, without the address of any index. uv gets its own environment.
requirements: ## resolve requirements*.in again and write requirements*.txt
	@scripts/setup.sh run
	@[ -x .cache/uv/bin/uv ] || { python -m venv .cache/uv && .cache/uv/bin/pip -q install uv; }
	for name in requirements requirements-dev requirements-galaxy requirements-go requirements-homekit \
	    requirements-py39; do \
	    case $$name in *py39) oldest=3.9 ;; *) oldest=3.11 ;; esac; \
	    .cache/uv/bin/uv pip compile --upgrade -q --universal --python-version $$oldest --generate-hashes \
	        --no-emit-index-url --no-header $$name.in -o $$name.txt || exit 1; \
	done
