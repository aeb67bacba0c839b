// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/klog/v2"
	"k8s.io/streaming/pkg/httpstream"
)

// Executor runs a command in a container until ctx ends or the command does.
type Executor interface {
	Exec(ctx context.Context, pod Pod, command []string, streams remotecommand.StreamOptions) error
}

// Pod names a container of a pod.
type Pod struct{ Namespace, Name, Container string }

// apiExecutor goes through the API server, as kubectl exec does.
type apiExecutor struct {
	config *rest.Config
	core   rest.Interface
}

// Exec takes a WebSocket, and SPDY where a server or a proxy knows only that.
func (e apiExecutor) Exec(ctx context.Context, pod Pod, command []string, streams remotecommand.StreamOptions) error {
	url := e.core.Post().Resource("pods").Namespace(pod.Namespace).Name(pod.Name).SubResource("exec").
		VersionedParams(&corev1.PodExecOptions{
			Container: pod.Container, Command: command,
			Stdin: streams.Stdin != nil, Stdout: streams.Stdout != nil, Stderr: streams.Stderr != nil,
		}, scheme.ParameterCodec).URL()
	socket, err := remotecommand.NewWebSocketExecutor(e.config, "GET", url.String())
	if err != nil {
		return err
	}
	spdy, err := remotecommand.NewSPDYExecutor(e.config, "POST", url)
	if err != nil {
		return err
	}
	both, err := remotecommand.NewFallbackExecutor(socket, spdy, func(err error) bool {
		return httpstream.IsUpgradeFailure(err) || httpstream.IsHTTPSProxyError(err)
	})
	if err != nil {
		return err
	}
	// What it would log, it returns, too; or it tells that the other side was closed.
	return both.StreamWithContext(klog.NewContext(ctx, logr.Discard()), streams)
}

// Run runs a command in a pod and returns what it wrote to standard output. A
// command that failed is an error with the last line of its standard error.
func Run(ctx context.Context, e Executor, pod Pod, stdin io.Reader, command ...string) ([]byte, error) {
	var stdout, stderr bytes.Buffer
	err := e.Exec(ctx, pod, command, remotecommand.StreamOptions{Stdin: stdin, Stdout: &stdout, Stderr: &stderr})
	return stdout.Bytes(), withStderr(err, stderr.String())
}

func withStderr(err error, stderr string) error {
	lines := strings.Split(strings.TrimSpace(stderr), "\n")
	if err == nil || lines[0] == "" {
		return err
	}
	return fmt.Errorf("%s (%w)", strings.TrimPrefix(lines[0], "weft: "), err)
}

// stream is a connection made of the standard input and output of a command that
// runs in a pod. Its deadlines do nothing: gRPC over it sets none.
type stream struct {
	io.Reader
	in   *io.PipeWriter
	out  *io.PipeReader
	stop context.CancelFunc
	name string

	mu    sync.Mutex
	fault error
}

// connect starts the command. It lives until Close; ctx bounds nothing of it, as a
// dialer's context ends when it has dialled.
func connect(e Executor, pod Pod, command ...string) *stream {
	ctx, stop := context.WithCancel(context.Background())
	inR, inW := io.Pipe()
	outR, outW := io.Pipe()
	s := &stream{Reader: outR, in: inW, out: outR, stop: stop, name: pod.Namespace + "/" + pod.Name}
	// It ends with the command, or by Close.
	go func() {
		var stderr bytes.Buffer
		err := withStderr(e.Exec(ctx, pod, command, remotecommand.StreamOptions{Stdin: inR, Stdout: outW, Stderr: &stderr}), stderr.String())
		if err == nil {
			err = errors.New("the command in the pod ended")
		}
		s.mu.Lock()
		s.fault = err
		s.mu.Unlock()
		inR.CloseWithError(err)
		outW.CloseWithError(err)
	}()
	return s
}

// Fault is why the command ended, or nil while it runs.
func (s *stream) Fault() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.fault
}

func (s *stream) Write(p []byte) (int, error) { return s.in.Write(p) }

// Close ends standard input first, which ends the command, then the stream.
func (s *stream) Close() error {
	s.in.Close()
	s.out.Close()
	s.stop()
	return nil
}

func (s *stream) LocalAddr() net.Addr              { return podAddr("weft") }
func (s *stream) RemoteAddr() net.Addr             { return podAddr(s.name) }
func (s *stream) SetDeadline(time.Time) error      { return nil }
func (s *stream) SetReadDeadline(time.Time) error  { return nil }
func (s *stream) SetWriteDeadline(time.Time) error { return nil }

type podAddr string

func (podAddr) Network() string  { return "pod" }
func (a podAddr) String() string { return string(a) }
