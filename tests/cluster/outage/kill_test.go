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
	w.settled()
	l.nothingLost()
	w.drop("namespace", l.namespace)
	nothingNew()
}

// survives kills a part. A pod that is deleted then goes, one that is made then waits and
// works, with labels that nobody had before, under its policy; and the part comes back
// by itself. All the while traffic runs.
func (l *load) survives(p *part, number int) {
	w := l.w
	w.t.Helper()
	node := 1 + number%2
	victim := l.pod(fmt.Sprintf("victim-%d", number), node, "server")
	born := l.pod(fmt.Sprintf("born-%d", number), node, fmt.Sprintf("server, number: n%d", number))
	w.make(victim)
	begun := time.Now()
	if err := p.kill(); err != nil {
		w.t.Fatalf("killing %s: %v", p.name, err)
	}
	w.eventually(60*time.Second, "an API server that takes "+born.name, func() error {
		_, err := w.Kubectl(w.t.Context(), "delete", "pod", victim.name, "-n", l.namespace, "--wait=false", "--ignore-not-found", "--request-timeout=5s")
		if err == nil {
			err = w.Apply(w.t.Context(), w.manifest(born))
		}
		return err
	})
	w.eventually(60*time.Second, "back: "+p.name, p.back)
	back := time.Since(begun)
	w.ready(born)
	works := time.Since(begun)
	// That policies know it takes a moment at the other node.
	w.eventually(10*time.Second, "reached: "+born.name, func() error { return w.connects(l.caller, born.ipv4) })
	w.eventually(10*time.Second, "reached: "+born.name, func() error { return w.connects(l.caller, born.ipv6) })
	w.isolated(l.stranger, born.ipv4)
	w.kubectl(fmt.Sprintf("wait --for=delete pod/%s -n %s --timeout=60s", victim.name, l.namespace))
	w.kubectl(fmt.Sprintf("delete pod %s -n %s --wait=false", born.name, l.namespace))
	w.t.Logf("%s: back after %.1f s, a new pod works after %.1f s", p.name, back.Seconds(), works.Seconds())
}
