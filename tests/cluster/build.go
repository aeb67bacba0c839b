// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
)

// build is a set of programs from one module in builds/, whose go.mod pins the
// version and whose tool lines name the programs.
type build struct {
	module string
	tags   string
	cgo    bool
	// stamp is where the version is written by the linker, and for which module.
	stamp   []string
	version string
}

const kubernetesVersion = "1.37.1"

func builds() []build {
	return []build{
		{module: "kubernetes", version: "v" + kubernetesVersion,
			stamp: []string{"k8s.io/component-base/version.gitVersion", "k8s.io/client-go/pkg/version.gitVersion"}},
		{module: "etcd"},
		{module: "containerd", tags: "no_btrfs no_devmapper no_zfs"},
		// Its first steps in a container are C.
		{module: "runc", tags: "seccomp urfave_cli_no_docs", cgo: true},
		{module: "coredns"},
	}
}

// tools are the folders with the built programs.
type tools []string

// path finds a program.
func (t tools) path(name string) string {
	for _, dir := range t {
		if p := filepath.Join(dir, name); isFile(p) {
			return p
		}
	}
	return name
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

// searchPath is a PATH with them before the usual ones.
func (t tools) searchPath(more ...string) string {
	return "PATH=" + strings.Join(append(append(more, t...), "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"), ":")
}

// makeTools builds what is not in the cache.
func (c *Cluster) makeTools(ctx context.Context) (tools, error) {
	release, err := lock(filepath.Join(c.at.cache(), "lock"))
	if err != nil {
		return nil, err
	}
	defer release()
	var all tools
	for _, b := range builds() {
		dir, err := c.make(ctx, b)
		if err != nil {
			return nil, fmt.Errorf("building %s: %w", b.module, err)
		}
		all = append(all, dir)
	}
	return all, nil
}

func (c *Cluster) make(ctx context.Context, b build) (string, error) {
	source := filepath.Join(c.at.repo, "tests/cluster/builds", b.module)
	key, err := b.key(source)
	if err != nil {
		return "", err
	}
	dir := filepath.Join(c.at.cache(), b.module+"-"+key)
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	if b.cgo {
		if err := c.needCompiler(ctx); err != nil {
			return "", err
		}
	}
	c.say("building %s (once; minutes)", b.module)
	if err := os.RemoveAll(dir + ".new"); err != nil {
		return "", err
	}
	if err := os.MkdirAll(dir+".new", 0o755); err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, "go", b.arguments(dir+".new")...)
	cmd.Dir = source
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
	if b.cgo {
		cmd.Env = append(cmd.Env, "CGO_ENABLED=1")
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w\n%s", err, lastLines(out, 20))
	}
	// etcd's program is named after its package.
	if server := filepath.Join(dir+".new", "server"); isFile(server) {
		if err := os.Rename(server, filepath.Join(dir+".new", "etcd")); err != nil {
			return "", err
		}
	}
	return dir, os.Rename(dir+".new", dir)
}

func (b build) arguments(out string) []string {
	link := "-s -w"
	for _, s := range b.stamp {
		link += " -X " + s + "=" + b.version
	}
	return []string{"build", "-trimpath", "-buildvcs=false", "-tags=" + b.tags, "-ldflags=" + link, "-o", out + "/", "tool"}
}

// key stands for everything that the programs are made of.
func (b build) key(source string) (string, error) {
	sum := sha256.New()
	for _, name := range []string{"go.mod", "go.sum"} {
		content, err := os.ReadFile(filepath.Join(source, name))
		if err != nil {
			return "", err
		}
		sum.Write(content)
	}
	fmt.Fprint(sum, runtime.Version(), runtime.GOARCH, b.cgo, b.arguments(""))
	return hex.EncodeToString(sum.Sum(nil)[:6]), nil
}

// needCompiler installs what runc is built with.
func (c *Cluster) needCompiler(ctx context.Context) error {
	_, err := exec.LookPath("gcc")
	if err == nil {
		err = exec.CommandContext(ctx, "pkg-config", "--exists", "libseccomp").Run()
	}
	if err == nil {
		return nil
	}
	return c.install(ctx, "gcc", "libc6-dev", "libseccomp-dev", "pkg-config")
}

// install installs Debian packages.
func (c *Cluster) install(ctx context.Context, packages ...string) error {
	names := strings.Join(packages, " ")
	if _, err := exec.LookPath("apt-get"); err != nil {
		return fmt.Errorf("%s are needed; this system has no apt-get to install them with", names)
	}
	c.say("installing %s", names)
	return apt(ctx, "", append([]string{"install", "-y", "-qq", "--no-install-recommends"}, packages...)...)
}

// apt runs apt-get in a folder, after an update if it fails without.
func apt(ctx context.Context, dir string, args ...string) error {
	once := func(args ...string) ([]byte, error) {
		cmd := exec.CommandContext(ctx, "apt-get", args...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
		return cmd.CombinedOutput()
	}
	if _, err := once(args...); err == nil {
		return nil
	}
	if out, err := once("update", "-qq"); err != nil {
		return fmt.Errorf("apt-get update: %w\n%s", err, lastLines(out, 3))
	}
	if out, err := once(args...); err != nil {
		return fmt.Errorf("apt-get %s (Debian 12, Ubuntu 24.04 or later is needed): %w\n%s", strings.Join(args, " "), err, lastLines(out, 3))
	}
	return nil
}

func lastLines(text []byte, n int) []byte {
	lines := bytes.Split(bytes.TrimSpace(text), []byte("\n"))
	return bytes.Join(lines[max(0, len(lines)-n):], []byte("\n"))
}
