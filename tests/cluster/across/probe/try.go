// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
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

// Attempt is something to try. Proto is tcp, udp, ping, dns, http or tls.
type Attempt struct {
	Proto string
	To    string        // HOST:PORT; of ping an address; of dns a name; of http an URL
	Via   string        // of dns: the server, HOST:PORT
	Size  int           // bytes to send; of ping the size of the IP packet
	Wait  time.Duration // 0: 2 s
}

// Answer is what came of it. Without Error it succeeded.
type Answer struct {
	Who   string // answers
	Saw   string // is the address that they see
	Error string // "timeout", "refused", "not permitted", "too big MTU from ADDRESS", or more
	MS    int64
}

func answerOf(err error) Answer {
	var timeout net.Error
	switch {
	case err == nil:
		return Answer{}
	case errors.As(err, &timeout) && timeout.Timeout(), errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded):
		return Answer{Error: "timeout"}
	case errors.Is(err, syscall.ECONNREFUSED):
		return Answer{Error: "refused"}
	case errors.Is(err, syscall.EPERM):
		return Answer{Error: "not permitted"}
	}
	return Answer{Error: err.Error()}
}

// tryAll tries everything at the same time.
func tryAll(attempts []Attempt) []Answer {
	out := make([]Answer, len(attempts))
	var all sync.WaitGroup
	for i, a := range attempts {
		all.Go(func() {
			begun := time.Now()
			out[i] = a.try()
			out[i].MS = time.Since(begun).Milliseconds()
		})
	}
	all.Wait()
	return out
}

func (a Attempt) try() Answer {
	if a.Wait == 0 {
		a.Wait = 2 * time.Second
	}
	ctx, cancel := context.WithTimeout(context.Background(), a.Wait)
	defer cancel()
	switch a.Proto {
	case "tcp", "udp":
		return a.exchange(ctx)
	case "ping":
		return a.ping()
	case "dns":
		return a.resolve(ctx)
	case "http":
		return a.get(ctx)
	case "tls":
		d := tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true}} //nolint:gosec // whether there is somebody, not who
		conn, err := d.DialContext(ctx, "tcp", a.To)
		if err == nil {
			_ = conn.Close()
		}
		return answerOf(err)
	}
	return Answer{Error: "no such protocol: " + a.Proto}
}

// bytes are size bytes, the same each time.
func bytesOf(size int) []byte {
	b := make([]byte, size)
	for i := range b {
		b[i] = byte(i * 7 >> 3) //nolint:gosec // any byte
	}
	return b
}

func (a Attempt) exchange(ctx context.Context) Answer {
	var d net.Dialer
	conn, err := d.DialContext(ctx, a.Proto, a.To)
	if err != nil {
		return answerOf(err)
	}
	defer func() { _ = conn.Close() }()
	deadline, _ := ctx.Deadline()
	_ = conn.SetDeadline(deadline)
	payload := bytesOf(a.Size)
	if a.Proto == "tcp" {
		payload = append(binary.BigEndian.AppendUint64(nil, uint64(a.Size)), payload...) //nolint:gosec // never negative
	}
	if _, err := conn.Write(payload); err != nil {
		return answerOf(err)
	}
	line, rest, err := receive(conn, a)
	if err != nil {
		return answerOf(err)
	}
	var out Answer
	var sum uint32
	if _, err := fmt.Sscanf(line, "%s %s %x", &out.Who, &out.Saw, &sum); err != nil {
		return Answer{Error: fmt.Sprintf("answered by %q", line)}
	}
	if want := crc32.ChecksumIEEE(bytesOf(a.Size)); sum != want || a.Proto == "udp" && crc32.ChecksumIEEE(rest) != want {
		out.Error = "other bytes came than were sent"
	}
	return out
}

func receive(conn net.Conn, a Attempt) (line string, rest []byte, err error) {
	if a.Proto == "tcp" {
		line, err = bufio.NewReader(conn).ReadString('\n')
		return line, nil, err
	}
	buf := make([]byte, 1<<16)
	n, err := conn.Read(buf)
	if err != nil {
		return "", nil, err
	}
	line, tail, _ := strings.Cut(string(buf[:n]), "\n")
	return line, []byte(tail), nil
}

// resolve asks for both families; Who is what there is, in order.
func (a Attempt) resolve(ctx context.Context) Answer {
	r := net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
		var d net.Dialer
		if a.Via != "" {
			address = a.Via
		}
		return d.DialContext(ctx, network, address)
	}}
	found, err := r.LookupHost(ctx, a.To)
	if err != nil {
		return Answer{Error: err.Error()}
	}
	slices.Sort(found)
	return Answer{Who: strings.Join(found, ",")}
}

func (a Attempt) get(ctx context.Context) Answer {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, a.To, nil)
	if err != nil {
		return answerOf(err)
	}
	answer, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(request)
	if err != nil {
		return answerOf(err)
	}
	defer func() { _ = answer.Body.Close() }()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		return answerOf(err)
	}
	host, _, err := net.SplitHostPort(string(body))
	if err != nil {
		host = string(body)
	}
	return Answer{Who: answer.Status, Saw: host}
}
