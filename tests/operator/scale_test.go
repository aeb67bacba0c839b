// SPDX-License-Identifier: Apache-2.0

//go:build cluster

package operator

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/weftmesh/weft/pkg/api/v1alpha1"
)

// arrivals notes when the identity of each app is seen by one who watches.
type arrivals struct {
	mu   sync.Mutex
	seen map[string]time.Time
}

func (a *arrivals) follow(w watch.Interface) {
	for e := range w.ResultChan() {
		id, ok := e.Object.(*v1alpha1.WeftIdentity)
		if !ok || e.Type != watch.Added {
			continue
		}
		for _, l := range id.SecurityLabels {
			if app, ok := strings.CutPrefix(l, "k8s:app="); ok {
				a.mu.Lock()
				a.seen[app] = time.Now()
				a.mu.Unlock()
			}
		}
	}
}

// 2,000 pods with 200 label sets, made by 16 clients as fast as the API server
// takes them: each has its identity within seconds.
func TestManyPodsAtOnce(t *testing.T) {
	const pods, sets, clients, limit = 2000, 200, 16, 10 * time.Second
	ctx := context.Background()
	theWorld.clear(t)
	namespace(t, "scale", nil)
	p := operate(t, pools).leads()
	watching, err := client.NewWithWatch(theWorld.server.Config("admin"), client.Options{Scheme: theWorld.client.Scheme()})
	must(t, err)
	w, err := watching.Watch(ctx, &v1alpha1.WeftIdentityList{})
	must(t, err)
	defer w.Stop()
	a := &arrivals{seen: map[string]time.Time{}}
	go a.follow(w)

	created := make([]time.Time, pods) // when the API server had taken it in
	var work errgroup.Group
	work.SetLimit(clients)
	start := time.Now()
	for i := range pods {
		work.Go(func() error {
			app := fmt.Sprint("app-", i%sets)
			err := theWorld.client.Create(ctx, pod("scale", fmt.Sprint("p-", i), map[string]string{"app": app}))
			created[i] = time.Now()
			return err
		})
	}
	must(t, work.Wait())
	made := time.Since(start)
	eventually(t, "all have identities", func() error {
		a.mu.Lock()
		defer a.mu.Unlock()
		if len(a.seen) < sets {
			return fmt.Errorf("%d of %d", len(a.seen), sets)
		}
		return nil
	})
	var waits []time.Duration // of each pod; one whose labels have an identity already waits for nothing
	var firsts []time.Duration
	for i, at := range created {
		wait := max(0, a.seen[fmt.Sprint("app-", i%sets)].Sub(at))
		waits = append(waits, wait)
		if i < sets {
			firsts = append(firsts, wait)
		}
	}
	slices.Sort(waits)
	slices.Sort(firsts)
	last := waits[len(waits)-1]
	t.Logf("%d pods in %s (%.0f a second); from pod to identity: p50 %s, p99 %s, last %s; of the %d first of their labels: p50 %s, p99 %s",
		pods, made, pods/made.Seconds(), waits[pods/2], waits[pods*99/100], last, sets, firsts[sets/2], firsts[sets*99/100])
	if last > limit {
		t.Errorf("the last identity came after %s", last)
	}
	if n := len(identities(t)); n != sets {
		t.Errorf("%d identities for %d label sets", n, sets)
	}
	must(t, errors.Join(p.has(fmt.Sprintf("weft_operator_identity_allocations_total{result=%q} %d", "created", sets)),
		p.has(`weft_operator_identity_allocations_total{result="failed"} 0`)))
}
