// SPDX-License-Identifier: Apache-2.0

package speed

import (
	"bytes"
	"fmt"
	"strconv"
)

const webBody = 1 << 10 // bytes of each request and each answer

// exchange is a protocol of requests, as one connection speaks it: bytes in and out,
// no more. It is far cheaper than what clients and servers use, so that it is the
// proxy that is measured.
type exchange interface {
	// hello adds what is sent before all else.
	hello(out []byte) []byte
	// request adds a request.
	request(out []byte) []byte
	// read takes what is whole, and tells how many bytes that were, and how many
	// answers, or requests, were among them. What it has to say itself it adds to out.
	read(in []byte, out *[]byte) (used, messages int, err error)
	// atOnce is how many requests may wait for their answers.
	atOnce() int
}

type protocol struct{ client, server func(fresh bool) exchange }

// Ports of the protocols at a server.
const (
	http1Port = 8080
	grpcPort  = 8081
)

func protocols() map[string]protocol {
	return map[string]protocol{
		"http1": {client: func(fresh bool) exchange { return newHTTP1Client(fresh) }, server: func(bool) exchange { return newHTTP1Server() }},
		"grpc":  {client: func(bool) exchange { return newGRPCEnd(false) }, server: func(bool) exchange { return newGRPCEnd(true) }},
	}
}

// http1 is either end of a connection of HTTP/1.1.
type http1 struct {
	says  []byte // each time
	wants []byte // begin of what comes
	reply bool   // to each message at once
}

func newHTTP1Client(fresh bool) *http1 {
	closing := ""
	if fresh {
		closing = "Connection: close\r\n"
	}
	head := fmt.Sprintf("POST /orders/42 HTTP/1.1\r\nHost: web.demo\r\nUser-Agent: bench\r\nAccept: */*\r\nContent-Type: application/json\r\nX-Tenant: a\r\n%sContent-Length: %d\r\n\r\n", closing, webBody)
	return &http1{says: withBody(head), wants: []byte("HTTP/1.1 200")}
}

func newHTTP1Server() *http1 {
	head := fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nCache-Control: no-store\r\nContent-Length: %d\r\n\r\n", webBody)
	return &http1{says: withBody(head), wants: []byte("POST /orders/42 "), reply: true}
}

func withBody(head string) []byte {
	return append([]byte(head), bytes.Repeat([]byte("b"), webBody)...)
}

func (h *http1) hello(out []byte) []byte   { return out }
func (h *http1) request(out []byte) []byte { return append(out, h.says...) }
func (h *http1) atOnce() int               { return 1 }

func (h *http1) read(in []byte, out *[]byte) (used, messages int, err error) {
	for {
		end := bytes.Index(in[used:], []byte("\r\n\r\n"))
		if end < 0 {
			return used, messages, nil
		}
		head := in[used : used+end+2]
		if !bytes.HasPrefix(head, h.wants) {
			return 0, 0, fmt.Errorf("got %q", head)
		}
		length, err := contentLength(head)
		if err != nil {
			return 0, 0, err
		}
		if used+end+4+length > len(in) {
			return used, messages, nil
		}
		used += end + 4 + length
		messages++
		if h.reply {
			*out = append(*out, h.says...)
		}
	}
}

func contentLength(head []byte) (int, error) {
	for line := range bytes.Lines(head) {
		if name, value, ok := bytes.Cut(line, []byte(":")); ok && bytes.EqualFold(name, []byte("content-length")) {
			return strconv.Atoi(string(bytes.TrimSpace(value)))
		}
	}
	return 0, fmt.Errorf("no length in %q", head)
}
