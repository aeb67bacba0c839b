// SPDX-License-Identifier: Apache-2.0

// Package apiserver runs a real kube-apiserver with etcd, and no other part of
// Kubernetes, for tests of what speaks with it: objects stay as they are written.
package apiserver

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// Variables that say where etcd and kube-apiserver are: a list of folders, or the
// cache of the cluster of tests/cluster, which builds them.
const (
	BinEnv   = "WEFT_KUBE_BIN"
	CacheEnv = "WEFT_CLUSTER_CACHE"
)

// Admin is a user who may do everything. Any other name is a user who may do what
// roles say.
const Admin = "admin"

const (
	startTimeout = time.Minute
	stopTimeout  = 10 * time.Second
	pollInterval = 100 * time.Millisecond
	keyBits      = 2048
)

// Server is a running API server.
type Server struct {
	dir, url string
	procs    []*exec.Cmd
}

// bin finds a program of Kubernetes; of several that were built, the newest.
func bin(root, name string) (string, error) {
	var found []string
	for _, dir := range filepath.SplitList(os.Getenv(BinEnv)) {
		found = append(found, filepath.Join(dir, name))
	}
	if len(found) == 0 {
		cache := cmp.Or(os.Getenv(CacheEnv), filepath.Join(root, "build/cluster/.cache"))
		found, _ = filepath.Glob(filepath.Join(cache, "*", name)) // the pattern is sound
	}
	best, newest := "", time.Time{}
	for _, path := range found {
		if info, err := os.Stat(path); err == nil && !info.IsDir() && info.ModTime().After(newest) {
			best, newest = path, info.ModTime()
		}
	}
	if best == "" {
		return "", fmt.Errorf("%s is not there: run make test-cluster or make cluster-up, which build it, or set %s to the folder that has it", name, BinEnv)
	}
	return best, nil
}

// Start runs the servers with their data and logs in dir; users are those who may
// log in beside Admin. root is that of the repository.
func Start(ctx context.Context, root, dir string, users ...string) (*Server, error) {
	etcd, err := bin(root, "etcd")
	if err != nil {
		return nil, err
	}
	api, err := bin(root, "kube-apiserver")
	if err != nil {
		return nil, err
	}
	ports, err := freePorts(3)
	if err != nil {
		return nil, err
	}
	s := &Server{dir: dir, url: "https://127.0.0.1:" + ports[2]}
	if err := s.credentials(users); err != nil {
		return nil, err
	}
	client, peer := "http://127.0.0.1:"+ports[0], "http://127.0.0.1:"+ports[1]
	err = s.spawn(etcd, "--data-dir", filepath.Join(dir, "etcd"), "--unsafe-no-fsync", "--log-level", "warn",
		"--listen-client-urls", client, "--advertise-client-urls", client, "--listen-peer-urls", peer,
		"--initial-advertise-peer-urls", peer, "--initial-cluster", "default="+peer)
	if err == nil {
		err = s.spawn(api, "--etcd-servers="+client, "--bind-address=127.0.0.1", "--advertise-address=127.0.0.1",
			"--secure-port="+ports[2], "--cert-dir="+filepath.Join(dir, "certs"), "--service-cluster-ip-range=10.96.0.0/16",
			"--authorization-mode=RBAC", "--token-auth-file="+filepath.Join(dir, "tokens.csv"),
			"--service-account-issuer=https://kubernetes.default.svc", "--service-account-key-file="+filepath.Join(dir, "sa.key"),
			"--service-account-signing-key-file="+filepath.Join(dir, "sa.key"), "--allow-privileged=true",
			"--disable-admission-plugins=ServiceAccount", "--max-requests-inflight=0", "--max-mutating-requests-inflight=0",
			"--enable-priority-and-fairness=false", "--endpoint-reconciler-type=none")
	}
	if err == nil {
		err = s.wait(ctx)
	}
	if err != nil {
		s.Stop()
		return nil, err
	}
	return s, nil
}

// credentials writes the tokens and the key of service accounts.
func (s *Server) credentials(users []string) error {
	var tokens strings.Builder
	fmt.Fprintf(&tokens, "token-%s,%s,%s,system:masters\n", Admin, Admin, Admin)
	for _, u := range users {
		fmt.Fprintf(&tokens, "token-%s,%s,%s\n", u, u, u)
	}
	key, err := rsa.GenerateKey(rand.Reader, keyBits)
	if err != nil {
		return fmt.Errorf("making the key of service accounts: %w", err)
	}
	block := pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})
	for name, data := range map[string][]byte{"tokens.csv": []byte(tokens.String()), "sa.key": block} {
		if err := os.WriteFile(filepath.Join(s.dir, name), data, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// spawn starts a program that ends with this process.
func (s *Server) spawn(path string, args ...string) error {
	log, err := os.Create(filepath.Join(s.dir, filepath.Base(path)+".log"))
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(path, args...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("starting %s: %w", path, err)
	}
	s.procs = append(s.procs, cmd)
	return nil
}

func (s *Server) wait(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	client, err := kubernetes.NewForConfig(s.Config(Admin))
	if err != nil {
		return err
	}
	for {
		err := client.RESTClient().Get().AbsPath("/readyz").Do(ctx).Error()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			log, _ := os.ReadFile(filepath.Join(s.dir, "kube-apiserver.log"))
			return fmt.Errorf("waiting for the API server: %w\n%s", err, bytes.TrimSpace(log[max(0, len(log)-4000):]))
		case <-time.After(pollInterval):
		}
	}
}

// Stop ends the servers, the last one first.
func (s *Server) Stop() {
	for i := len(s.procs) - 1; i >= 0; i-- {
		p := s.procs[i]
		kill := time.AfterFunc(stopTimeout, func() { _ = p.Process.Kill() })
		_ = p.Process.Signal(syscall.SIGTERM)
		_ = p.Wait()
		kill.Stop()
	}
}

// Config is a user's access.
func (s *Server) Config(user string) *rest.Config {
	return &rest.Config{Host: s.url, BearerToken: "token-" + user, QPS: -1,
		TLSClientConfig: rest.TLSClientConfig{Insecure: true}}
}

// Kubeconfig writes a user's access as a file, and returns its path.
func (s *Server) Kubeconfig(user string) (string, error) {
	path := filepath.Join(s.dir, strings.ReplaceAll(user, ":", "-")+".kubeconfig")
	text := fmt.Sprintf(`{"apiVersion":"v1","kind":"Config","current-context":"c",
"clusters":[{"name":"c","cluster":{"server":%q,"insecure-skip-tls-verify":true}}],
"users":[{"name":"u","user":{"token":%q}}],
"contexts":[{"name":"c","context":{"cluster":"c","user":"u"}}]}`, s.url, "token-"+user)
	return path, os.WriteFile(path, []byte(text), 0o600)
}

func freePorts(n int) ([]string, error) {
	var out []string
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, fmt.Errorf("looking for a free port: %w", err)
		}
		defer l.Close() // only after the last one is found, so that they differ
		_, port, err := net.SplitHostPort(l.Addr().String())
		if err != nil {
			return nil, err
		}
		out = append(out, port)
	}
	return out, nil
}
