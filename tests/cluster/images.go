// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"crypto/sha256"
	_ "embed" // images.go itself
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/weftmesh/weft/daemonset/images/oci"
)

// Images that a node has from the start, by the names they have in the world.
const (
	PauseImage   = "registry.k8s.io/pause:3.10.2"
	CoreDNSImage = "registry.k8s.io/coredns/coredns:v1.15.0"
	// AgnhostImage is the test image of Kubernetes: agnhost, and busybox's shell,
	// wget, nc, ping, nslookup and the like.
	AgnhostImage = "registry.k8s.io/e2e-test-images/agnhost:2.66.1"
	// EnvoyImage is the stock Envoy, by the name that the chart has.
	EnvoyImage = "docker.io/envoyproxy/envoy:distroless-v1.40.0"
)

// A change of what follows makes the images anew.
//
//go:embed images.go
var imagesSource []byte

// makeImages writes the archives that are not in the cache.
func (c *Cluster) makeImages(ctx context.Context) ([]string, error) {
	release, err := lock(filepath.Join(c.at.cache(), "lock"))
	if err != nil {
		return nil, err
	}
	defer release()
	pin, err := os.ReadFile(filepath.Join(c.at.envoy(), "pin"))
	if err != nil {
		return nil, fmt.Errorf("no Envoy is there: run 'make envoy' first: %w", err)
	}
	sum := sha256.Sum256(fmt.Append(imagesSource, c.tools, string(pin)))
	dir := filepath.Join(c.at.cache(), "images-"+hex.EncodeToString(sum[:6]))
	archives := []string{filepath.Join(dir, "pause.tar"), filepath.Join(dir, "coredns.tar"), filepath.Join(dir, "agnhost.tar"), filepath.Join(dir, "envoy.tar")}
	if _, err := os.Stat(dir); err == nil {
		return archives, nil
	}
	c.say("making images")
	work := dir + ".new"
	if err := os.RemoveAll(work); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(work, 0o755); err != nil {
		return nil, err
	}
	for _, write := range []func(context.Context, string) error{c.pauseImage, c.coreDNSImage, c.agnhostImage, c.envoyImage} {
		if err := write(ctx, work); err != nil {
			return nil, fmt.Errorf("making images: %w", err)
		}
	}
	return archives, os.Rename(work, dir)
}

// WeftImages are the archives that make images wrote: that of a name, or all.
func (c *Cluster) WeftImages(name string) ([]string, error) {
	if name == "" {
		name = "*"
	}
	found, err := filepath.Glob(filepath.Join(c.at.weftImages(), name+".tar"))
	if err == nil && len(found) == 0 {
		err = fmt.Errorf("no archive %s and none of that name in %s: run 'make images' first", name, c.at.weftImages())
	}
	return found, err
}

func (c *Cluster) pauseImage(ctx context.Context, dir string) error {
	binary := filepath.Join(dir, "pause")
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", binary, "./pause")
	cmd.Dir = filepath.Join(c.at.repo, "tests/cluster")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("building pause: %w\n%s", err, out)
	}
	return oci.Write(filepath.Join(dir, "pause.tar"), []string{PauseImage}, []oci.Image{{
		Architecture: runtime.GOARCH, Entrypoint: []string{"/pause"}, User: "65535:65535",
		Layers: [][]oci.File{{{Path: "/pause", From: binary}}}}})
}

func (c *Cluster) coreDNSImage(_ context.Context, dir string) error {
	return oci.Write(filepath.Join(dir, "coredns.tar"), []string{CoreDNSImage}, []oci.Image{{
		Architecture: runtime.GOARCH, Entrypoint: []string{"/coredns"},
		Layers: [][]oci.File{{{Path: "/coredns", From: c.tools.path("coredns")}}}}})
}

