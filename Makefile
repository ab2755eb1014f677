# Every target sees to it that what it needs is there; see tests/bootstrap and tests/lab/README.md.
KERNEL = 7
PORTS = 2
# One more than cores: a guest waits for time-outs and carriers a third of its time.
WORKERS = 3
ARGS =
# The VMBus of each kernel, built once, for the tests that need it.
PAIRS =
demo pictures test soak words-lab: PAIRS = --pairs
# The tree that systemd boots, the same way.
TREE =
test soak words-lab: TREE = --systemd
# Of the mutants: how many are drawn, and which.
COUNT = 60
SEED = 1

BOOTSTRAP = tests/bootstrap
PYTEST = MANACTL_REQUIRE=netns,lab,shells $(BOOTSTRAP) --venv --netns -m pytest -n $(WORKERS) --dist loadgroup --no-loadscope-reorder

.PHONY: help demo pictures test words words-lab check mutants soak bench lab build completions schemas

help:
	@echo 'make demo    watch manactl do its job on the real drivers, in a VM'
	@echo 'make test    unit, netns and lab tests (ARGS="-k name" for some)'
	@echo 'make words   unit and netns tests of behaviour, with all words replaced'
	@echo 'make words-lab   the lab tests of behaviour on one kernel, the same way (KERNEL=7 WHERE=tests/lab)'
	@echo 'make check   ruff, mypy and the layers'
	@echo 'make mutants what the unit and netns tests would not notice (COUNT=60 SEED=1)'
	@echo 'make soak    the long counts (hours)'
	@echo 'make bench   what manactl costs, in the guest (minutes)'
	@echo 'make lab     a shell in the guest (KERNEL=6.12|6.18|7 PORTS=1..4 PAIR=1 SYSTEMD=networkd)'
	@echo 'make completions   write completions/ again from the command tree'
	@echo 'make schemas   write src/manactl/schemas/ again from tools/schemas/'
	@echo 'make pictures   record those of the README again, from what a terminal shows'
	@echo 'make build   only fetch and build what the lab runs on'

demo: build
	@$(BOOTSTRAP) -m tests.lab.demo $(ARGS)

pictures: build
	@$(BOOTSTRAP) --venv -m tests.lab.demo --pictures man/pictures

test: build
	@$(PYTEST) -m 'not soak' $(ARGS)

# Once with words that differ everywhere, and once with the same everywhere.
words: WHERE = tests/unit tests/netns
words-lab: export MANACTL_LAB_KERNELS = $(KERNEL)
words-lab: WHERE = tests/lab
words-lab: build
words words-lab:
	@for words in unlike alike; do \
	    MANACTL_WORDS=$$words $(PYTEST) -m 'not (wording or soak)' $(WHERE) $(ARGS) || exit 1; \
	done

soak: build
	@$(PYTEST) -m soak $(ARGS)

check:
	@$(BOOTSTRAP) --venv -m ruff check .
	@$(BOOTSTRAP) --venv -m ruff format --check .
	@$(BOOTSTRAP) --venv -m mypy
	@PYTHONPATH=src $(BOOTSTRAP) --venv -c "from importlinter.cli import lint_imports_command as lint; lint()"

mutants:
	@$(BOOTSTRAP) --venv --netns -m tools.mutants --count $(COUNT) --seed $(SEED) $(ARGS)

bench: build
	@$(BOOTSTRAP) -m tests.lab.bench --kernel $(KERNEL) $(ARGS)

lab: build
	@$(BOOTSTRAP) -m tests.lab.shell --kernel $(KERNEL) --ports $(PORTS) $(if $(PAIR),--pair) $(if $(SYSTEMD),--systemd $(SYSTEMD)) $(ARGS)

completions:
	@PYTHONPATH=src $(BOOTSTRAP) --venv -m tools.completions

schemas:
	@$(BOOTSTRAP) -m tools.schemas

build:
	@$(BOOTSTRAP) -m tests.lab.build $(PAIRS) $(TREE)
