// SPDX-License-Identifier: Apache-2.0

package connectivity

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"
)

// Ports of the pods: two of TCP, so that a policy can tell them apart, and one of UDP.
const (
	portTCP   = 8080
	portOther = 8081
	portUDP   = 8080
)

// Serve answers with its name on the ports of the pods, over IPv4 and IPv6, until
// ctx ends. On portTCP, /ready is for the kubelet, and /probed tells how often that
// was asked.
func Serve(ctx context.Context, name string) error {
	ended := make(chan error, 3)
	var probed atomic.Int64
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, name) })
	mux.HandleFunc("/ready", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, probed.Add(1)) })
	mux.HandleFunc("/probed", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, probed.Load()) })
	for _, port := range []int{portTCP, portOther} {
		s := &http.Server{Addr: ":" + strconv.Itoa(port), Handler: mux, ReadHeaderTimeout: 5 * time.Second}
		defer s.Close()
		go func() { ended <- s.ListenAndServe() }() // ends with Close
	}
	udp, err := net.ListenUDP("udp", &net.UDPAddr{Port: portUDP})
	if err != nil {
		return fmt.Errorf("listening for UDP: %w", err)
	}
	defer udp.Close()
	go func() { ended <- answer(udp, name) }() // ends with Close
	select {
	case <-ctx.Done():
		return nil
	case err := <-ended:
		return err
	}
}

func answer(udp *net.UDPConn, name string) error {
	buf := make([]byte, 1024)
	for {
		_, from, err := udp.ReadFromUDPAddrPort(buf)
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("reading UDP: %w", err)
		}
		// The answer may be refused, as when whoever asked is gone; the next may not.
		_, _ = udp.WriteToUDPAddrPort([]byte(name), from)
	}
}