func (c *Cluster) agnhostImage(ctx context.Context, dir string) error {
	shell, err := busybox(ctx, dir)
	if err != nil {
		return err
	}
	agnhost := []oci.File{
		{Path: "/agnhost", From: c.tools.path("agnhost")},
		{Path: "/agnhost-2", Link: "agnhost"},
		{Path: "/tmp/", Mode: 0o1777}, {Path: "/uploads/"}, {Path: "/root/", Mode: 0o700},
		{Path: "/etc/passwd", Mode: 0o644, Content: "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n"},
		{Path: "/etc/group", Mode: 0o644, Content: "root:x:0:\nnogroup:x:65534:\n"},
	}
	return oci.Write(filepath.Join(dir, "agnhost.tar"), []string{AgnhostImage}, []oci.Image{{
		Architecture: runtime.GOARCH, Entrypoint: []string{"/agnhost"}, Cmd: []string{"pause"},
		Layers: [][]oci.File{shell, agnhost}}})
}

// envoyImage has the binary that make envoy brings, where the official image has it, and
// this machine's C library in the place of that image's.
func (c *Cluster) envoyImage(ctx context.Context, dir string) error {
	binary := filepath.Join(c.at.envoy(), "envoy")
	libraries, err := sharedLibraries(ctx, binary)
	if err != nil {
		return err
	}
	return oci.Write(filepath.Join(dir, "envoy.tar"), []string{EnvoyImage}, []oci.Image{{
		Architecture: runtime.GOARCH, Entrypoint: []string{"/usr/local/bin/envoy"}, User: "65532:65532",
		Layers: [][]oci.File{append(libraries, oci.File{Path: "/usr/local/bin/envoy", From: binary})}}})
}

// sharedLibraries are those that a binary is run with, its loader among them, at the
// places where it looks for them.
func sharedLibraries(ctx context.Context, binary string) ([]oci.File, error) {
	out, err := exec.CommandContext(ctx, "ldd", binary).Output()
	if err != nil {
		return nil, fmt.Errorf("asking ldd for the libraries of %s: %w", binary, err)
	}
	var files []oci.File
	for line := range strings.Lines(string(out)) { // NAME => /PATH (ADDRESS), or /PATH (ADDRESS)
		path, _, _ := strings.Cut(strings.TrimSpace(line), " (")
		if _, found, ok := strings.Cut(path, " => "); ok {
			path = found
		}
		if filepath.IsAbs(path) {
			files = append(files, oci.File{Path: path, From: path})
		}
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("ldd names no library of %s: %s", binary, out)
	}
	return files, nil
}

// busybox takes the static one out of Debian's package, which is not installed.
func busybox(ctx context.Context, dir string) ([]oci.File, error) {
	const pkg = "busybox-static"
	if err := apt(ctx, dir, "download", "-qq", pkg); err != nil {
		return nil, fmt.Errorf("%s is needed for the test image: %w", pkg, err)
	}
	found, err := filepath.Glob(filepath.Join(dir, pkg+"_*.deb"))
	if err != nil || len(found) == 0 {
		return nil, fmt.Errorf("apt-get download left no %s_*.deb", pkg)
	}
	to := filepath.Join(dir, pkg)
	if out, err := exec.CommandContext(ctx, "dpkg-deb", "-x", found[0], to).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("unpacking %s: %w\n%s", found[0], err, out)
	}
	binary := filepath.Join(to, "bin/busybox")
	if !isFile(binary) {
		binary = filepath.Join(to, "usr/bin/busybox")
	}
	list, err := exec.CommandContext(ctx, binary, "--list").Output()
	if err != nil {
		return nil, fmt.Errorf("asking busybox for its applets: %w", err)
	}
	files := []oci.File{{Path: "/bin/busybox", From: binary}}
	for applet := range strings.FieldsSeq(string(list)) {
		if applet != "busybox" {
			files = append(files, oci.File{Path: "/bin/" + applet, Link: "busybox"})
		}
	}
	return files, nil
}
