# Everything sets itself up: missing Debian packages (as root), npm packages, the build.
.PHONY: all demo test bench build lint types unit netns clean

all: build

demo: .setup-demo build
	@bash scripts/demo.sh

test: .setup-test lint types
	@node scripts/build.mjs --tests
	@node scripts/test.mjs unit
	@node scripts/test.mjs netns

bench: .setup-bench build
	@node scripts/bench.mjs

lint types unit netns: .setup-test
	@npm run --silent $@

unit netns: tests

.PHONY: tests
tests: .setup-test
	@node scripts/build.mjs --tests

build: .setup-build
	@node scripts/build.mjs

.PHONY: .setup-%
.setup-%:
	@bash scripts/setup.sh $*

clean:
	rm -rf dist build node_modules
