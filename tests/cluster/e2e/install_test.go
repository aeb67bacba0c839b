// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/weftmesh/weft/tests/cluster"
	"github.com/weftmesh/weft/tests/cluster/framework"
)

func TestTheCommandsOfTheReadmeMakeEverythingGreen(t *testing.T) {
	w := installed(t)
	if err := w.WaitReady(t.Context(), time.Minute); err != nil {
		t.Error(err)
	}
	w.Kubectl("rollout status deployment/coredns -n kube-system --timeout=60s")
	test := readme(t, w.Repository())[2]
	if out := w.Shell(test); strings.Contains(out, "FAILED") || !strings.Contains(out, " 0 failed, ") {
		t.Errorf("not all is green:\n%s", out)
	}
	// The way out, which needs somebody there.
	for _, address := range []string{cluster.OutsideIPv4} {
		out := w.Shell(test + " --test external,allow-cidr --external " + net.JoinHostPort(address, "8080"))
		if err := framework.Wants(out, "client to "+address+":8080 ", " 0 failed, 0 tests skipped"); err != nil {
			t.Error(err)
		}
	}
}

func TestNothingButWhatIsNeededIsRestarted(t *testing.T) {
	w := installed(t)
	// Helm makes everything at once; nobody may end because something is not there yet.
	out := w.Kubectl("get pods -n weft-system -o jsonpath={range.items[*]}{.metadata.name}={.status.containerStatuses[0].restartCount};{end}")
	for pod := range strings.SplitSeq(strings.TrimSuffix(out, ";"), ";") {
		name, restarts, _ := strings.Cut(pod, "=")
		if (strings.HasPrefix(name, "weft-operator-") || strings.HasPrefix(name, "weft-envoy-")) && restarts != "0" {
			t.Errorf("%s was restarted %s times", name, restarts)
		}
	}
}

func TestTheOutsideSeesTheNode(t *testing.T) {
	w := installed(t)
	w.Namespace("e2e-out", "")
	for n := 1; n <= 2; n++ {
		p := &pod{Namespace: "e2e-out", Name: fmt.Sprintf("p%d", n), Node: n}
		w.Make(p)
		out, err := w.Exec(p, "/programs/traffic ask http://"+cluster.OutsideIPv4+":8080/clientip")
		if host, _, _ := net.SplitHostPort(out); err != nil || host != w.Node(n).IPv4() {
			t.Errorf("a pod of %s is seen as %q, %v", w.Node(n).Name(), out, err)
		}
	}
}
