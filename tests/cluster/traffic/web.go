// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"time"
)

const webPort = ":7080"

func plainProtocols() *http.Protocols {
	p := new(http.Protocols)
	p.SetHTTP1(true)
	p.SetUnencryptedHTTP2(true)
	return p
}

// serveWeb answers each request with the address of who asks.
func serveWeb() error {
	s := &http.Server{Addr: webPort, ReadHeaderTimeout: answerIn, Protocols: plainProtocols(),
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, hostOf(r.RemoteAddr)) })}
	return s.ListenAndServe()
}

func hostOf(address string) string {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return address
	}
	return host
}

// web, visit and web2 make requests over HTTP.
func (c *caller) web(url string, n *counts) { c.requests(&http.Transport{}, url, n, every) }

func (c *caller) visit(url string, n *counts) {
	c.requests(&http.Transport{DisableKeepAlives: true}, url, n, 2*every)
}

func (c *caller) web2(url string, n *counts) { c.requests(http2Only(), url, n, every) }

func http2Only() *http.Transport {
	p := new(http.Protocols)
	p.SetUnencryptedHTTP2(true)
	return &http.Transport{Protocols: p}
}

func (c *caller) requests(by *http.Transport, url string, n *counts, pace time.Duration) {
	client := &http.Client{Transport: by, Timeout: answerIn}
	for c.wait(pace) {
		n.sent()
		begun := time.Now()
		if err := get(client, url); err != nil {
			n.refused(err, time.Since(begun))
			continue
		}
		n.answered()
	}
	by.CloseIdleConnections()
}

// get wants 200, and that the server saw the address that the caller has.
func get(client *http.Client, url string) error {
	own := ""
	ctx := httptrace.WithClientTrace(context.Background(), &httptrace.ClientTrace{
		GotConn: func(i httptrace.GotConnInfo) { own = hostOf(i.Conn.LocalAddr().String()) }})
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	answer, err := client.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = answer.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(answer.Body, 1<<16))
	switch {
	case err != nil:
		return err
	case answer.StatusCode != http.StatusOK:
		return fmt.Errorf("%s: %.200s", answer.Status, body)
	case string(body) != own:
		return fmt.Errorf("the server sees %.100q, not %s", body, own)
	}
	return nil
}

// refused notes a request that failed, and how long that took.
func (c *counts) refused(err error, took time.Duration) {
	c.failed(err)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.SlowMS = max(c.SlowMS, took.Milliseconds())
}

// health calls the gRPC health service, and prints what became of the call: its status
// and message.
func health(address string) error {
	ctx, cancel := context.WithTimeout(context.Background(), answerIn)
	defer cancel()
	// An empty request in a frame: not compressed, of length 0.
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+address+"/grpc.health.v1.Health/Check", bytes.NewReader(make([]byte, 5)))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/grpc")
	request.Header.Set("TE", "trailers")
	answer, err := (&http.Client{Transport: http2Only()}).Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = answer.Body.Close() }()
	if _, err := io.Copy(io.Discard, answer.Body); err != nil {
		return err
	}
	for _, from := range []http.Header{answer.Trailer, answer.Header} {
		if status := from.Get("Grpc-Status"); status != "" {
			_, err := fmt.Println(status, from.Get("Grpc-Message"))
			return err
		}
	}
	return errors.New("the answer has no status of gRPC: " + answer.Status)
}
