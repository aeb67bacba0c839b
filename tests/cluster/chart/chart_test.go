// SPDX-License-Identifier: Apache-2.0

// Package chart tries the Helm chart on a real cluster, as a user handles it:
// install, upgrade, uninstall, install again.
package chart

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weftmesh/weft/tests/cluster"
)

const (
	helm      = "../../../build/tools/helm"
	folder    = "../../../daemonset/chart"
	namespace = "weft-system"
	// apiServer is where nodes of a test cluster reach the API server.
	apiServer = "172.30.0.1"
)

var suite = cluster.NewSuite(cluster.Options{Name: "test-chart", Nodes: 2, Log: os.Stderr})

func TestMain(m *testing.M) { suite.Main(m) }

// release is Weft's, on a cluster.
type release struct {
	t *testing.T
	c *cluster.Cluster
}

func (r *release) helm(args ...string) {
	r.t.Helper()
	cmd := exec.CommandContext(r.t.Context(), helm, args...)
	cmd.Env = append(r.c.Env(), "HELM_CACHE_HOME="+r.t.TempDir(), "HELM_CONFIG_HOME="+r.t.TempDir(), "HELM_DATA_HOME="+r.t.TempDir())
	if out, err := cmd.CombinedOutput(); err != nil {
		r.t.Fatalf("helm %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

func (r *release) install() {
	r.t.Helper()
	r.helm("install", "weft", folder, "--namespace", namespace, "--create-namespace", "--set", "apiServer.host="+apiServer,
		"--wait", "--timeout", "3m")
	if err := r.c.WaitReady(r.t.Context(), time.Minute); err != nil {
		r.t.Fatal(err)
	}
}

// kubectl gives what it printed, in words.
func (r *release) kubectl(args ...string) []string {
	r.t.Helper()
	out, err := r.c.Kubectl(r.t.Context(), args...)
	if err != nil {
		r.t.Fatal(err)
	}
	return strings.Fields(out)
}

func (r *release) agents() string {
	r.t.Helper()
	return strings.Join(r.kubectl("-n", namespace, "get", "pods", "-l", "app.kubernetes.io/name=weft-agent", "--sort-by=.spec.nodeName", "-o", "name"), " ")
}

// eventually repeats a look until it gives no error.
func (r *release) eventually(atMost time.Duration, look func() error) {
	r.t.Helper()
	for deadline := time.Now().Add(atMost); ; time.Sleep(100 * time.Millisecond) {
		err := look()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			r.t.Fatalf("after %s: %v", atMost, err)
		}
	}
}

func TestALifeOfTheChart(t *testing.T) {
	r := &release{t: t, c: suite.Cluster(t)}
	r.install()

	r.kubectl("-n", "kube-system", "rollout", "status", "deployment/coredns", "--timeout=2m")
	r.agentsWriteWhatIsTheirs()
	r.filesAreRestored()

	before := r.agents()
	r.helm("upgrade", "weft", folder, "--namespace", namespace, "--reuse-values", "--set", "operator.replicas=1", "--wait", "--timeout", "3m")
	if after := r.agents(); after != before {
		t.Errorf("an upgrade that changes nothing for agents replaced them: %s, before %s", after, before)
	}
	r.helm("upgrade", "weft", folder, "--namespace", namespace, "--reuse-values", "--set", "logLevel=debug", "--wait", "--timeout", "3m")
	r.eventually(4*time.Minute, func() error { // kubelet looks every minute, and a while later
		for _, agent := range strings.Fields(before) {
			if !slices.ContainsFunc(r.kubectl("-n", namespace, "logs", agent), func(s string) bool { return strings.Contains(s, `"changed":["logLevel"]`) }) {
				return fmt.Errorf("%s has not read its configuration again", agent)
			}
		}
		return nil
	})
	if after := r.agents(); after != before {
		t.Errorf("a change of the log's level replaced agents: %s, before %s", after, before)
	}
	r.helm("upgrade", "weft", folder, "--namespace", namespace, "--reuse-values", "--set", "flows.bufferSize=1000", "--wait", "--timeout", "3m")
	if after := r.agents(); after == before {
		t.Error("an upgrade with another configuration left agents with the old one")
	}

	for range 2 {
		r.helm("uninstall", "weft", "--namespace", namespace, "--timeout", "5m")
		r.nothingIsLeft()
		r.install() // adopts the definitions
	}
	r.helm("uninstall", "weft", "--namespace", namespace, "--timeout", "5m")
}

// agentsWriteWhatIsTheirs: the admission policies know whose token it is.
func (r *release) agentsWriteWhatIsTheirs() {
	r.t.Helper()
	slice := func(name, node string) string {
		return fmt.Sprintf(`{"apiVersion": "weftmesh.io/v1alpha1", "kind": "WeftEndpointSlice", "metadata": {"name": %q}, "nodeName": %q}`, name, node)
	}
	// Nothing is really written: the agents would put right what is not so.
	as := func(node string, args ...string) error {
		args = append(args, "--dry-run=server", "--as", "system:serviceaccount:"+namespace+":weft-agent")
		if node != "" {
			args = append(args, "--as-user-extra", "authentication.kubernetes.io/node-name="+node)
		}
		_, err := r.c.Kubectl(r.t.Context(), args...)
		return err
	}
	create := func(node, content string) error {
		file := r.t.TempDir() + "/object.json"
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			r.t.Fatal(err)
		}
		return as(node, "create", "-f", file)
	}
	check := func(what string, err error, refused string) {
		r.t.Helper()
		if refused == "" && err != nil || refused != "" && (err == nil || !strings.Contains(err.Error(), refused)) {
			r.t.Errorf("%s: %v; want %q", what, err, refused)
		}
	}
	check("its own slice", create("n1", slice("n1-tried", "n1")), "")
	check("a slice of another node", create("n1", slice("n1-other", "n2")), "nodeName must be n1")
	check("a slice by the name of another node's", create("n1", slice("n2-other", "n1")), "the name must begin with n1-")
	check("a slice with a token of no node", create("", slice("n1-other", "n1")), "names no node")
	// That of CoreDNS.
	there := r.kubectl("get", "weftendpointslices", "-o", "jsonpath={.items[0].metadata.name} {.items[0].nodeName}")
	other := map[string]string{"n1": "n2", "n2": "n1"}[there[1]]
	check("deleting its own slice", as(there[1], "delete", "weftendpointslice", there[0]), "")
	check("deleting another node's slice", as(other, "delete", "weftendpointslice", there[0]), "this is of "+there[1]+", not of "+other)
	if err := create("n1", `{"apiVersion": "weftmesh.io/v1alpha1", "kind": "WeftNode", "metadata": {"name": "n9"}}`); err == nil {
		r.t.Error("an agent makes a WeftNode")
	}
}

func (r *release) filesAreRestored() {
	r.t.Helper()
	n := r.c.Nodes()[0]
	const files = "/etc/cni/net.d/05-weft.conflist /opt/cni/bin/weft-cni"
	if _, err := n.Run(r.t.Context(), "rm "+files); err != nil {
		r.t.Fatal(err)
	}
	r.eventually(30*time.Second, func() error { _, err := n.Run(r.t.Context(), "ls "+files); return err })
}

// nothingIsLeft on the nodes and in the API, but for definitions.
func (r *release) nothingIsLeft() {
	r.t.Helper()
	for _, n := range r.c.Nodes() {
		if err := n.WithoutWeft(r.t.Context()); err != nil {
			r.t.Error(err)
		}
	}
	if left := r.kubectl("get", "nodes", "-o", `jsonpath={.items[*].spec.taints[?(@.key=="weftmesh.io/agent-not-ready")].key} {.items[*].status.conditions[?(@.type=="NetworkUnavailable")].type}`); len(left) > 0 {
		r.t.Errorf("left at nodes: %v", left)
	}
	if left := r.kubectl("get", "weftnodes,weftidentities,weftendpointslices", "-o", "name"); len(left) > 0 {
		r.t.Errorf("left in the API: %v", left)
	}
	if left := r.kubectl("-n", namespace, "get", "pods,jobs,configmaps,roles,rolebindings,leases", "-o", "name"); len(left) > 1 {
		r.t.Errorf("left in %s, besides the CA that Kubernetes puts there: %v", namespace, left)
	}
	if kept := r.kubectl("get", "crd", "-o", "name"); len(kept) != 5 {
		r.t.Errorf("definitions: %v", kept)
	}
}
