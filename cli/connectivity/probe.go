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
	answer, err := p.call(ctx)
	o := Outcome{Answer: answer, Took: time.Since(begun)}
	if err != nil {
		o.Failure, o.Detail = failure(err), err.Error()
	}
	return o
}

func (p Probe) call(ctx context.Context) (answer string, err error) {
	if p.Kind == KindDNS {
		return p.dns(ctx)
	}
	if p.Address, err = p.resolved(ctx); err != nil {
		return "", err
	}
	switch p.Kind {
	case KindHTTP:
		return p.http(ctx)
	case KindTCP:
		return p.tcp(ctx)
	case KindUDP:
		return p.udp(ctx)
	}
	return "", fmt.Errorf("no kind of probe is called %q", p.Kind)
}

// nameError is a name that was not resolved, by which one that is slow to resolve
// is told from a peer that does not answer.
type nameError struct {
	name  string
	cause error
}

func (e nameError) Error() string {
	var dns *net.DNSError
	if errors.As(e.cause, &dns) && dns.IsTimeout || errors.Is(e.cause, context.DeadlineExceeded) {
		return "the name " + e.name + " was not resolved: no answer from the cluster's DNS"
	}
	return fmt.Sprintf("the name %s was not resolved: %v", e.name, e.cause)
}

// resolved is the address with the first address of its name, of the family.
func (p Probe) resolved(ctx context.Context) (string, error) {
	hostPort, path, _ := strings.Cut(p.Address, "/")
	host, port, err := net.SplitHostPort(hostPort)
	if err != nil || net.ParseIP(host) != nil {
		return p.Address, err
	}
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, p.network("ip"), host)
	if err != nil {
		return "", nameError{host, err}
	}
	return net.JoinHostPort(addrs[0].Unmap().String(), port) + strings.TrimSuffix("/"+path, "/"), nil
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
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, p.network("ip"), p.Address)
	if err != nil {
		return "", nameError{p.Address, err}
	}
	var out []string
	for _, a := range addrs {
		out = append(out, a.Unmap().String())
	}
	slices.Sort(out)
	return strings.Join(slices.Compact(out), ","), nil
}

func failure(err error) string {
	var name nameError
	var timeout net.Error
	switch {
	case errors.As(err, &name):
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
