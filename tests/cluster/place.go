// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// place knows where things are: below build/cluster of the repository.
type place struct {
	repo string // the repository
	name string // of the cluster
}

var validName = regexp.MustCompile(`^[a-z][a-z0-9-]{0,30}$`)

// newPlace finds the repository around the working folder.
func newPlace(name string) (place, error) {
	if name == "" {
		name = "weft"
	}
	if !validName.MatchString(name) {
		return place{}, fmt.Errorf("cluster name %q: a small letter, then at most 30 small letters, digits and -", name)
	}
	dir, err := os.Getwd()
	if err != nil {
		return place{}, err
	}
	for ; ; dir = filepath.Dir(dir) {
		mod, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err == nil && strings.HasPrefix(string(mod), "module github.com/weftmesh/weft\n") {
			return place{repo: dir, name: name}, nil
		}
		if dir == "/" {
			return place{}, errors.New("not inside the repository: run it in a folder of Weft's sources")
		}
	}
}

func (p place) clusters() string         { return filepath.Join(p.repo, "build/cluster") }
func (p place) dir() string              { return filepath.Join(p.clusters(), p.name) }
func (p place) pki() string              { return filepath.Join(p.dir(), "pki") }
func (p place) machine(n string) string  { return filepath.Join(p.dir(), "machines", n) }
func (p place) bin() string              { return filepath.Join(p.repo, "build/bin") }
func (p place) envoy() string            { return filepath.Join(p.repo, "build/envoy") }
func (p place) weftImages() string       { return filepath.Join(p.repo, "build/images") }
func (p place) lock() string             { return filepath.Join(p.clusters(), ".lock-"+p.name) }
func (p place) record() string           { return filepath.Join(p.dir(), "cluster.json") }
func (p place) adminKubeconfig() string  { return filepath.Join(p.dir(), "kubeconfig") }
func (p place) commonKubeconfig() string { return filepath.Join(p.clusters(), "kubeconfig") }

// cache is where what was built stays. Several working trees may share one.
func (p place) cache() string {
	if dir := os.Getenv("WEFT_CLUSTER_CACHE"); dir != "" {
		return dir
	}
	return filepath.Join(p.clusters(), ".cache")
}

// cgroup names a machine's control groups. Working trees may have clusters of
// the same name; their paths tell them apart.
func (p place) cgroup(machine string) string {
	sum := sha256.Sum256([]byte(p.dir()))
	return "weft-cluster-" + p.name + "-" + hex.EncodeToString(sum[:3]) + "-" + machine
}

// lock keeps others from path until release is called or the process ends.
func lock(path string) (release func(), err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("locking %s: %w", path, err)
	}
	return func() { _ = f.Close() }, nil
}

// checkDisk: containerd's layers are overlays, whose upper layers an overlay cannot hold.
func (p place) checkDisk() error {
	if err := os.MkdirAll(p.dir(), 0o755); err != nil {
		return err
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(p.dir(), &fs); err != nil {
		return fmt.Errorf("looking at %s: %w", p.dir(), err)
	}
	if fs.Type == unix.OVERLAYFS_SUPER_MAGIC {
		return fmt.Errorf("%s lies on an overlay, which cannot hold the nodes' images: mount a file system of another kind on %s",
			p.dir(), p.clusters())
	}
	return nil
}
