# Everything sets itself up: missing Debian packages (as root), npm packages, the build.
.PHONY: all build tests demo test test-systemd test-vm test-runtimes soak fuzz bench lint types unit netns clean

all: build

# Watch a packet find its way, on a host made of throw-away namespaces.
demo: setup-demo build
	@bash scripts/demo.sh

# What CI runs, before test-systemd and test-vm.
test: lint types unit netns

# A million hostile inputs, other ones each time, and thousands of whole calls. A failure says with which seed it comes again.
fuzz: tests
	@TSNET_FUZZ_INPUTS=1000000 TSNET_FUZZ_SEED=$${TSNET_FUZZ_SEED:-$$(date +%s)} node scripts/test.mjs unit fuzz
	@TSNET_FUZZ_CALLS=5000 TSNET_FUZZ_SEED=$${TSNET_FUZZ_SEED:-$$(date +%s)} node scripts/test.mjs netns hostile

# The units of packaging/, under a systemd of its own in private namespaces.
test-systemd: setup-systemd build
	@bash test/systemd/run.sh

# On Debian's stock kernel in a virtual machine: what `test` has to skip on a kernel that lacks something.
test-vm: setup-vm tests
	@node scripts/test-vm.mjs

# Hours: killed at each system call, each call failing with each error, load with a model, 1,000 attachments. `make soak only=load` is one part.
soak: tests
	@node scripts/test.mjs soak $(only)

bench: setup-bench build
	@node scripts/bench.mjs

# Real runtimes (podman, containerd) on the plugin, in namespaces of their own. Not in `test`: its packages take 600 MB.
test-runtimes: setup-runtimes build
	@bash test/runtimes/run.sh

lint types: tests
	@npm run --silent $@

unit netns: tests
	@node scripts/test.mjs $@

build: setup-build
	@node scripts/build.mjs

tests: setup-test
	@node scripts/build.mjs --tests

setup-%:
	@bash scripts/setup.sh $*

clean:
	rm -rf dist build node_modules
