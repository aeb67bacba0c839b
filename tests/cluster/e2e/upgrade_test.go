// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/weftmesh/weft/tests/cluster"
	"github.com/weftmesh/weft/tests/cluster/framework"
)

// oldTag is that of the images of the commit that an upgrade comes from: its version may
// be today's.
const oldTag = "upgrade-from"

// old has the chart of the commit in tests/upgrade-from, and its images in every node.
func (w *world) old() (chart string) {
	w.T.Helper()
	content, err := os.ReadFile(filepath.Join(w.Repository(), "tests/upgrade-from"))
	if err != nil {
		w.T.Fatal(err)
	}
	commit := strings.TrimSpace(string(content))
	dir := filepath.Join(w.Repository(), "build/upgrade-from", commit)
	if _, err := os.Stat(filepath.Join(dir, "build/images/weft-operator.tar")); err != nil {
		w.Shell(fmt.Sprintf("rm -rf %[1]s && mkdir -p %[1]s && git archive %[2]s | tar -x -C %[1]s && make -C %[1]s images", dir, commit))
	}
	archives, err := filepath.Glob(filepath.Join(dir, "build/images/*.tar"))
	if err != nil || len(archives) != 2 {
		w.T.Fatalf("images of commit %s: %v, %v", commit, archives, err)
	}
	version, err := os.ReadFile(filepath.Join(dir, "VERSION"))
	if err != nil {
		w.T.Fatal(err)
	}
	w.load(archives)
	for _, n := range w.Nodes() {
		for _, a := range archives {
			name := "ghcr.io/weftmesh/" + strings.TrimSuffix(filepath.Base(a), ".tar") + ":"
			out, err := n.Run(w.T.Context(), "ctr -n k8s.io images tag --force "+name+"v"+strings.TrimSpace(string(version))+" "+name+oldTag)
			if err != nil {
				w.T.Fatalf("%v\n%s", err, out)
			}
		}
	}
	// A name that both have is today's again.
	today, err := w.WeftImages("")
	if err != nil {
		w.T.Fatal(err)
	}
	w.load(today)
	return filepath.Join(dir, "daemonset/chart")
}

func (w *world) load(archives []string) {
	w.T.Helper()
	for _, a := range archives {
		if err := w.LoadImage(w.T.Context(), a); err != nil {
			w.T.Fatal(err)
		}
	}
}

// documented gives the line of a section of docs/KUBERNETES.md that begins so.
func (w *world) documented(section, begin string) string {
	w.T.Helper()
	content, err := os.ReadFile(filepath.Join(w.Repository(), "docs/KUBERNETES.md"))
	if err != nil {
		w.T.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(content), "\n## "+section+"\n")
	rest, _, _ = strings.Cut(rest, "\n## ")
	lines := strings.Split(rest, "\n")
	i := slices.IndexFunc(lines, func(l string) bool { return strings.HasPrefix(l, "    "+begin) })
	if i < 0 {
		w.T.Fatalf("docs/KUBERNETES.md has no command %q in section %q", begin, section)
	}
	return strings.TrimSpace(lines[i])
}

// images tells what the agents run.
func (w *world) images() []string {
	w.T.Helper()
	images := strings.Fields(w.Kubectl("get pods -n weft-system -l app.kubernetes.io/name=weft-agent -o jsonpath={.items[*].spec.containers[0].image}"))
	slices.Sort(images)
	return slices.Compact(images)
}

// runsTag waits until all agents run images of this tag, and Weft is ready.
func (w *world) runsTag(tag string) {
	w.T.Helper()
	w.Kubectl("rollout status daemonset/weft-agent -n weft-system --timeout=120s")
	w.Settled()
	if images := w.images(); len(images) != 1 || !strings.HasSuffix(images[0], ":"+tag) {
		w.T.Fatalf("agents run %v, not %s", images, tag)
	}
}

