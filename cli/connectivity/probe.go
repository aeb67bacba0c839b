// SPDX-License-Identifier: Apache-2.0

// Package connectivity tries a cluster's network as its users see it: it makes pods,
// services and policies in namespaces of its own, lets the pods call each other, and
// compares what happened with what should have.
package connectivity

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// How a probe calls.
const (
	KindHTTP = "http" // a request, answered with the name of the pod that serves
	KindTCP  = "tcp"  // a connection, no more
	KindUDP  = "udp"  // a datagram, answered as a request of HTTP is
	KindDNS  = "dns"  // the addresses of a name
)

// Failures of a probe.
const (
	FailTimeout     = "timeout" // as when packets are dropped
	FailRefused     = "refused"
	FailUnreachable = "unreachable"
	FailName        = "name" // it could not be resolved
	FailOther       = "other"
)

// Probe is one call, made from where it is run.
type Probe struct {
	Kind    string        `json:"kind"`
	Family  int           `json:"family,omitempty"` // 4 or 6; 0: any
	Address string        `json:"address"`          // host:port, of HTTP with a path if it has one, of DNS a name
	Timeout time.Duration `json:"timeout"`
}

// Outcome is what became of a probe.
type Outcome struct {
	Answer  string        `json:"answer,omitempty"`
	Failure string        `json:"failure,omitempty"` // empty: it was answered
	Detail  string        `json:"detail,omitempty"`
	Took    time.Duration `json:"took"`
}

// RunProbes reads probes as JSON and writes their outcomes, in the same order. All
// run at once.
func RunProbes(ctx context.Context, in io.Reader, out io.Writer) error {
	var probes []Probe
	if err := json.NewDecoder(in).Decode(&probes); err != nil {
		return fmt.Errorf("reading probes from standard input: %w", err)
	}
	outcomes := make([]Outcome, len(probes))
	var wg sync.WaitGroup
	for i, p := range probes {
		wg.Go(func() { outcomes[i] = p.run(ctx) })
	}
	wg.Wait()
	return json.NewEncoder(out).Encode(outcomes)
}

func (p Probe) run(ctx context.Context) Outcome {
	ctx, cancel := context.WithTimeout(ctx, p.Timeout)
	defer cancel()
	begun := time.Now()
	var answer string
	var err error
	switch p.Kind {
	case KindHTTP:
		answer, err = p.http(ctx)
	case KindTCP:
		answer, err = p.tcp(ctx)
	case KindUDP:
		answer, err = p.udp(ctx)
	case KindDNS:
		answer, err = p.dns(ctx)
	default:
		err = fmt.Errorf("no kind of probe is called %q", p.Kind)
	}
	o := Outcome{Answer: answer, Took: time.Since(begun)}
	if err != nil {
		o.Failure, o.Detail = failure(err), err.Error()
	}
	return o
}

// network is that of package net for a protocol.
func (p Probe) network(protocol string) string {
	switch p.Family {
	case 4:
		return protocol + "4"
	case 6:
		return protocol + "6"
	}
	return protocol
}

func (p Probe) http(ctx context.Context) (string, error) {
	var d net.Dialer
	c := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, address string) (net.Conn, error) {
		return d.DialContext(ctx, p.network("tcp"), address)
	}}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.Address, nil)
	if err != nil {
		return "", err
	}
	res, err := c.Do(req)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, 1024))
	return string(body), err
}

func (p Probe) tcp(ctx context.Context) (string, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, p.network("tcp"), p.Address)
	if err != nil {
		return "", err
	}
	return "connected", conn.Close()
}

func (p Probe) udp(ctx context.Context) (string, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, p.network("udp"), p.Address)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if until, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(until); err != nil {
			return "", err
		}
	}
	if _, err := conn.Write([]byte("who")); err != nil {
		return "", err
	}
	answer := make([]byte, 1024)
	n, err := conn.Read(answer)
	return string(answer[:n]), err
}

func (p Probe) dns(ctx context.Context) (string, error) {
	network := map[int]string{4: "ip4", 6: "ip6"}[p.Family]
	if network == "" {
		network = "ip"
	}
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, network, p.Address)
	var out []string
	for _, a := range addrs {
		out = append(out, a.Unmap().String())
	}
	slices.Sort(out)
	return strings.Join(slices.Compact(out), ","), err
}

func failure(err error) string {
	var dns *net.DNSError
	var timeout net.Error
	switch {
	case errors.As(err, &dns):
		return FailName
	case errors.Is(err, syscall.ECONNREFUSED):
		return FailRefused
	case errors.Is(err, syscall.ENETUNREACH), errors.Is(err, syscall.EHOSTUNREACH):
		return FailUnreachable
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return FailTimeout
	}
	return FailOther
}
