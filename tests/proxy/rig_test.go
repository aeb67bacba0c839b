// SPDX-License-Identifier: Apache-2.0

// Package proxy tests what the real Envoy does with rulesets: reached directly, with
// no kernel programs, so that what is tested is Envoy and what is told to it.
package proxy

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/weftmesh/weft/envoy/accesslog"
	"github.com/weftmesh/weft/envoy/bootstrap"
	"github.com/weftmesh/weft/envoy/server"
	"github.com/weftmesh/weft/envoy/xds"
	"github.com/weftmesh/weft/pkg/model"
	"github.com/weftmesh/weft/tests/sandbox"
)

func TestMain(m *testing.M) { sandbox.Main(m) }

const soon = 20 * time.Second // for what must happen

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// within waits until a condition holds.
func within(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(soon); !holds(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %v", what, soon)
		}
	}
}

// rig is an agent's side, and a proxy.
type rig struct {
	t       testing.TB
	dir     string
	options xds.Options
	xds     *server.Server
	agent   *grpc.Server // both services
	counter *pushes
	events  *events
	envoy   *exec.Cmd
	log     *sandbox.Output
	rev     model.Revision
	program int // the greatest expression for Envoy; 0: as weft-envoy has it
}

// newRig starts both, with a backend to which all goes that passes.
func newRig(t testing.TB, backend netip.AddrPort, rulesets ...model.Ruleset) *rig {
	return newRigWith(t, xds.Options{Backend: backend}, rulesets...)
}

func newRigWith(t testing.TB, o xds.Options, rulesets ...model.Ruleset) *rig {
	return (&rig{t: t, dir: t.TempDir(), options: o, events: &events{}}).start(rulesets...)
}

func (r *rig) start(rulesets ...model.Ruleset) *rig {
	r.startAgent()
	r.startEnvoy()
	r.update(rulesets...)
	return r
}

// startAgent serves what an agent serves; nothing is in force before an update.
func (r *rig) startAgent() {
	r.xds = server.New(r.options, filepath.Join(r.dir, server.SnapshotFile), slog.New(slog.NewTextHandler(testWriter{r.t}, nil)))
	r.counter = &pushes{}
	r.agent = grpc.NewServer(grpc.StreamInterceptor(r.counter.intercept))
	r.xds.Register(r.agent)
	accesslog.New(r.events.add).Register(r.agent)
	for _, name := range []string{bootstrap.ADSSocket, bootstrap.ALSSocket} {
		path := filepath.Join(r.dir, name)
		_ = os.Remove(path) // of the agent before
		l, err := net.Listen("unix", path)
		ok(r.t, err)
		go func() { _ = r.agent.Serve(l) }() // until the server stops
	}
	r.t.Cleanup(r.agent.Stop)
}

func (r *rig) bootstrap() string {
	text, err := bootstrap.Build(bootstrap.Config{Node: "test", RunDir: r.dir, MaxHeapBytes: 1 << 30, MaxConnections: 10000})
	ok(r.t, err)
	if r.program > 0 {
		less := bytes.ReplaceAll(text, []byte("20000"), []byte(strconv.Itoa(r.program)))
		if bytes.Equal(less, text) {
			r.t.Fatal("the bound of expressions is not found")
		}
		text = less
	}
	path := filepath.Join(r.dir, "envoy.json")
	ok(r.t, os.WriteFile(path, text, 0o600))
	return path
}

func (r *rig) startEnvoy() {
	binary, err := sandbox.Envoy()
	ok(r.t, err)
	r.log = &sandbox.Output{}
	r.envoy = exec.Command(binary, "-c", r.bootstrap(), "--concurrency", "2", "-l", "warn", "--disable-hot-restart")
	r.envoy.Stdout, r.envoy.Stderr = r.log, r.log
	r.envoy.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	ok(r.t, r.envoy.Start())
	envoy := r.envoy
	r.t.Cleanup(func() {
		_ = envoy.Process.Kill()
		_ = envoy.Wait()
		if r.t.Failed() {
			r.t.Log("Envoy:\n" + r.log.String())
		}
	})
	within(r.t, "proxy connects", func() bool { return r.xds.Connected() > 0 })
}

// update brings rulesets into force.
func (r *rig) update(rulesets ...model.Ruleset) {
	r.t.Helper()
	r.rev++
	r.xds.Update(model.Rulesets{Revision: r.rev, List: rulesets})
	ctx, stop := context.WithTimeout(context.Background(), soon)
	defer stop()
	if err := r.xds.WaitAcknowledged(ctx, r.rev); err != nil {
		r.t.Fatalf("%v\nstatus: %+v\nEnvoy:\n%s", err, r.xds.Status(), r.log)
	}
	for _, rs := range rulesets {
		if !slices.ContainsFunc(r.xds.FaultList(), func(f xds.Fault) bool { return f.Ruleset == rs.ID }) {
			r.listening(rs.ID)
		}
	}
}

func (r *rig) listening(id model.RulesetID) {
	r.t.Helper()
	within(r.t, fmt.Sprintf("ruleset %d listens", id), func() bool {
		c, err := net.DialTimeout("tcp", addr(id), time.Second)
		if err != nil {
			return false
		}
		_ = c.Close()
		return true
	})
}

func addr(id model.RulesetID) string {
	return fmt.Sprintf("127.0.0.1:%d", model.ProxyPort(0, id))
}

// events are what the sink was told.
type events struct {
	mu  sync.Mutex
	all []accesslog.Event
}

func (e *events) add(ev accesslog.Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.all = append(e.all, ev)
}

// wait for an event that is as wanted.
func (e *events) wait(t testing.TB, what string, is func(accesslog.Event) bool) (found accesslog.Event) {
	t.Helper()
	within(t, "event of "+what, func() bool {
		e.mu.Lock()
		defer e.mu.Unlock()
		i := slices.IndexFunc(e.all, is)
		if i >= 0 {
			found = e.all[i]
		}
		return i >= 0
	})
	return found
}

type testWriter struct{ t testing.TB }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Log(strings.TrimSpace(string(p)))
	return len(p), nil
}

// backend serves HTTP/1 and HTTP/2 without TLS.
func backend(t testing.TB, h http.Handler) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ok(t, err)
	srv := &http.Server{Handler: h, Protocols: new(http.Protocols)}
	srv.Protocols.SetHTTP1(true)
	srv.Protocols.SetUnencryptedHTTP2(true)
	go func() { _ = srv.Serve(l) }() // until it is closed
	t.Cleanup(func() { _ = srv.Close() })
	return netip.MustParseAddrPort(l.Addr().String())
}