func TestUpgradeAndRollbackLoseNoPacket(t *testing.T) {
	w := &world{suite.Bare(t)}
	chart := w.old()
	w.uninstall()
	install := readme(t, w.Repository())[0]
	w.Shell(strings.Replace(install, " daemonset/chart ", " "+chart+" ", 1) + " --set image.tag=" + oldTag)
	w.runsTag(oldTag)

	w.Namespace("e2e-upgrade", "")
	w.ServeOutside()
	near, far := echo("e2e-upgrade", "near", 1, "app: echo"), echo("e2e-upgrade", "far", 2, "app: echo")
	w.Make(near, far)
	w.Apply(`
apiVersion: v1
kind: Service
metadata: {name: echo, namespace: e2e-upgrade}
spec:
  selector: {app: echo}
  ports: [{name: tcp, port: 7000, protocol: TCP}, {name: udp, port: 7000, protocol: UDP}]
`)
	service := w.Kubectl("get service echo -n e2e-upgrade -o jsonpath={.spec.clusterIP}") + ":7000"
	outside := cluster.OutsideIPv4 + ":7000"
	targets := slices.Concat(streams("near", near), streams("far", far), []string{
		"service-tcp=stream," + service, "service-requests=request," + service, "service-udp=datagram," + service,
		"outside-tcp=stream," + outside, "outside-requests=request," + outside, "outside-udp=datagram," + outside})
	caller := w.caller("e2e-upgrade", "caller", 1, targets...)
	w.Eventually(settle, "the service served", func() error { return w.Connects(caller, strings.TrimSuffix(service, ":7000"), 7000) })
	w.Flowing(settle, caller, 20)
	before := w.Counts(caller, "counts")

	w.Shell(w.documented("Upgrade", "helm upgrade weft ") + " --set image.tag=")
	version, err := os.ReadFile(filepath.Join(w.Repository(), "VERSION"))
	if err != nil {
		t.Fatal(err)
	}
	today := "v" + strings.TrimSpace(string(version))
	w.runsTag(today)
	w.Flowing(settle, caller, 20)
	w.Shell("helm rollback weft --namespace weft-system")
	w.runsTag(oldTag)
	w.Flowing(settle, caller, 20)
	// To the outside over IPv6, which leaves with the pod's address unless it is asked for.
	w.Shell(w.documented("Upgrade", "helm upgrade weft ") + " --set image.tag= --set masquerade.ipv6=true")
	w.runsTag(today)
	w.Flowing(settle, caller, 20)
	// What failed while the service was not there yet is not counted.
	all := w.Counts(caller, "stop")
	for name, c := range all {
		t.Logf("%s: %d sent, %d lost, %d errors, longest pause %d ms", name, c.Sent, c.Lost(), c.Failed, c.PauseMS)
		if c.Failed > before[name].Failed || c.Lost() > before[name].Failed {
			t.Errorf("%s: of %d sent %d were lost, %d failed: %v", name, c.Sent, c.Lost(), c.Failed, c.Errors)
		}
	}
	w.Eventually(settle, "seen as the node over IPv6", func() error {
		out, err := w.Exec(caller, "/programs/traffic ask http://["+cluster.OutsideIPv6+"]:8080/clientip")
		if err != nil {
			return err
		}
		return framework.Wants(out, "["+w.Node(1).IPv6()+"]:")
	})
}

// uninstall takes Weft off if it is there, by the documented command.
func (w *world) uninstall() {
	w.T.Helper()
	if w.HasWeft() {
		w.Shell(w.documented("Uninstall", "helm uninstall weft "))
		// Pods have lost their network, as is documented; the DNS gets one with the next.
		w.Kubectl("delete pods --all -n kube-system --wait=false")
	}
}

func TestUninstallLeavesCleanNodesAndPolicies(t *testing.T) {
	w := installed(t)
	w.Namespace("e2e-kept", "")
	w.Apply(`
apiVersion: weftmesh.io/v1alpha1
kind: WeftNetworkPolicy
metadata: {name: kept, namespace: e2e-kept}
spec: {endpointSelector: {matchLabels: {app: shut}}, ingress: [{}]}
`)
	shut := &pod{Namespace: "e2e-kept", Name: "shut", Node: 2, Labels: "app: shut"}
	other := &pod{Namespace: "e2e-kept", Name: "other", Node: 1, Labels: "app: other"}
	w.Make(shut, other)
	w.Eventually(settle, "isolated", func() error { return w.Isolated(other, shut.IPv4, 8080) })
	for _, n := range w.Nodes() {
		if on, err := n.Attached(t.Context()); err != nil || !strings.Contains(on, "eth0 ingress weft_") {
			t.Errorf("programs on %s: %q, %v", n.Name(), on, err)
		}
	}
	w.uninstall()
	for _, n := range w.Nodes() {
		if err := n.WithoutWeft(t.Context()); err != nil {
			t.Error(err)
		}
	}
	if out := w.Kubectl("get wnp -n e2e-kept -o name"); !strings.Contains(out, "/kept") {
		t.Errorf("policies that are left: %q", out)
	}
	// A pod that had its network from the last installation has none now.
	w.Drop("pod shut other -n e2e-kept --timeout=30s")
	w = installed(t)
	w.Make(shut, other)
	w.Eventually(settle, "isolated again", func() error { return w.Isolated(other, shut.IPv4, 8080) })
	if err := w.Connects(shut, other.IPv4, 8080); err != nil {
		t.Error(err)
	}
}
