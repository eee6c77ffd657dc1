# `make help` lists the targets. Give variables as in `make logs APP=tickets`.
SHELL := /bin/sh
PYTHON := .venv/bin/python
LAB = $(PYTHON) -m lab --environment '$(ENV)'
PYTEST := $(PYTHON) -m pytest

ENV ?= dev
# The names of the examples. APP may also be the directory of another app.
EXAMPLES = $(notdir $(patsubst %/Procfile,%,$(wildcard examples/*/Procfile)))
# The environments whose hosts are thrown away: their builds come from the working tree.
EPHEMERAL := $(basename $(notdir $(shell grep -lE '^ephemeral: *[Tt]rue *(\#.*)?$$' pillar/environments/*.sls)))
# The hosts' Debian, by default the first of salt/debian.yaml, and its Python.
PYTHONS := $(shell sed -n 's/^  python: \([0-9]*\.[0-9]*\).*/\1/p' salt/debian.yaml)
suite = $(or $(SUITE),$(SALTERN_SUITE),$(firstword $(suites)))
HOST_PYTHON ?= $(or $(shell sed -n '/^$(suite):$$/,/^[a-z]/s/^  python: \([0-9]*\.[0-9]*\).*/\1/p' salt/debian.yaml),\
	$(error SUITE: '$(suite)' is none that Saltern knows; expected one of: $(suites)))
# `make lock` keeps the locked versions, unless UPGRADE=1.
COMPILE = $(CURDIR)/.venv/bin/uv pip compile -q --universal --python-version $(1) --generate-hashes \
	--no-emit-index-url --custom-compile-command 'make lock' $(if $(UPGRADE),--upgrade)
# The number of processes that test hosts: one more than the cores, since hosts often only boot and wait.
HOSTS = 3
OLDEST := $(firstword $(sort $(PYTHONS)))
NEWEST := $(lastword $(sort $(PYTHONS)))
LOCK = $(call COMPILE,$(OLDEST))

# Builds the pages as a site, in site/. A dead link or anchor fails; the warning is shown without colours.
site = .venv/bin/zensical build --clean --strict >.lab/site.log 2>&1 || \
	{ sed -e 's/\x1b\[[0-9;]*m//g' -e '/^Traceback/,$$d' .lab/site.log >&2; exit 1; }

# Files that may have long lines: charts and schemas are generated, and a Procfile has one line for each process type.
LONG = ':!docs/benchmarks-*.svg' ':!docs/*.schema.json' ':!**/Procfile' ':!formulas/*/*/requirements.txt'

# The parts of `make bench`, in their order.
BENCHES = converge first releases long deploys serving apps growth minions

# Root also gets the lab's packages. A user who works with virtual machines only does not need them.
own_tools := $(if $(filter 0,$(shell id -u)),setup,tools)

TARGETS = help setup tools up apply verify drift logs status down test lint unit render vagrant vagrant-check converge \
	fleet parity contracts bench build release build-forget docs secret secret-remove secrets-rekey config-import \
	certificates lock clean
.NOTPARALLEL:
.PHONY: $(TARGETS)

# The variables that each target takes. Other variables are refused, because make would ignore them silently.
of_the_lab = ENV SALTERN_LAB SALTERN_PORT SALTERN_HTTPS_PORT SALTERN_SUITE SALTERN_LOG
takes_up = $(of_the_lab) SUITE
takes_apply = $(of_the_lab) HOST ARGS
takes_verify = $(of_the_lab) HOST SSH_CONFIG VAGRANT
takes_drift = $(of_the_lab)
takes_logs = $(of_the_lab) APP PROCESS HOST FOLLOW
takes_status = $(of_the_lab)
takes_down = $(of_the_lab) HOST
takes_clean = $(of_the_lab)
takes_test = SUITE
takes_converge = SUITE
takes_fleet = SUITE
takes_vagrant-check = ENV SUITE KEEP
takes_contracts = ENV
takes_bench = PART
takes_build = APP ENV SOURCE SUITE SALTERN_SUITE HOST_PYTHON ALLOW_SDIST
takes_release = $(takes_build)
takes_build-forget = APP ENV
takes_docs = SERVE
takes_secret = ENV NAME GENERATE
takes_config-import = APP ENV FILE SECRET PLAIN
takes_secret-remove = ENV NAME
takes_secrets-rekey = ENV
takes_certificates = ENV ARGS
takes_lock = UPGRADE
# The variables that a target needs. For secrets, ENV has no default: an operator keeps none for dev.
needs_build-forget = APP
needs_secret = ENV NAME
needs_config-import = APP ENV FILE
needs_secret-remove = ENV NAME
needs_certificates = ENV
what_ENV = the environment whose secrets are meant, such as ENV=production
what_NAME = the setting, such as NAME=app.tickets.config.SECRET_KEY
what_FILE = a file of lines NAME=value or JSON, such as FILE=.env, or FILE=- for standard input
what_APP = the app, such as APP=shop

goals := $(or $(MAKECMDGOALS),help)
taken := $(sort $(foreach goal,$(goals),$(takes_$(goal))))
given := $(foreach name,$(.VARIABLES),$(if $(filter command,$(firstword $(origin $(name)))),$(name)))
environments := $(basename $(notdir $(wildcard pillar/environments/*.sls)))
suites := $(shell sed -n 's/^\([a-z]*\):$$/\1/p' salt/debian.yaml)
# A value as one word, and the error for an unexpected value.
joined = $(subst $() ,_,$(strip $1))
one_of = $(if $(filter $(call joined,$($1)),$2),,$(error $1: '$($1)' is no $3; expected one of $(sort $2)))
strange = $(filter-out $(taken) PYTHON PYTEST,$(given))
define check
$(if $(strange),$(error make $(goals): takes no $(strange); \
$(if $(taken),it takes $(filter-out SALTERN_%,$(taken)),it takes no variables), see make help))
$(foreach name,$(given),$(if $(strip $($(name))),,$(error $(name): empty; expected a value, or nothing of it)))
$(foreach name,$(filter-out ARGS,$(given)),$(if $(findstring ',$($(name))),\
$(error $(name): has a quotation mark; expected none)))
$(if $(filter ENV,$(taken)),$(call one_of,ENV,$(environments),environment))
$(if $(and $(filter SUITE,$(taken)),$(SUITE)),$(call one_of,SUITE,$(suites),Debian that Saltern knows))
$(foreach goal,$(goals),$(foreach name,$(needs_$(goal)),$(if $(filter file undefined,$(origin $(name))),\
$(error $(name): missing; expected $(what_$(name)), see make help))))
endef
$(if $(filter-out $(TARGETS),$(goals)),,$(if $(strip $(check)),))

##@ The lab
up: setup ## boot and converge the hosts of dev, with the example apps (ENV=production SUITE=bookworm SALTERN_PORT=)
	@$(LAB) up $(if $(SUITE),--suite '$(SUITE)')

apply: setup ## converge the hosts that are up, after an edit (HOST=app1: only that one; ARGS=test=True: a dry run)
	@$(LAB) apply $(if $(HOST),--host '$(HOST)') $(ARGS)

verify: $(if $(HOST)$(VAGRANT),tools,setup) ## prove that hosts are what was declared (HOST= SSH_CONFIG= VAGRANT=1)
	@$(LAB) verify $(if $(HOST),--host '$(HOST)') $(if $(VAGRANT),--vagrant) \
		$(if $(SSH_CONFIG),--ssh-config '$(SSH_CONFIG)')

drift: setup ## ask all hosts what a converge would change; fails when there is anything
	@$(LAB) drift

logs: setup ## show the logs of all processes (APP=tickets PROCESS=web HOST=dev; FOLLOW=0: do not wait for more lines)
	@$(LAB) logs $(if $(APP),--app '$(APP)') $(if $(PROCESS),--process '$(PROCESS)') $(if $(HOST),--host '$(HOST)') \
		$(if $(filter 0,$(FOLLOW)),--no-follow)

status: setup ## list the hosts
	@$(LAB) status

down: setup ## remove the hosts and their network (HOST=app1: only that one)
	@$(LAB) down $(if $(HOST),--host '$(HOST)')

##@ Tests
test: lint unit render vagrant converge ## all of these, in this order

lint: setup ## check the code: ruff, mypy, salt-lint, shellcheck, long lines and files, docs, readers of secrets
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy --no-error-summary
	git ls-files -z 'salt/*.sls' 'formulas/*.sls' 'pillar/*.sls' | xargs -0 .venv/bin/salt-lint
	git grep -zlE '^#! ?/bin/(ba)?sh' | xargs -0 .venv/bin/shellcheck
	bin/secret check
	@git ls-files -z '*.sls' | xargs -0 awk 'FNR == 101 {print FILENAME ": more than 100 lines; split it by what changes \
	together"; bad = 1} END {exit bad}'
	@! LC_ALL=C.UTF-8 git grep -nIP '^.{121,}' -- . $(LONG) || \
		{ echo 'these lines have more than 120 columns: break them' >&2; exit 1; }
	@bin/settings-docs --check
	@$(site)

unit: setup ## test functions
	$(PYTEST) -n 2 --dist loadfile tests/unit

render: setup ## compile every role in every environment, on the host itself and by a Salt master
	$(PYTEST) -n 2 --dist loadfile tests/render tests/fleet

vagrant: ## test the Vagrantfile, as Vagrant reads it: the hosts of each environment, and refusals
	@lab/setup --vagrant
	$(PYTEST) -n 2 tests/vagrant

converge: setup ## boot bare hosts, converge them and test them (SUITE=trixie: only Debian 13)
	$(if $(SUITE),SUITE='$(SUITE)') $(PYTEST) -n $(HOSTS) --dist loadscope -p no:salt-factories-log-server tests/hosts

fleet: setup ## a Salt master and its minions: releases, reboots, secrets, a master that is down (SUITE=bookworm)
	$(PYTEST) -n 2 --dist loadfile tests/fleet
	SUITE='$(suite)' FLEET=whole $(PYTEST) tests/hosts/own/test_fleet.py

vagrant-check: ## converge, verify and destroy the Vagrantfile's hosts, emulated (ENV=staging SUITE=bookworm KEEP=1)
	@lab/setup --machines
	$(PYTHON) -m lab.vagrant check --environment '$(ENV)' $(if $(SUITE),--suite '$(SUITE)') $(if $(KEEP),--keep)

# The configuration of a runner, which compiles hosts that need not exist.
define runner
	@mkdir -p .lab/runners/var/cache/salt/master/proc
	@printf '%s\n' 'user: $(shell id -un)' 'root_dir: $(CURDIR)/.lab/runners' 'log_level: quiet' 'job_cache: False' \
		'runner_dirs: [$(CURDIR)/salt/_runners]' 'utils_dirs: [$(CURDIR)/salt/_utils]' \
		'file_roots: {base: [$(CURDIR)/salt, $(CURDIR)/formulas]}' 'pillar_roots: {base: [$(CURDIR)/pillar]}' \
		>.lab/runners/master
endef

parity: $(own_tools) ## compare environments, Debians and Vagrant's hosts; fails on undeclared differences
	$(runner)
	@if command -v vagrant >/dev/null; then $(PYTHON) -m lab.vagrant hosts .lab/vagrant.json; \
		else rm -f .lab/vagrant.json; echo "Vagrant: not compared, since there is none here"; fi
	@.venv/bin/salt-run --config-dir .lab/runners parity.show html=parity.html \
		$$([ ! -e .lab/vagrant.json ] || echo vagrant=.lab/vagrant.json) && echo "The same as a page: parity.html"

contracts: setup ## show who provides and who attaches which version of an API (ENV=production); fails if one is missing
	$(runner)
	@.venv/bin/salt-run --config-dir .lab/runners contracts.show '$(ENV)' html=contracts.html && \
		echo "The same as a page, with a picture: contracts.html"

bench: setup ## measure converges, releases and a fleet, and write docs/benchmarks.md (PART=first)
	@$(if $(filter-out $(BENCHES),$(PART)),echo "PART: '$(PART)' is no part; expected some of: $(BENCHES)" >&2; exit 1)
	@for part in $(or $(PART),$(BENCHES)); do \
		echo "$(PYTHON) -m bench.$$part"; rm -f ".lab/bench/$$part.json"; \
		$(PYTHON) -m "bench.$$part" && $(PYTHON) -m bench.report "$$part" || exit 1; done

##@ Your apps and your tree
build: $(own_tools) ## build and declare an app (APP=tickets or a directory; ENV= SOURCE= SUITE= ALLOW_SDIST=)
	@for app in $(or $(APP),$(EXAMPLES)); do \
		if [ -d "examples/$$app" ]; then app="examples/$$app"; fi; \
		bin/build "$$app" $(if $(filter $(ENV),$(EPHEMERAL)),--worktree) --python $(HOST_PYTHON) \
			--declare 'pillar/builds/$(ENV).sls' --source '$(or $(SOURCE),/srv/saltern/dist)' \
			$(if $(filter setup,$(own_tools)),--within '$(PYTHON) -m lab.within --python $(HOST_PYTHON)') \
			$(if $(ALLOW_SDIST),--allow-sdist '$(ALLOW_SDIST)') || exit 1; \
	done

release:
	@echo "make release: what it made is a build: run make build$(if $(APP), APP='$(APP)')$(if $(SUITE), \
		SUITE='$(SUITE)')," "which takes the same variables; nothing was done" >&2; exit 2

build-forget: tools ## no longer declare a build of an app that is removed (APP=shop ENV=production)
	@bin/build --forget '$(APP)' --declare 'pillar/builds/$(ENV).sls' >/dev/null

docs: setup ## generate docs/reference and the editors' schemas, and build the pages as a site (SERVE=1: serve it too)
	@bin/settings-docs
	@$(site)
	$(if $(SERVE),@.venv/bin/zensical serve)

secret: tools ## encrypt a value, from a prompt or standard input (ENV=production NAME=app.tickets.config.SECRET_KEY)
	@bin/secret set --environment '$(ENV)' $(if $(GENERATE),--generate '$(GENERATE)') '$(NAME)'

config-import: tools ## write an app's config from a .env or JSON (APP=shop ENV=production FILE=.env SECRET= PLAIN=)
	@bin/secret import --environment '$(ENV)' --app '$(APP)' $(if $(SECRET),--secret '$(SECRET)') \
		$(if $(PLAIN),--plain '$(PLAIN)') '$(FILE)'

secret-remove: tools ## remove a value, or all of an app's (ENV=production NAME=app.shop)
	@bin/secret remove --environment '$(ENV)' '$(NAME)'

# ENV counts here only if it was given, not its default above.
secrets-rekey: tools ## encrypt secrets again, after a host or an operator came or left (ENV=production)
	@bin/secret rekey $(if $(filter file,$(origin ENV)),,--environment '$(ENV)')

certificates: tools ## issue or renew the certificates of an environment's hosts (ENV=production ARGS=--renew)
	@bin/issue-certificates '$(ENV)' $(ARGS)

lock: setup ## write the locked requirements again (UPGRADE=1: with the newest versions)
	$(LOCK) requirements/build.in -o requirements/build.txt
	$(LOCK) requirements/salt.in --overrides requirements/overrides.txt -o requirements/salt.txt
	$(LOCK) requirements/scan.in -o requirements/scan.txt
	$(LOCK) requirements/dev.in --overrides requirements/overrides.txt -o requirements/dev.txt
	for input in bench/contenders/*.in; do \
		$(call COMPILE,$(NEWEST)) "$$input" -o "$${input%.in}.txt" || exit 1; \
	done
	for input in examples/*/requirements*.in formulas/*/*/requirements.in tests/apps/*/requirements.in; do \
		(cd "$${input%/*}" && input="$${input##*/}" && $(LOCK) "$$input" -o "$${input%.in}.txt") || exit 1; \
	done

setup: ## install what the other targets need: Debian packages and .venv (they do it themselves)
	@lab/setup

tools: ## install .venv alone, as any user
	@lab/setup --tools </dev/null

clean: ## remove the lab with its images, .venv, the builds and all caches
	@[ ! -e .venv/.complete ] || [ "$$(id -u)" -ne 0 ] || $(LAB) down --images
	rm -rf .venv .lab .cache dist site parity.html contracts.html $(EPHEMERAL:%=pillar/builds/%.sls)
	rm -rf .pytest_cache .ruff_cache .mypy_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

help: ## this list
	@echo "Saltern $$(cat VERSION)"
	@awk 'BEGIN {FS = ":.*## "} \
		/^##@ / {printf "\n%s\n", substr($$0, 5)} \
		/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.DEFAULT_GOAL := help
