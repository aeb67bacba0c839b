// SPDX-License-Identifier: Apache-2.0

package across

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"time"
)

// sizes has packets of all sizes go to the same node, to another and outside.
func sizes(c *town) {
	c.T.Helper()
	from := c.pods["stranger1"]
	if out := c.Kubectl("exec -n "+home+" stranger1 -- cat", "/sys/class/net/eth0/mtu"); strings.TrimSpace(out) != fmt.Sprint(c.mtu) {
		c.T.Fatalf("pods have an MTU of %s, not of %d", strings.TrimSpace(out), c.mtu)
	}
	c.fullSize(from)
	c.tooBig(from)
	c.bulk(from)
	c.narrow(from)
}

// all must succeed, now or a little later.
func (c *town) all(what string, by *pod, attempts []attempt) {
	c.T.Helper()
	c.Eventually(settle, what, func() error {
		answers, err := c.try(c.pod(by), attempts)
		if err != nil {
			return err
		}
		var wrong []string
		for i, a := range answers {
			if a.Error != "" {
				wrong = append(wrong, fmt.Sprintf("%+v: %s", attempts[i], a.Error))
			}
		}
		if wrong != nil {
			return fmt.Errorf("%s", strings.Join(wrong, "\n"))
		}
		return nil
	})
}

// targets are a pod here, a pod and a host there, and the outside.
func (c *town) targets(six bool) []string {
	return []string{c.pods["friend1"].ip(six), c.pods["friend2"].ip(six), nodeIP(c.Node(2), six), outsideIP(six)}
}

// fullSize: what has the MTU's size passes whole, in both directions.
func (c *town) fullSize(from *pod) {
	c.T.Helper()
	for _, six := range []bool{false, true} {
		var attempts []attempt
		for _, to := range c.targets(six) {
			attempts = append(attempts, attempt{Proto: "ping", To: to, Size: c.mtu})
		}
		c.all("packets of full size pass", from, attempts)
		c.all("packets of full size pass", c.pods["host3"], attempts[:2])
	}
}

// tooBig: of what is larger the sender is told, with the size that passes. Its own
// device would tell it already, so that one is widened, on both ends.
func (c *town) tooBig(from *pod) {
	c.T.Helper()
	list := decode[struct {
		Nodes []struct {
			Endpoints []struct{ Namespace, Pod, Device string }
		}
	}](c.T, c.Shell("weft endpoint list -o json --node "+c.Node(from.Node).Name()))
	device := ""
	for _, e := range list.Nodes[0].Endpoints {
		if e.Namespace+"/"+e.Pod == from.full() {
			device = e.Device
		}
	}
	widen := func(ctx context.Context, mtu int) error {
		_, err := c.Node(from.Node).Run(ctx, fmt.Sprintf("%s mtu %s %d", c.Program("probe"), device, mtu))
		if err == nil {
			_, err = c.Cluster.Kubectl(ctx, "exec", "-n", home, from.Name, "--", "/programs/probe", "mtu", "eth0", fmt.Sprint(mtu))
		}
		return err
	}
	if err := widen(c.T.Context(), 9000); err != nil {
		c.T.Fatal(err)
	}
	defer func() {
		if err := widen(c.T.Context(), c.mtu); err != nil {
			c.T.Error(err)
		}
	}()
	for _, six := range []bool{false, true} {
		var attempts []attempt
		for _, to := range c.targets(six) {
			for _, size := range []int{1501, 4000} {
				attempts = append(attempts, attempt{Proto: "ping", To: to, Size: size})
			}
		}
		c.errors(from, attempts, func(a attempt) string {
			mtu := c.mtu
			if a.To == outsideIP(six) {
				mtu = 1500 // not by the tunnel
			}
			return fmt.Sprintf(`^too big %d from [0-9a-f.:]+$`, mtu)
		})
	}
}

// errors: every attempt fails, with an error of that form.
func (c *town) errors(from *pod, attempts []attempt, form func(attempt) string) {
	c.T.Helper()
	// Routers tell at most so many errors a second.
	for _, a := range attempts {
		c.Eventually(settle, "told what passes", func() error {
			answers, err := c.try(c.pod(from), []attempt{a})
			if err != nil {
				return err
			}
			if !regexp.MustCompile(form(a)).MatchString(answers[0].Error) {
				return fmt.Errorf("%+v: %+v, want %s", a, answers[0], form(a))
			}
			return nil
		})
	}
}

// bulk: a large transfer, and datagrams in many fragments, to a pod and by a service.
func (c *town) bulk(from *pod) {
	c.T.Helper()
	for _, six := range []bool{false, true} {
		to := c.pods["friend2"].ip(six)
		c.all("64 MiB arrive", from, []attempt{{Proto: "tcp", To: at(to, firstPort), Size: 64 << 20, Wait: 50 * time.Second}})
		var attempts []attempt
		for _, size := range []int{c.mtu - 100, c.mtu, 2 * c.mtu, 8000, 30000, 60000} {
			attempts = append(attempts, attempt{Proto: "udp", To: at(to, firstPort), Size: size}, attempt{Proto: "udp", To: at(nodeIP(c.Node(2), six), firstPort), Size: size},
				attempt{Proto: "udp", To: at(c.pods["friend1"].ip(six), firstPort), Size: size}, attempt{Proto: "udp", To: at(c.serviceIP("far", six), 80), Size: size})
		}
		for _, a := range attempts { // one after the other: fragments wait in a queue of a bounded size
			c.all("datagrams in fragments arrive", from, []attempt{a})
		}
	}
}

// serviceIP is a service's address of a family.
func (c *town) serviceIP(name string, six bool) string {
	if six {
		return c.ips[name][1]
	}
	return c.ips[name][0]
}

// narrow: a router on the way to the outside has less room, and says so to the pod
// behind the node's address.
func (c *town) narrow(from *pod) {
	c.T.Helper()
	const room = 1300
	set := func(ctx context.Context, mtu int) error {
		_, err := c.Router(ctx, fmt.Sprintf("%s mtu world %d", c.Program("probe"), mtu))
		return err
	}
	if err := set(c.T.Context(), room); err != nil {
		c.T.Fatal(err)
	}
	c.Finally(func(ctx context.Context) error { return set(ctx, 1500) })
	for _, six := range []bool{false, true} {
		c.errors(from, []attempt{{Proto: "ping", To: outsideIP(six), Size: c.mtu}}, func(attempt) string {
			return fmt.Sprintf(`^too big %d from %s$`, room, regexp.QuoteMeta(routerIP(six)))
		})
		c.all("4 MiB find their way", from, []attempt{{Proto: "tcp", To: at(outsideIP(six), firstPort), Size: 4 << 20, Wait: 20 * time.Second}})
	}
}
