// SPDX-License-Identifier: Apache-2.0

// Command traffic makes traffic that is counted, and answers it, for tests of a
// cluster: no packet lost is a number here.
//
//	traffic serve                      echo by TCP and UDP on port 7000, and count by sender;
//	                                   HTTP on port 7080, which answers who asks
//	traffic call NAME=KIND,ADDRESS…    call until it is ended, and count
//	traffic ask URL                    what a caller answers: /counts, /stop; what an echo does: /heard
//	traffic admin SOCKET PATH          what an HTTP server on a socket of this machine answers
//	traffic health ADDRESS             the status of a call of the gRPC health service
//
// KIND is stream (one TCP connection, a number each 10 ms), request (a TCP connection
// each 20 ms), datagram (a UDP socket, a number each 10 ms) or probe (each 30 ms). Each
// number must come back; one by TCP before the next is sent. Or KIND is web (HTTP/1.1, a
// request each 10 ms on a connection that is kept), visit (a connection for each, every 20 ms)
// or web2 (HTTP/2, without TLS, as web); ADDRESS is then a URL. Each must be answered with 200, and
// the server must see the caller's own address.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"
)

const (
	echoPort  = ":7000"
	tellPort  = ":7001"
	usageText = "usage: traffic serve | call NAME=KIND,ADDRESS… | ask URL | admin SOCKET PATH | health ADDRESS"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "traffic:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	switch {
	case len(args) == 1 && args[0] == "serve":
		return serve()
	case len(args) > 1 && args[0] == "call":
		return call(args[1:])
	case len(args) == 2 && args[0] == "ask":
		return ask(http.DefaultClient, args[1])
	case len(args) == 3 && args[0] == "admin":
		// The address of a socket has room for a short path only.
		if err := os.Chdir(filepath.Dir(args[1])); err != nil {
			return err
		}
		return ask(&http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", filepath.Base(args[1]))
		}}}, "http://admin"+args[2])
	case len(args) == 2 && args[0] == "health":
		return health(args[1])
	}
	return errors.New(usageText)
}

func ask(client *http.Client, url string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	answer, err := client.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = answer.Body.Close() }()
	_, err = io.Copy(os.Stdout, answer.Body)
	return err
}

// serve gives back what comes.
func serve() error {
	ctx := context.Background()
	heard := &senders{count: make(map[string]int)}
	told := make(chan error, 1)
	go func() { told <- heard.tell() }() // ends with the process
	go func() { told <- serveWeb() }()
	var config net.ListenConfig
	udp, err := config.ListenPacket(ctx, "udp", echoPort)
	if err != nil {
		return err
	}
	if err := holdMuch(udp); err != nil {
		return err
	}
	tcp, err := config.Listen(ctx, "tcp", echoPort)
	if err != nil {
		return err
	}
	go echoDatagrams(udp, heard) // ends with the process
	go func() { told <- echoStreams(tcp, heard) }()
	return <-told
}

// holdMuch has a socket keep what comes while a busy machine does not let this process
// run: what is lost so is not the network's loss. The kernel gives up to net.core.rmem_max.
func holdMuch(conn any) error {
	return conn.(interface{ SetReadBuffer(bytes int) error }).SetReadBuffer(4 << 20)
}

func echoStreams(tcp net.Listener, heard *senders) error {
	for {
		conn, err := tcp.Accept()
		if err != nil {
			return err
		}
		heard.one(conn.RemoteAddr())
		go func() { // ends with the connection
			defer func() { _ = conn.Close() }()
			_, _ = io.Copy(conn, conn)
		}()
	}
}

func echoDatagrams(udp net.PacketConn, heard *senders) {
	buf := make([]byte, 2048)
	for {
		n, from, err := udp.ReadFrom(buf)
		if err == nil {
			heard.one(from)
			_, _ = udp.WriteTo(buf[:n], from)
		}
	}
}
