// SPDX-License-Identifier: Apache-2.0

package outage

import (
	"fmt"
	"testing"
	"time"

	"github.com/weftmesh/weft/tests/level"
)

func TestAnyPartMayDie(t *testing.T) {
	w := installed(t)
	nothingNew := w.nothingLeft(1, 2, 3)
	l := w.loaded("outage-kill")
	for round := range level.Scale(10) {
		for i, p := range []*part{
			w.agent(1), w.agent(2), w.leader(), w.control("kube-apiserver"), w.control("etcd"),
			w.service(1+round%2, "kubelet"), w.service(2-round%2, "containerd"),
			together(w.control("kube-apiserver"), w.agent(1), w.agent(2)),
		} {
			l.survives(p, round*100+i)
		}
	}
	w.Settled()
	l.nothingLost()
	w.Drop("namespace " + l.namespace)
	nothingNew()
}

// survives kills a part. A pod that is deleted then goes, one that is made then waits and
// works, with labels that nobody had before, under its policy; and the part comes back
// by itself. All the while traffic runs.
func (l *load) survives(p *part, number int) {
	w := l.world
	w.T.Helper()
	node := 1 + number%2
	victim := l.pod(fmt.Sprintf("victim-%d", number), node, "server")
	born := l.pod(fmt.Sprintf("born-%d", number), node, fmt.Sprintf("server, number: n%d", number))
	w.Make(victim)
	begun := time.Now()
	if err := p.kill(); err != nil {
		w.T.Fatalf("killing %s: %v", p.name, err)
	}
	w.Eventually(60*time.Second, "an API server that takes "+born.Name, func() error {
		_, err := w.Cluster.Kubectl(w.T.Context(), "delete", "pod", victim.Name, "-n", l.namespace, "--wait=false", "--ignore-not-found", "--request-timeout=5s")
		if err == nil {
			err = w.Cluster.Apply(w.T.Context(), w.Manifest(born))
		}
		return err
	})
	w.Eventually(60*time.Second, "back: "+p.name, p.back)
	back := time.Since(begun)
	w.Ready(born)
	works := time.Since(begun)
	// That policies know it takes a moment at the other node.
	w.Eventually(10*time.Second, "reached: "+born.Name, func() error { return w.Connects(l.caller, born.IPv4, 7000) })
	w.Eventually(10*time.Second, "reached: "+born.Name, func() error { return w.Connects(l.caller, born.IPv6, 7000) })
	w.isolated(l.stranger, born.IPv4)
	w.Kubectl(fmt.Sprintf("wait --for=delete pod/%s -n %s --timeout=60s", victim.Name, l.namespace))
	w.Kubectl(fmt.Sprintf("delete pod %s -n %s --wait=false", born.Name, l.namespace))
	w.T.Logf("%s: back after %.1f s, a new pod works after %.1f s", p.name, back.Seconds(), works.Seconds())
}
