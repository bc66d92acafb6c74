# Node 24 comes with the packages, for machines that have an older one.
export PATH := $(CURDIR)/node_modules/.bin:$(PATH)

INSTALLED := node_modules/.package-lock.json

.PHONY: run test check bench clean

run: $(INSTALLED)
	@exec node src/main.ts

test: $(INSTALLED)
	@node test/run.ts

check: $(INSTALLED)
	@node test/check.ts

bench: $(INSTALLED)
	@node test/bench/main.ts $(BENCH)

$(INSTALLED): package-lock.json
	@echo 'Installing packages (once) …'
	@npm ci --ignore-scripts --no-audit --no-fund --loglevel=error
	@touch $@

clean:
	rm -rf node_modules coverage
