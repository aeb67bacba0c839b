// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"fmt"
	"strconv"
	"testing"

	"github.com/weftmesh/weft/pkg/datapath/weftbpf"
	"github.com/weftmesh/weft/tests/level"
)

// loadOutPolicy is loadPolicy seen from the client.
const loadOutPolicy = `
apiVersion: weftmesh.io/v1alpha1
kind: WeftNetworkPolicy
metadata: {name: out, namespace: demo}
spec:
  endpointSelector: {matchLabels: {role: a}}
  egress:
  - toEndpoints: [{matchLabels: {app: web}}]
    toPorts:
    - {ports: [{port: "8080", protocol: TCP}], rules: {http: [{method: POST, path: %s}]}}
    - {ports: [{port: "8081", protocol: TCP}], rules: {grpc: [{service: load.Echo}]}}
    - {ports: [{port: "9090", protocol: TCP}]}
`

// moreOutPolicy is morePolicy seen from the client.
const moreOutPolicy = `
apiVersion: weftmesh.io/v1alpha1
kind: WeftNetworkPolicy
metadata: {name: more-out, namespace: demo}
spec:
  endpointSelector: {matchLabels: {role: a}}
  egress:
  - toEndpoints: [{matchLabels: {app: web}}]
    toPorts: [{ports: [{port: "8080", protocol: TCP}], rules: {http: [{method: GET, path: /more}]}}]
`

// TestRulesOfBothSidesChangeUnderLoad: no request fails that the rules of both sides allow
// before and after, whichever changes, comes or goes, and none passes that one of them
// denies.
func TestRulesOfBothSidesChangeUnderLoad(t *testing.T) {
	n := newLoaded(t)
	n.write("web.yaml", fmt.Sprintf(loadPolicy, "/a"))
	n.write("out.yaml", fmt.Sprintf(loadOutPolicy, "/a"))
	n.envoyReady()
	n.pairs(2)
	p := n.press()
	before := dropped(t)
	for i := range level.Scale(50) {
		n.write("web.yaml", fmt.Sprintf(loadPolicy, "/a|/b"+strconv.Itoa(i)))
		n.write("out.yaml", fmt.Sprintf(loadOutPolicy, "/a|/c"+strconv.Itoa(i)))
		n.write("more.yaml", morePolicy)
		n.write("more-out.yaml", moreOutPolicy)
		n.write("web.yaml", fmt.Sprintf(loadPolicy, "/a|"+denied))
		n.remove("more.yaml")
		n.write("web.yaml", fmt.Sprintf(loadPolicy, "/a"))
		n.write("out.yaml", fmt.Sprintf(loadOutPolicy, "/a|"+denied))
		n.remove("more-out.yaml")
		n.write("out.yaml", fmt.Sprintf(loadOutPolicy, "/a"))
	}
	p.moves("after the changes")
	n.remove("out.yaml")
	p.moves("after the client's rules")
	p.stop("rules of both sides changed")
	n.nothingDropped(before, weftbpf.BpfWeftReasonWEFT_DROP_NEEDS_PROXY)
}
