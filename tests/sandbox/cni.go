// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Runtime calls a CNI plugin as a container runtime does.
type Runtime struct {
	Plugin string         // path of the binary
	Conf   map[string]any // network configuration; prevResult is added where the spec asks for it
}

// NewRuntime calls weft-cni of the build folder with its plain configuration.
func NewRuntime(bin string) *Runtime {
	return &Runtime{
		Plugin: filepath.Join(bin, "weft-cni"),
		Conf:   map[string]any{"cniVersion": "1.1.0", "name": "weft", "type": "weft-cni"},
	}
}

// CNIError is what a plugin prints when it fails.
type CNIError struct {
	Code    int    `json:"code"`
	Msg     string `json:"msg"`
	Details string `json:"details"`
}

// Error is the plugin's message with its code.
func (e *CNIError) Error() string {
	return strings.TrimSuffix(fmt.Sprintf("CNI error %d: %s: %s", e.Code, e.Msg, e.Details), ": ")
}

// Pod is an attached workload.
type Pod struct {
	NS          *NS
	Namespace   string
	Name        string
	ContainerID string
	IfName      string
	IPv4        netip.Addr
	IPv6        netip.Addr
	Result      json.RawMessage // of the ADD
}

// AddPod makes a network namespace for the manifest's pod namespace/name and
// attaches it.
func (r *Runtime) AddPod(ctx context.Context, namespace, name string) (*Pod, error) {
	ns, err := NewNS(namespace + "-" + name)
	if err != nil {
		return nil, err
	}
	p := &Pod{NS: ns, Namespace: namespace, Name: name, ContainerID: "c-" + namespace + "-" + name, IfName: "eth0"}
	if err := r.Attach(ctx, p); err != nil {
		_ = ns.Close()
		return nil, err
	}
	return p, nil
}

// Attach calls ADD for a pod whose namespace is there, and notes its addresses.
func (r *Runtime) Attach(ctx context.Context, p *Pod) error {
	out, err := r.Call(ctx, "ADD", p)
	if err != nil {
		return fmt.Errorf("adding pod %s/%s: %w", p.Namespace, p.Name, err)
	}
	var result struct {
		IPs []struct {
			Address netip.Prefix `json:"address"`
		} `json:"ips"`
	}
	if err := json.Unmarshal(out, &result); err != nil {
		return fmt.Errorf("adding pod %s/%s: reading the result: %w", p.Namespace, p.Name, err)
	}
	p.Result = out
	for _, ip := range result.IPs {
		if a := ip.Address.Addr(); a.Is4() {
			p.IPv4 = a
		} else {
			p.IPv6 = a
		}
	}
	return nil
}

// DelPod calls DEL and removes the pod's network namespace.
func (r *Runtime) DelPod(ctx context.Context, p *Pod) error {
	if _, err := r.Call(ctx, "DEL", p); err != nil {
		return fmt.Errorf("deleting pod %s/%s: %w", p.Namespace, p.Name, err)
	}
	return p.NS.Close()
}

// Check calls CHECK.
func (r *Runtime) Check(ctx context.Context, p *Pod) error {
	_, err := r.Call(ctx, "CHECK", p)
	return err
}

// Call runs the plugin with one command. p is nil for GC, STATUS and VERSION.
// A plugin that fails gives a *CNIError.
func (r *Runtime) Call(ctx context.Context, command string, p *Pod) ([]byte, error) {
	conf := make(map[string]any, len(r.Conf)+1)
	for k, v := range r.Conf {
		conf[k] = v
	}
	env := append(os.Environ(), "CNI_COMMAND="+command, "CNI_PATH="+filepath.Dir(r.Plugin))
	if p != nil {
		if command != "ADD" && p.Result != nil {
			conf["prevResult"] = p.Result
		}
		env = append(env, "CNI_CONTAINERID="+p.ContainerID, "CNI_NETNS="+p.NS.Path, "CNI_IFNAME="+p.IfName,
			fmt.Sprintf("CNI_ARGS=IgnoreUnknown=1;K8S_POD_NAMESPACE=%s;K8S_POD_NAME=%s;K8S_POD_INFRA_CONTAINER_ID=%s",
				p.Namespace, p.Name, p.ContainerID))
	}
	stdin, err := json.Marshal(conf)
	if err != nil {
		return nil, fmt.Errorf("writing the CNI configuration: %w", err)
	}
	cmd := exec.CommandContext(ctx, r.Plugin)
	cmd.Env = env
	cmd.Stdin = bytes.NewReader(stdin)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		var failed CNIError
		if json.Unmarshal(stdout.Bytes(), &failed) == nil && failed.Msg != "" {
			return nil, &failed
		}
		return nil, fmt.Errorf("running %s %s: %w: %s%s", r.Plugin, command, err, stdout.Bytes(), stderr.Bytes())
	}
	return stdout.Bytes(), nil
}
