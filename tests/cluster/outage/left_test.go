// SPDX-License-Identifier: Apache-2.0

package outage

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"time"
)

// noDevice begins the row of an endpoint that is gone: what else there is of it is the
// epoch that nobody may have again.
const noDevice = "00000000"

// firstOfCluster is the first identity that the operator gives, firstOfNode the first
// that a node gives to prefixes.
const (
	firstOfCluster = 256
	firstOfNode    = 1 << 24
)

// traces of pods on a node: devices, addresses and routes, pins, records, rows of maps
// by their keys, and what the agent says of endpoints.
var (
	linkTrace  = regexp.MustCompile(`(?m)^(link \d+ wf.*|  address .*|route .*)\n`)
	mapName    = regexp.MustCompile(`^== /sys/fs/bpf/weft/maps/(weft_\w+?)_v\d+:`)
	rowsOfPods = []string{"weft_if", "weft_if_hi", "weft_ep", "weft_ip4", "weft_ip6", "weft_svc4", "weft_svc6", "weft_svc_slot", "weft_backend"}
)

// traces of pods on a node and of its pods at the API server.
func (w *world) traces(n int) string {
	w.T.Helper()
	network := strings.Join(linkTrace.FindAllString(w.network(n), -1), "")
	files := w.On(n, "cd /sys/fs/bpf/weft && find . | sort; cd /var/lib/weft && find . -type f | sort; ls /run/netns 2>/dev/null | wc -l")
	slices := w.Kubectl("get weftendpointslices -o jsonpath={range.items[?(@.nodeName=='" + w.Node(n).Name() + "')]}{.metadata.name}:{range.endpoints[*]}{.namespace}/{.name}={.addresses}{'\\n'}{end}{end}")
	return network + files + slices + w.rows(n, false)
}

func (w *world) network(n int) string {
	w.T.Helper()
	out, err := w.Node(n).Network(w.T.Context())
	if err != nil || !strings.Contains(out, w.Node(n).IPv4()) {
		w.T.Fatalf("the network of node %d: %v: %q", n, err, out)
	}
	return out
}

// rows of the maps that tell of pods; with their values, if these are wanted.
func (w *world) rows(n int, values bool) string {
	w.T.Helper()
	var out strings.Builder
	name, found := "", 0
	for line := range strings.Lines(w.On(n, w.Repository()+"/build/bin/cluster maps")) {
		if strings.HasPrefix(line, "== ") {
			name = ""
			if m := mapName.FindStringSubmatch(line); m != nil && slices.Contains(rowsOfPods, m[1]) {
				name, found = m[1], found+1
			}
			continue
		}
		key, value, ok := strings.Cut(strings.TrimSpace(line), "  ")
		if name != "" && !ok {
			w.T.Fatalf("node %d, map %s: %s", n, name, line)
		}
		switch {
		case name == "" || name == "weft_ep" && strings.HasPrefix(value, noDevice):
		case values:
			fmt.Fprintf(&out, "%s %s %s\n", name, key, value)
		default:
			fmt.Fprintf(&out, "%s %s\n", name, key)
		}
	}
	if found != len(rowsOfPods) {
		w.T.Fatalf("node %d has %d of the maps %v", n, found, rowsOfPods)
	}
	return out.String()
}

// nothingLeft takes what is there of pods now, and gives a look whether that is all again.
func (w *world) nothingLeft(nodes ...int) (again func()) {
	w.T.Helper()
	before := make(map[int]string)
	for _, n := range nodes {
		w.Eventually(60*time.Second, fmt.Sprintf("a node %d on which all services can be reached", n), func() error { return w.served(n) })
		before[n] = w.traces(n)
	}
	return func() {
		w.T.Helper()
		for _, n := range nodes {
			took := w.Eventually(60*time.Second, fmt.Sprintf("as before on node %d", n), func() error { return lines(before[n], w.traces(n)) })
			w.T.Logf("node %d is as it was after %v", n, took.Round(100*time.Millisecond))
		}
	}
}

// served is an error while a service has no pod that is ready, as DNS has not after an
// outage of the API server.
func (w *world) served(n int) error {
	var fronts, served int
	for line := range strings.Lines(w.rows(n, false)) {
		name, key, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch {
		case name == "weft_svc4" || name == "weft_svc6":
			fronts++
		case name == "weft_svc_slot" && strings.HasSuffix(key, "00000000"): // the first of a service
			served++
		}
	}
	if fronts == 0 || served < fronts {
		return fmt.Errorf("of %d services %d have pods", fronts, served)
	}
	return nil
}

// podIdentities are the addresses of pods in a node's kernel, with their identities.
func (w *world) podIdentities(n int) string {
	w.T.Helper()
	var out strings.Builder
	for line := range strings.Lines(w.rows(n, true)) {
		var name, key, value string
		if _, err := fmt.Sscan(line, &name, &key, &value); err != nil || name != "weft_ip4" && name != "weft_ip6" {
			continue
		}
		raw, err := hex.DecodeString(key + value)
		size := map[string]int{"weft_ip4": 4, "weft_ip6": 16}[name]
		if err != nil || len(raw) != 4+size+8 {
			w.T.Fatalf("row of %s: %q, %v", name, line, err)
		}
		address, _ := netip.AddrFromSlice(raw[4 : 4+size])
		identity := binary.LittleEndian.Uint32(raw[4+size:])
		if bits := binary.LittleEndian.Uint32(raw); int(bits) == address.BitLen() && identity >= firstOfCluster && identity < firstOfNode {
			fmt.Fprintf(&out, "%s %d\n", address, identity)
		}
	}
	return out.String()
}
