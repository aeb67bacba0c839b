// SPDX-License-Identifier: Apache-2.0

package outage

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/weftmesh/weft/tests/level"
)

// killDuringCNI waits for a call of the CNI plugin while an agent runs, and some
// milliseconds more, and kills the agent; it says so.
const killDuringCNI = `i=0
until [ "$(grep -hsx -e weft-cni -e weft-agent /proc/[0-9]*/comm | sort -u | wc -l)" = 2 ]; do i=$((i+1)); [ $i -lt 500 ] || exit 0; done
sleep 0.%03d
agent=$(grep -lsx weft-agent /proc/[0-9]*/comm | head -n 1 | cut -d/ -f3)
[ -z "$agent" ] || { kill -9 $agent && echo killed; }`

// Pods that come while the agent is killed again and again, at any point of ADD, work in
// the end; of those that go nothing stays, at whatever point of DEL it is killed.
func TestAnAgentIsKilledAtEveryPointOfAttaching(t *testing.T) {
	w := installed(t)
	nothingNew := w.nothingLeft(1, 2)
	l := w.loaded("outage-churn")
	random := rand.New(rand.NewPCG(level.Seed(), 1))
	kills := 0
	for cycle := range level.Scale(30) {
		pods := make([]*pod, 4)
		names := make([]string, len(pods))
		for i := range pods {
			pods[i] = l.pod(fmt.Sprintf("churn-%d-%d", cycle, i), 1, fmt.Sprintf("server, churn: c%d", i))
			names[i] = pods[i].Name
		}
		stop := w.killing(random, &kills)
		w.Make(pods...)
		stop()
		for _, p := range pods {
			w.Eventually(60*time.Second, "reached: "+p.Name, func() error { return w.Connects(l.caller, p.IPv4, 7000) })
		}
		stop = w.killing(random, &kills)
		w.Kubectl("delete pod -n " + l.namespace + " --timeout=90s " + strings.Join(names, " "))
		stop()
	}
	t.Logf("%d times the agent was killed", kills)
	if kills < 2*level.Scale(30) {
		t.Errorf("the agent was killed %d times only", kills)
	}
	w.Settled()
	l.nothingLost()
	w.Drop("namespace " + l.namespace)
	nothingNew()
}

// killing kills the first node's agent in up to three calls of the plugin, until stop is called.
func (w *world) killing(random *rand.Rand, kills *int) (stop func()) {
	var delays []int
	for range 3 {
		delays = append(delays, random.IntN(120))
	}
	done, ended := make(chan struct{}), make(chan struct{})
	go func() { // ends with stop
		defer close(ended)
		for _, d := range delays {
			select {
			case <-done:
				return
			default:
			}
			out, err := w.Node(1).Run(w.T.Context(), fmt.Sprintf(killDuringCNI, d))
			if err != nil {
				w.T.Errorf("killing the agent: %v: %s", err, out)
			}
			if strings.Contains(out, "killed") {
				*kills++
			}
		}
	}()
	return func() { close(done); <-ended }
}
