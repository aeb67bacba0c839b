// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"errors"
	"testing"
	"time"

	"github.com/weftmesh/weft/tests/sandbox"
)

const runningTalks = "tcp 8080, udp 8080"

var errNothing = errors.New("nothing moved")

// onlyFriend isolates server but for pods with this role.
func onlyRole(role string) string {
	return ruleCase{spec: toServer + "  ingress: [{fromEndpoints: [{matchLabels: {role: " + role + "}}]}]\n"}.policy("role")
}

func TestIngressPolicyUnderRunningConnections(t *testing.T) {
	w := newTown(t)
	friend := w.talks(t, "friend -> server: "+runningTalks)
	stranger := w.talks(t, "stranger -> server: "+runningTalks)
	world := w.talks(t, "world -> server: "+runningTalks)
	host := w.talks(t, "host -> server: "+runningTalks)
	own := w.talks(t, "server -> stranger, world, host: "+runningTalks)

	w.write("policy.yaml", onlyRole("friend"))
	areCut(t, stranger, "when a policy comes")
	areCut(t, world, "when a policy comes")
	goOn(t, friend, "when a policy comes that allows it")
	goOn(t, host, "when a policy comes, for the host")
	goOn(t, own, "when a policy comes for the other direction")

	w.write("policy.yaml", ruleCase{spec: toServer + `
  ingress:
  - fromEndpoints: [{matchLabels: {role: friend}}, {matchLabels: {role: stranger}}]
    toPorts: [{ports: [{port: "8000", endPort: 8100}]}]
`}.policy("role"))
	comeBack(t, stranger, "when the policy changes")
	goOn(t, friend, "when a policy changes and both versions allow it")
	areCut(t, world, "as long as no version allows it")

	w.write("policy.yaml", onlyRole("stranger"))
	areCut(t, friend, "when the policy changes")
	goOn(t, stranger, "when a policy changes and both versions allow it")

	w.remove("policy.yaml")
	comeBack(t, friend, "when the policy goes")
	comeBack(t, world, "when the policy goes")
	goOn(t, stranger, "when the policy goes")
	goOn(t, own, "when the policy goes")
}

func TestEgressPolicyUnderRunningConnections(t *testing.T) {
	w := newTown(t)
	all := "friend -> server, guest, world, host: " + runningTalks
	talks := w.talks(t, all)
	served := w.talks(t, "server, world, host -> friend: "+runningTalks)

	w.write("policy.yaml", ruleCase{spec: fromFriend + "  egress: [{}]\n"}.policy("egress"))
	areCut(t, talks, "when egress is denied")
	goOn(t, served, "when egress is denied, as answers to others")

	w.write("policy.yaml", ruleCase{spec: fromFriend + `
  egress:
  - toEntities: [all]
    toPorts: [{ports: [{port: "8080"}]}]
`}.policy("egress"))
	comeBack(t, talks, "when egress to the port is allowed")

	w.write("policy.yaml", ruleCase{spec: fromFriend + `
  egress: [{toEntities: [all]}]
  egressDeny: [{toPorts: [{ports: [{port: "8080"}]}]}]
`}.policy("egress"))
	areCut(t, talks, "when a deny rule comes")
	goOn(t, served, "when a deny rule comes for the other direction")
	w.remove("policy.yaml")
	comeBack(t, talks, "when the policy goes")
}

// A transfer has data under way in both directions when it is forbidden. What
// the server sends on must not open it again as a flow of its own.
func TestTransferIsCutAndStaysCut(t *testing.T) {
	w := newTown(t)
	allowed := w.transfers(t, "friend -> server: tcp 8080")
	forbidden := w.transfers(t, "stranger, world -> server: tcp 8080")
	for _, s := range append(allowed, forbidden...) {
		moves(t, s, "without policy")
	}
	w.write("policy.yaml", onlyRole("friend"))
	for _, s := range forbidden {
		start := s.Progress().Echoed
		for _, a := range allowed { // time passes: retransmissions happen
			moves(t, a, "beside a forbidden one")
		}
		err := sandbox.Eventually(t.Context(), 2*time.Second, "", func() error {
			if s.Progress().Echoed == start {
				return errNothing
			}
			return nil
		})
		if err == nil {
			t.Errorf("a forbidden transfer goes on: %d bytes more", s.Progress().Echoed-start)
		}
	}
	w.remove("policy.yaml")
	for _, s := range append(allowed, forbidden...) {
		moves(t, s, "when the policy has gone")
	}
}

// A connection that is forbidden stays so when the server speaks on it: the
// server's packets are answers still, not a flow of its own.
func TestServerDoesNotReopenForbiddenConnection(t *testing.T) {
	w := newTown(t)
	onBoth(t, func(t *testing.T, family int) {
		for _, from := range []string{"stranger", "world"} {
			client, server := w.connection(t, w.places[from], w.places["server"], family)
			says(t, client, server, "before")
			says(t, server, client, "before")
			w.write("policy.yaml", onlyRole("friend"))
			unheard(t, client, server, from+" speaks")
			unheard(t, server, client, "server speaks to "+from)
			unheard(t, client, server, from+" speaks again")
			w.remove("policy.yaml")
			hears(t, server, "before"+from+" speaks"+from+" speaks again")
			hears(t, client, "beforeserver speaks to "+from)
			says(t, client, server, "after")
		}
	})
}
