// SPDX-License-Identifier: Apache-2.0

//go:build cluster

package scale

import (
	"context"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"k8s.io/client-go/kubernetes"

	"github.com/weftmesh/weft/tests/apiserver"
)

// load is what an API server says of itself.
type load struct {
	requests map[string]float64 // by verb and resource, since it started
	cpu      float64            // seconds
	memory   float64            // bytes
}

var sample = regexp.MustCompile(`(?m)^(apiserver_request_total|process_cpu_seconds_total|process_resident_memory_bytes)(?:\{(.*)\})? (\S+)$`)

// apiLoad reads the metrics of the API server.
func apiLoad(ctx context.Context) (load, error) {
	c, err := kubernetes.NewForConfig(theWorld.server.Config(apiserver.Admin))
	if err != nil {
		return load{}, err
	}
	text, err := c.RESTClient().Get().AbsPath("/metrics").DoRaw(ctx)
	if err != nil {
		return load{}, fmt.Errorf("reading the metrics of the API server: %w", err)
	}
	l := load{requests: make(map[string]float64)}
	for _, m := range sample.FindAllStringSubmatch(string(text), -1) {
		v, err := strconv.ParseFloat(m[3], 64)
		if err != nil {
			return load{}, err
		}
		switch m[1] {
		case "process_cpu_seconds_total":
			l.cpu = v
		case "process_resident_memory_bytes":
			l.memory = v
		default:
			l.requests[label(m[2], "verb")+" "+label(m[2], "resource")] += v
		}
	}
	return l, nil
}

func label(labels, name string) string {
	_, after, _ := strings.Cut(labels, name+`="`)
	value, _, _ := strings.Cut(after, `"`)
	return value
}

// since is the load from an earlier time on; memory is that of now.
func (l load) since(before load) load {
	out := load{requests: make(map[string]float64), cpu: l.cpu - before.cpu, memory: l.memory}
	for what, n := range l.requests {
		if n -= before.requests[what]; n > 0 {
			out.requests[what] = n
		}
	}
	return out
}

// String lists requests by number.
func (l load) String() string {
	what := slices.Collect(maps.Keys(l.requests))
	slices.SortFunc(what, func(a, b string) int { return int(l.requests[b] - l.requests[a]) })
	var b strings.Builder
	for _, w := range what {
		fmt.Fprintf(&b, "%s %.0f, ", w, l.requests[w])
	}
	return fmt.Sprintf("%sCPU %.1f s, memory %.0f MB", b.String(), l.cpu, l.memory/1e6)
}
