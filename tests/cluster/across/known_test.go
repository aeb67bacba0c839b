// SPDX-License-Identifier: Apache-2.0

package across

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// known is what the API server has of the crowd.
type known struct {
	pods    map[string]podObject
	slices  map[string]sliceEndpoint
	numbers map[string]int // by labels
	labels  map[int]string
	// youngest is the number of the last identity that was made, of all in the cluster.
	youngest int
}

type podObject struct {
	labels map[string]string
	node   string
	ips    []string
}

type sliceEndpoint struct {
	identity int
	ips      []string
}

const (
	slicesPath     = "/apis/weftmesh.io/v1alpha1/weftendpointslices"
	identitiesPath = "/apis/weftmesh.io/v1alpha1/weftidentities"
)

// known lists pods, then slices, then identities: in the order in which one may name
// another.
func (c *crowd) known(ctx context.Context) (*known, error) {
	var pods struct {
		Items []struct {
			Metadata struct {
				Name   string
				Labels map[string]string
			}
			Spec   struct{ NodeName string }
			Status struct{ PodIPs []struct{ IP string } }
		}
	}
	var found struct {
		Items []struct {
			Endpoints []struct {
				Namespace, Name string
				Identity        int
				Addresses       []string
			}
		}
	}
	var identities struct {
		Items []struct {
			Metadata       struct{ Name string }
			SecurityLabels []string
		}
	}
	for path, into := range inOrder(podsPath, &pods, slicesPath, &found, identitiesPath, &identities) {
		if err := c.Request(ctx, http.MethodGet, path, nil, into); err != nil {
			return nil, err
		}
	}
	k := &known{pods: make(map[string]podObject), slices: make(map[string]sliceEndpoint), numbers: make(map[string]int), labels: make(map[int]string)}
	for _, p := range pods.Items {
		o := podObject{labels: p.Metadata.Labels, node: p.Spec.NodeName}
		for _, ip := range p.Status.PodIPs {
			o.ips = append(o.ips, ip.IP)
		}
		k.pods[p.Metadata.Name] = o
	}
	for _, s := range found.Items {
		for _, e := range s.Endpoints {
			if e.Namespace == churn {
				k.slices[e.Name] = sliceEndpoint{e.Identity, e.Addresses}
			}
		}
	}
	for _, i := range identities.Items {
		k.youngest = max(k.youngest, number(i.Metadata.Name))
		labels := slices.Sorted(slices.Values(i.SecurityLabels))
		if !slices.Contains(labels, "k8s:io.kubernetes.pod.namespace="+churn) {
			continue
		}
		text := strings.Join(labels, ",")
		if other, ok := k.numbers[text]; ok {
			return nil, fmt.Errorf("%s has two identities, %d and %s", text, other, i.Metadata.Name)
		}
		k.numbers[text], k.labels[number(i.Metadata.Name)] = number(i.Metadata.Name), text
	}
	return k, nil
}

// inOrder gives pairs of a path and where its list goes.
func inOrder(pairs ...any) func(yield func(string, any) bool) {
	return func(yield func(string, any) bool) {
		for i := 0; i < len(pairs); i += 2 {
			if !yield(pairs[i].(string), pairs[i+1]) {
				return
			}
		}
	}
}

// guard looks all the time: no identity that a slice names, or that a pod has had since
// the look before, is missing, and none changes its labels. What it gives ends that.
func (c *crowd) guard() (end func()) {
	ctx, cancel := context.WithCancel(c.T.Context())
	var running sync.WaitGroup
	looks := 0
	running.Go(func() {
		var before *known
		for ; ctx.Err() == nil; looks++ {
			k, err := c.known(ctx)
			if err == nil {
				for _, wrong := range k.misses(before) {
					c.T.Error(wrong)
				}
				before = k
			}
			select {
			case <-ctx.Done():
			case <-time.After(200 * time.Millisecond):
			}
		}
	})
	c.T.Cleanup(func() { cancel(); running.Wait() })
	return func() {
		cancel()
		running.Wait()
		c.T.Logf("looked %d times: no identity was missing", looks)
	}
}

func (k *known) misses(before *known) (wrong []string) {
	for pod, s := range k.slices {
		if _, ok := k.labels[s.identity]; !ok {
			wrong = append(wrong, fmt.Sprintf("a slice has %s with identity %d, which does not exist", pod, s.identity))
		}
	}
	if before == nil {
		return wrong
	}
	for pod, p := range k.pods {
		labels := labelsOf(p.labels)
		number, had := before.numbers[labels]
		if was, ok := before.pods[pod]; ok && had && labelsOf(was.labels) == labels && k.numbers[labels] != number {
			wrong = append(wrong, fmt.Sprintf("%s has %s, which was identity %d and is %d", pod, labels, number, k.numbers[labels]))
		}
	}
	return wrong
}

// costs measures what an agent of another node is sent when one endpoint changes.
func (c *crowd) costs() {
	c.T.Helper()
	for i, set := range []string{"costs", "costs-again"} {
		ctx, cancel := context.WithCancel(c.T.Context())
		var mu sync.Mutex
		bytes, events := 0, 0
		var watches sync.WaitGroup
		for _, path := range []string{slicesPath, identitiesPath} {
			var list struct {
				Metadata struct{ ResourceVersion string }
			}
			if err := c.Request(ctx, http.MethodGet, path+"?limit=1", nil, &list); err != nil {
				c.T.Fatal(err)
			}
			watches.Go(func() {
				_ = c.Watch(ctx, path+"?watch=true&resourceVersion="+list.Metadata.ResourceVersion, func(line []byte) bool {
					var event struct{ Type string }
					mu.Lock()
					defer mu.Unlock()
					if err := json.Unmarshal(line, &event); err == nil && event.Type != "BOOKMARK" && event.Type != "DELETED" {
						bytes, events = bytes+len(line), events+1
					}
					return true
				})
			})
		}
		if err := c.relabel(i, set); err != nil {
			c.T.Fatal(err)
		}
		c.settled("one relabelled", c.pods)
		c.Eventually(10*time.Second, "told", func() error {
			mu.Lock()
			defer mu.Unlock()
			if events < 2 {
				return fmt.Errorf("%d events", events)
			}
			return nil
		})
		cancel()
		watches.Wait()
		if bytes > perChange {
			c.T.Errorf("one endpoint's change costs %d bytes, in %d events", bytes, events)
		}
		c.T.Logf("one endpoint's change costs %d bytes, in %d events", bytes, events)
	}
}
