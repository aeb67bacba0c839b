// SPDX-License-Identifier: Apache-2.0

// Command images builds Weft's container images into archives, for `make images`:
// the binaries, static, for each architecture, and nothing else.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"github.com/weftmesh/weft/daemonset/images/oci"
)

// registry is where a release's images are.
const registry = "ghcr.io/weftmesh/"

// image is one of Weft's: where its binaries come from, by name, and how it runs.
type image struct {
	name     string
	binaries map[string]string // binary to package
	main     string
	user     string // who runs it; empty: root
}

func images() []image {
	return []image{
		{name: "weft-agent", main: "weft-agent",
			binaries: map[string]string{"weft-agent": "./agent", "weft": "./cli", "weft-cni": "./daemonset/cni",
				"weft-envoy": "./envoy/weft-envoy"}},
		{name: "weft-operator", main: "weft-operator", user: "65532:65532",
			binaries: map[string]string{"weft-operator": "./operator"}},
	}
}

func main() {
	root := flag.String("root", ".", "the repository")
	out := flag.String("out", "build/images", "folder of the archives")
	arch := flag.String("arch", runtime.GOARCH, "architectures, separated by spaces")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *root, *out, strings.Fields(*arch)); err != nil {
		fmt.Fprintln(os.Stderr, "weft: building images:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, root, out string, architectures []string) error {
	content, err := os.ReadFile(filepath.Join(root, "VERSION"))
	if err != nil {
		return fmt.Errorf("finding the version: %w", err)
	}
	version := strings.TrimSpace(string(content))
	if out, err = filepath.Abs(out); err != nil {
		return err
	}
	for _, i := range images() {
		if !i.there(ctx, root) {
			fmt.Printf("== images: %s is not built: no program in %s yet\n", i.name, i.binaries[i.main])
			continue
		}
		name := registry + i.name + ":v" + version
		path := filepath.Join(out, i.name+".tar")
		if err := i.build(ctx, root, path, name, version, architectures); err != nil {
			return err
		}
		fmt.Printf("== images: %s in %s\n", name, path)
	}
	return nil
}

// there tells whether the image's program exists.
func (i image) there(ctx context.Context, root string) bool {
	cmd := exec.CommandContext(ctx, "go", "list", "-f", "{{.Name}}", i.binaries[i.main])
	cmd.Dir = root
	out, err := cmd.Output()
	return err == nil && strings.TrimSpace(string(out)) == "main"
}

func (i image) build(ctx context.Context, root, path, name, version string, architectures []string) error {
	var variants []oci.Image
	for _, arch := range architectures {
		bin := filepath.Join(filepath.Dir(path), "bin", arch)
		var files []oci.File
		for binary, pkg := range i.binaries {
			if err := compile(ctx, root, arch, pkg, filepath.Join(bin, binary)); err != nil {
				return err
			}
			files = append(files, oci.File{Path: place(binary), From: filepath.Join(bin, binary)})
		}
		variants = append(variants, oci.Image{
			Architecture: arch, Layers: [][]oci.File{files}, Entrypoint: []string{place(i.main)}, User: i.user,
			Labels: map[string]string{
				"org.opencontainers.image.title":    i.name,
				"org.opencontainers.image.version":  version,
				"org.opencontainers.image.source":   "https://github.com/weftmesh/weft",
				"org.opencontainers.image.licenses": "Apache-2.0",
			},
		})
	}
	return oci.Write(path, []string{name}, variants)
}

// place is where a binary lies in its image. The plugin is no command there: the
// agent copies it to the node.
func place(binary string) string {
	if binary == "weft-cni" {
		return "/opt/weft/weft-cni"
	}
	return "/usr/bin/" + binary
}

func compile(ctx context.Context, root, arch, pkg, to string) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", to, pkg)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("compiling %s for %s: %w\n%s", pkg, arch, err, out)
	}
	return nil
}
