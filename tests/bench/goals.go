// SPDX-License-Identifier: Apache-2.0

package main

import "fmt"

// goals is every figure that has a goal or is compared with another one.
func goals() []goal {
	return append(packetGoals(), []goal{}...)
}

func packetGoals() (out []goal) {
	const unit = "ns/packet"
	for _, v := range []string{"v4", "v6"} {
		within := func(limit float64, group string, figures ...string) {
			for _, f := range figures {
				out = append(out, goal{fmt.Sprintf("tests/bpf/%s/%s", group, f), unit,
					fmt.Sprintf("tests/bpf/%s/empty_program", group), valueAtMost(limit)})
			}
		}
		within(150, "Established/"+v, "from_pod/hot", "to_pod/hot")
		within(230, "Established/"+v, "from_pod/10000_flows", "to_pod/10000_flows")
		within(600, "NewFlow/"+v, "to_world", "to_pod")
		within(250, "Service/"+v, "call", "answer")
		within(350, "Masquerade/tcp/"+v, "in", "out")
		within(350, "Masquerade/udp/"+v, "in", "out")
	}
	return out
}
