// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	_ "embed" // the manifest of CoreDNS
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

//go:embed coredns.yaml
var coreDNS string

// api asks the API server without a kubectl, which is slow to ask often.
type api struct {
	client *http.Client
	server string
	port   int
}

func newAPI(p *pki, port int) (*api, error) {
	id, err := p.ca.issue(holder{user: "harness", groups: []string{"system:masters"}})
	if err != nil {
		return nil, err
	}
	pair, err := tls.X509KeyPair(id.cert, id.key)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AddCert(p.ca.cert)
	return &api{port: port, server: fmt.Sprintf("https://127.0.0.1:%d", port), client: &http.Client{Timeout: 10 * time.Second,
		Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{pair}}}}}, nil
}

// get asks for an object or list, by its path, and decodes it.
func (a *api) get(ctx context.Context, path string, into any) error {
	return a.request(ctx, http.MethodGet, path, nil, into)
}

func (a *api) request(ctx context.Context, method, path string, body, into any) error {
	var content bytes.Buffer
	if body != nil {
		if err := json.NewEncoder(&content).Encode(body); err != nil {
			return err
		}
	}
	request, err := http.NewRequestWithContext(ctx, method, a.server+path, &content)
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	if method == http.MethodPatch {
		request.Header.Set("Content-Type", "application/merge-patch+json")
	}
	answer, err := a.client.Do(request)
	if err != nil {
		return fmt.Errorf("asking the API server: %w", err)
	}
	defer func() { _ = answer.Body.Close() }()
	said, err := io.ReadAll(answer.Body)
	if err != nil {
		return fmt.Errorf("asking the API server for %s: %w", path, err)
	}
	if answer.StatusCode >= http.StatusMultipleChoices {
		return fmt.Errorf("asking the API server for %s: %s: %s", path, answer.Status, said)
	}
	if into == nil {
		return nil
	}
	return json.Unmarshal(said, into)
}

// Request asks the API server as the administrator: for many things at a time, for which
// a kubectl each would take long. What is sent is encoded as JSON, a patch is a merge
// patch, and the answer is decoded, unless into is nil.
func (c *Cluster) Request(ctx context.Context, method, path string, body, into any) error {
	return c.api.request(ctx, method, path, body, into)
}

// Watch calls do with every line that a watch gives, until do or the context ends it.
func (c *Cluster) Watch(ctx context.Context, path string, do func(line []byte) bool) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, c.api.server+path, nil)
	if err != nil {
		return err
	}
	client := *c.api.client
	client.Timeout = 0
	answer, err := client.Do(request)
	if err != nil {
		return fmt.Errorf("watching %s: %w", path, err)
	}
	defer func() { _ = answer.Body.Close() }()
	lines := bufio.NewReaderSize(answer.Body, 1<<20)
	for {
		line, err := lines.ReadBytes('\n')
		if ctx.Err() != nil || len(line) > 0 && !do(line) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("watching %s: %w", path, err)
		}
	}
}

func (a *api) ready(ctx context.Context) error {
	return within(ctx, 2*time.Minute, "API server ready", func() error { return a.get(ctx, "/readyz", nil) })
}

// NodeStatus is what the API server says of a node.
type NodeStatus struct {
	Metadata struct{ Name string }
	Spec     struct {
		PodCIDRs []string
		Taints   []struct{ Key, Effect string }
	}
	Status struct {
		Conditions []struct{ Type, Status, Reason, Message string }
	}
}

// Ready gives the node's condition and what kubelet says of it.
func (n NodeStatus) Ready() (ready bool, message string) {
	for _, c := range n.Status.Conditions {
		if c.Type == "Ready" {
			return c.Status == "True", c.Message
		}
	}
	return false, "kubelet has not said"
}

// NodeStatuses asks for all nodes.
func (c *Cluster) NodeStatuses(ctx context.Context) ([]NodeStatus, error) {
	var list struct{ Items []NodeStatus }
	err := c.api.get(ctx, "/api/v1/nodes", &list)
	return list.Items, err
}

func (c *Cluster) waitRegistered(ctx context.Context) error {
	return within(ctx, 2*time.Minute, "nodes registered", func() error {
		nodes, err := c.NodeStatuses(ctx)
		if err != nil {
			return err
		}
		with := 0
		for _, n := range nodes {
			if len(n.Spec.PodCIDRs) > 0 {
				with++
			}
		}
		if with != len(c.nodes) {
			return fmt.Errorf("%d of %d have registered and have pod ranges", with, len(c.nodes))
		}
		return nil
	})
}

// WaitReady waits until every node is Ready: Weft works there.
func (c *Cluster) WaitReady(ctx context.Context, atMost time.Duration) error {
	return within(ctx, atMost, "every node Ready", func() error {
		nodes, err := c.NodeStatuses(ctx)
		if err != nil {
			return err
		}
		for _, n := range nodes {
			if ok, why := n.Ready(); !ok {
				err = errors.Join(err, fmt.Errorf("%s: %s", n.Metadata.Name, why))
			}
		}
		if len(nodes) != len(c.nodes) {
			err = errors.Join(err, fmt.Errorf("%d of %d nodes", len(nodes), len(c.nodes)))
		}
		return err
	})
}

// Kubectl runs kubectl as the administrator and gives what it printed.
func (c *Cluster) Kubectl(ctx context.Context, args ...string) (string, error) {
	return c.kubectl(ctx, "", args...)
}

// Apply applies manifests, given as YAML.
func (c *Cluster) Apply(ctx context.Context, yaml string) error {
	_, err := c.kubectl(ctx, yaml, "apply", "--server-side", "--force-conflicts", "-f", "-")
	return err
}

func (c *Cluster) kubectl(ctx context.Context, stdin string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, c.tools.path("kubectl"), args...)
	cmd.Env = c.Env()
	cmd.Stdin = strings.NewReader(stdin)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.String(), fmt.Errorf("kubectl %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(stderr.String()))
	}
	return stdout.String(), nil
}

// Shell runs a command as a user would type it, in the repository with Env; it gives
// both streams. What it exits with is an *exec.ExitError.
func (c *Cluster) Shell(ctx context.Context, command string) (string, error) {
	cmd := exec.CommandContext(ctx, "bash", "-c", command)
	cmd.Dir, cmd.Env = c.at.repo, c.Env()
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	// What the command has started may hold the streams open.
	cmd.WaitDelay = time.Second
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("%s: %w", command, err)
	}
	return out.String(), nil
}

// Repository is the folder of Weft's sources; machines see it, too.
func (c *Cluster) Repository() string { return c.at.repo }

// Env is the environment of who works with the cluster: KUBECONFIG, and weft,
// kubectl and the other programs on PATH.
func (c *Cluster) Env() []string {
	path := c.tools.searchPath(c.at.bin(), filepath.Join(c.at.repo, "build/tools")) + ":" + os.Getenv("PATH")
	return append(os.Environ(), path, "KUBECONFIG="+c.Kubeconfig(), "KUBECACHEDIR="+filepath.Join(c.at.dir(), "kubectl"))
}

// within repeats a look at something until it gives no error.
func within(ctx context.Context, atMost time.Duration, what string, look func() error) error {
	ctx, cancel := context.WithTimeout(ctx, atMost)
	defer cancel()
	for {
		err := look()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting %s for %s: %w", atMost, what, err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}
