// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"fmt"
	"testing"
	"time"

	agentv1 "github.com/weftmesh/weft/pkg/api/agent/v1"
	"github.com/weftmesh/weft/tests/level"
	"github.com/weftmesh/weft/tests/sandbox"
)

// rollout is a service whose backends are replaced one after the other, while
// clients ask it all the time.
type rollout struct {
	*node
	loops []*sandbox.Loop
	echo  map[*sandbox.Pod]*sandbox.Echo
	serve []*sandbox.Pod // those that are ready
	made  int            // backends so far
}

// perSecond is how many connections all clients make together.
func perSecond() int { return level.Scale(1000) }

func startRollout(t *testing.T) *rollout {
	t.Helper()
	r := &rollout{node: startNode(t), echo: make(map[*sandbox.Pod]*sandbox.Echo)}
	var clients []*sandbox.NS
	for i := range 4 {
		clients = append(clients, r.pod(fmt.Sprintf("client-%d", i)).NS)
	}
	clients = append(clients, sandbox.Host(), r.world)
	for range 3 {
		r.serve = append(r.serve, r.backend())
	}
	r.publish()
	const each = 2 * 2 // loops of a client: families, and two at a time
	every := time.Second * time.Duration(each*len(clients)) / time.Duration(perSecond())
	for _, from := range clients {
		for i := range each {
			r.ask(from, "tcp", i%2, every)
		}
	}
	for family := range 2 {
		r.ask(clients[0], "udp", family, every)
	}
	return r
}

func (r *rollout) ask(from *sandbox.NS, network string, family int, every time.Duration) {
	r.loops = append(r.loops, sandbox.StartLoop(sandbox.LoopConfig{NS: from, Network: network,
		Addr: hostPort(serviceAddrs()[family], servicePort), Every: every, Timeout: soon, Fresh: true}))
}

// backend makes a pod that serves.
func (r *rollout) backend() *sandbox.Pod {
	r.t.Helper()
	r.made++
	p := r.pod(fmt.Sprintf("back-%d", r.made))
	r.echo[p] = serve(r.t, p, 8080)
	return p
}

// publish writes the service with those that are ready, and perhaps some that are
// on their way out; it is in the kernel then.
func (r *rollout) publish(leavers ...*sandbox.Pod) {
	r.t.Helper()
	targets := ready(r.serve...)
	for _, p := range leavers {
		targets = append(targets, leaving(p))
	}
	r.write("service.yaml", serviceManifest("", targets...))
}

// goOn waits until every client has asked some times more: what was open before
// has ended by then.
func (r *rollout) goOn() {
	r.t.Helper()
	askOn(r.t, r.loops)
}

// askOn is goOn for any clients.
func askOn(t *testing.T, loops []*sandbox.Loop) {
	t.Helper()
	before := make([]int, len(loops))
	for i, l := range loops {
		before[i] = l.Report().Done
	}
	ok(t, sandbox.Eventually(t.Context(), soon, "clients that go on", func() error {
		for i, l := range loops {
			if rep := l.Report(); rep.Done < before[i]+3 && len(rep.Failed) == 0 {
				return fmt.Errorf("client %d has %d answers", i, rep.Done-before[i])
			}
		}
		return nil
	}))
}

// chosen is how often any front end chose a pod.
func (r *rollout) chosen(p *sandbox.Pod) (n uint64) {
	r.t.Helper()
	services, err := r.agent.API().ListServices(r.ctx, &agentv1.ListServicesRequest{})
	ok(r.t, err)
	for _, s := range services.GetServices() {
		for _, f := range s.GetFrontends() {
			for _, b := range f.GetBackends() {
				if b.GetPod() == "demo/"+p.Name {
					n += b.GetHits()
				}
			}
		}
	}
	return n
}

// replace takes the oldest backend out as a rolling update does: a new one is
// ready, the old one terminates, and at last it is removed and its pod deleted.
func (r *rollout) replace() {
	r.t.Helper()
	old, fresh := r.serve[0], r.backend()
	r.serve = append(r.serve[1:], fresh)
	before := r.echo[fresh].Accepted()
	r.write("service.yaml", serviceManifest("", ready(append([]*sandbox.Pod{old}, r.serve...)...)...))
	r.goOn()
	r.publish(old)
	chosen := r.chosen(old)
	if chosen == 0 {
		r.t.Errorf("%s was never chosen", old.Name)
	}
	r.goOn()
	if now := r.chosen(old); now != chosen {
		r.t.Errorf("%s terminates, and was chosen %d times more", old.Name, now-chosen)
	}
	if r.echo[fresh].Accepted() == before {
		r.t.Errorf("%s is ready, and nobody comes", fresh.Name)
	}
	accepted := r.echo[old].Accepted()
	r.publish()
	r.goOn()
	if now := r.echo[old].Accepted(); now != accepted {
		r.t.Errorf("%s is gone, and %d connections reached it", old.Name, now-accepted)
	}
	r.echo[old].Close()
	ok(r.t, r.runtime.DelPod(r.ctx, old))
	r.forget(old)
	r.remove("pod-" + old.Name + ".yaml")
}

func TestRollingReplacementUnderLoad(t *testing.T) {
	r := startRollout(t)
	begin := time.Now()
	for range max(3, level.Scale(20)) {
		r.replace()
	}
	took, done := time.Since(begin), 0
	for i, l := range r.loops {
		rep := l.Stop()
		done += rep.Done
		if len(rep.Failed) > 0 {
			t.Errorf("client %d: %d of %d requests failed, the first: %v", i, len(rep.Failed), rep.Done+len(rep.Failed), rep.Failed[0])
		}
	}
	rate := float64(done) / took.Seconds()
	t.Logf("%d connections, %.0f a second, %d backends replaced", done, rate, r.made-3)
	if rate < float64(perSecond())/2 {
		t.Errorf("%.0f connections a second, wanted about %d", rate, perSecond())
	}
}
