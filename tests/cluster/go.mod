module github.com/weftmesh/weft/tests/cluster

go 1.26.0

require (
	github.com/vishvananda/netlink v1.3.1
	github.com/weftmesh/weft/daemonset/images v0.0.0-00010101000000-000000000000
	golang.org/x/sys v0.49.0
)

require (
	github.com/cilium/ebpf v0.22.0
	github.com/google/go-containerregistry v0.22.1 // indirect
	github.com/klauspost/compress v1.19.2 // indirect
	github.com/opencontainers/go-digest v1.0.0 // indirect
	github.com/opencontainers/image-spec v1.1.1 // indirect
	github.com/vishvananda/netns v0.0.5
	github.com/weftmesh/weft v0.0.0-00010101000000-000000000000
	golang.org/x/sync v0.24.0 // indirect
)

replace github.com/weftmesh/weft/daemonset/images => ../../daemonset/images

replace github.com/weftmesh/weft => ../..
