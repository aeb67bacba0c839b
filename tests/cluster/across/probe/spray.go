// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// spray sends datagrams to addresses of which most are nobody's yet.
func spray(name, mark, ms string, ranges []string) error {
	every, err := strconv.Atoi(ms)
	if err != nil {
		return err
	}
	var targets []*net.UDPAddr
	for _, r := range ranges {
		first, count, _ := strings.Cut(r, "+")
		ip, err := netip.ParseAddr(first)
		if err != nil {
			return err
		}
		n, err := strconv.Atoi(count)
		if err != nil {
			return fmt.Errorf("range %q: want FIRST+COUNT", r)
		}
		for range n {
			targets = append(targets, net.UDPAddrFromAddrPort(netip.AddrPortFrom(ip, firstPort)))
			ip = ip.Next()
		}
	}
	conn, err := net.ListenPacket("udp", ":0")
	if err != nil {
		return err
	}
	go func() { // ends with the process
		for {
			for _, to := range targets {
				_, _ = conn.WriteTo([]byte(mark), to) // most have no one to receive them
			}
			time.Sleep(time.Duration(every) * time.Millisecond)
		}
	}()
	return newServer(name).run()
}
