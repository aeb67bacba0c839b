// SPDX-License-Identifier: Apache-2.0

package netns

import "testing"

const everyProtocol = "tcp 8080, udp 8080, tcp 9090, ping"

func TestEveryoneTalksWithoutPolicy(t *testing.T) {
	w := newTown(t)
	w.check(t, `
		friend -> server, guest, host, world: `+everyProtocol+`
		host, world, far -> server, guest: `+everyProtocol+`
		friend, world -> friend, world: tcp 8080
	`)
}
