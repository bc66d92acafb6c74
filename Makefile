# Node 24 comes with the packages, for machines that have an older one.
export PATH := $(CURDIR)/node_modules/.bin:$(PATH)

INSTALLED := node_modules/.package-lock.json

.PHONY: run test test-containers check bench image clean

run: $(INSTALLED)
	@exec node src/main.ts

test: $(INSTALLED)
	@node test/run.ts

# A part of `make test` where a container engine answers.
test-containers: $(INSTALLED)
	@node test/run.ts test/containers

image:
	@DOCKER_BUILDKIT=1 docker build --network host --file images/sidecar/Dockerfile --tag tarbox:latest \
	  $(foreach name,BASE_IMAGE NPM_CONFIG_REGISTRY,$(if $($(name)),--build-arg $(name)=$($(name)))) .

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
