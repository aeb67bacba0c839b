// SPDX-License-Identifier: Apache-2.0

package l7

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/weftmesh/weft/agent/envoys"
	"github.com/weftmesh/weft/envoy/accesslog"
	"github.com/weftmesh/weft/envoy/bootstrap"
	"github.com/weftmesh/weft/envoy/server"
	"github.com/weftmesh/weft/envoy/supervise"
	"github.com/weftmesh/weft/envoy/xds"
	"github.com/weftmesh/weft/pkg/cgroup"
	"github.com/weftmesh/weft/pkg/model"
	"github.com/weftmesh/weft/tests/sandbox"
)

// agent is the part of an agent that Envoys in pods have to do with; ruleset 1, which
// lets /a pass, is in force.
type agent struct {
	*node
	dir    string // of the node's sockets
	server *server.Server
	grpc   *grpc.Server
}

func (n *node) agent() *agent {
	n.Helper()
	a := &agent{node: n, dir: n.TempDir()}
	a.start()
	n.Cleanup(func() { a.grpc.Stop() })
	return a
}

// kernel is the node's, from wherever it is told.
type kernel struct{ *node }

func (k kernel) SetProxy(p model.Proxy) error {
	return k.ns.Do(func() error { return k.dp.SetProxy(p) })
}
func (k kernel) PreferredBlock() (uint8, error) { return k.dp.PreferredBlock() }

// Set has nothing to do: the node has the way to proxies.
func (k kernel) Set(bool) error { return nil }

// start begins as an agent does that knows nothing but what the kernel has.
func (a *agent) start() {
	a.Helper()
	pods, err := envoys.NewPods(kernel{a.node}, kernel{a.node}, cgroupMount(a))
	ok(a, err)
	a.server = server.New(xds.Options{}, filepath.Join(a.dir, server.SnapshotFile), slog.New(slog.NewTextHandler(a.Output(), nil)))
	a.server.Admit(pods.Admit)
	a.grpc = grpc.NewServer()
	a.server.Register(a.grpc)
	accesslog.New(func(accesslog.Event) {}).Register(a.grpc)
	ok(a, pods.Set(true))
	a.server.Update(model.Rulesets{Revision: 1, List: []model.Ruleset{{ID: 1, Rules: []model.RulesetRule{{
		Policy: model.PolicyKey{Kind: "WeftNetworkPolicy", Namespace: "demo", Name: "web"}, Name: "ingress[0].toPorts[0]",
		Direction: model.Ingress, L7: model.L7{HTTP: []model.HTTPRule{{Path: "/a"}}}}}}}})
	for _, name := range []string{bootstrap.ADSSocket, bootstrap.ALSSocket} {
		path := filepath.Join(a.dir, name)
		_ = os.Remove(path) // of the agent before, or of who stood in
		l, err := net.Listen("unix", path)
		ok(a, err)
		l.(*net.UnixListener).SetUnlinkOnClose(false) // as if it was killed
		srv := a.grpc
		go func() { _ = srv.Serve(l) }() // until it is stopped
	}
}

func (a *agent) stop() { a.grpc.Stop() }

func cgroupMount(t testing.TB) string {
	t.Helper()
	mount, err := cgroup.FindMount()
	ok(t, err)
	return mount
}

// envoyPod is an Envoy in a control group such as a kubelet makes for a pod.
type envoyPod struct {
	*agent
	dir   string // of its own
	group string // of the pod
	cmd   *exec.Cmd
	log   *sandbox.Output
	ended chan error
}

func (a *agent) envoyPod(uid string) *envoyPod {
	a.Helper()
	bin, err := sandbox.BinDir()
	ok(a, err)
	binary, err := sandbox.Envoy()
	ok(a, err)
	e := &envoyPod{agent: a, dir: a.TempDir(), log: &sandbox.Output{}, ended: make(chan error, 1),
		group: filepath.Join(cgroupMount(a), "kubepods", "burstable", "pod"+uid)}
	ok(a, os.MkdirAll(filepath.Join(e.group, "container"), 0o755))
	group, err := os.Open(filepath.Join(e.group, "container"))
	ok(a, err)
	defer group.Close()
	e.cmd = exec.Command(filepath.Join(bin, "weft-envoy"), "pod", "--envoy="+binary, "--run-dir="+a.dir, "--dir="+e.dir,
		"--node=test", "--pod="+uid, "--drain=10s", "--concurrency=2")
	e.cmd.Stdout, e.cmd.Stderr = e.log, e.log
	e.cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(group.Fd())}
	a.Cleanup(e.remove)
	within(a.T, a.ns, e.cmd.Start)
	go func() { e.ended <- e.cmd.Wait() }() // until it ends, which remove sees to
	return e
}

// remove ends what is left of the pod, as a runtime does.
func (e *envoyPod) remove() {
	if err := os.WriteFile(filepath.Join(e.group, "cgroup.kill"), []byte("1"), 0); err != nil {
		e.Error(err)
	}
	ok(e, sandbox.Eventually(context.Background(), soon, "the pod's group is empty", func() error {
		if err := os.Remove(filepath.Join(e.group, "container")); err != nil {
			return err
		}
		return os.Remove(e.group)
	}))
	if e.Failed() {
		e.Logf("the Envoy of %s:\n%s", filepath.Base(e.group), e.log)
	}
}

// ready waits until another Envoy may go for this one.
func (e *envoyPod) ready() {
	e.Helper()
	ok(e, sandbox.Eventually(e.Context(), soon, "the Envoy is ready", func() error {
		select {
		case err := <-e.ended:
			e.Fatalf("it has ended: %v\n%s", err, e.log)
		default:
		}
		return supervise.Health(e.Context(), e.dir)
	}))
}

// end asks it to end, and tells how long that took.
func (e *envoyPod) end() time.Duration {
	e.Helper()
	start := time.Now()
	ok(e, e.cmd.Process.Signal(syscall.SIGTERM))
	select {
	case err := <-e.ended:
		ok(e, err)
	case <-time.After(soon):
		e.Fatal("it does not end")
	}
	return time.Since(start)
}

// admin asks Envoy itself.
func (e *envoyPod) admin(path string) (string, error) {
	c := &http.Client{Timeout: atOnce, Transport: &http.Transport{DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", filepath.Join(e.dir, bootstrap.AdminSocket))
		}}}
	status, text, err := get(c, "http://envoy"+path)
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("%s: %d", path, status)
	}
	return text, err
}

// connections is how many clients it has had.
func (e *envoyPod) connections() int {
	e.Helper()
	text, err := e.admin("/stats?filter=^http.weft.downstream_cx_total$")
	ok(e, err)
	_, value, _ := strings.Cut(text, ":")
	n, err := strconv.Atoi(strings.TrimSpace(value))
	if text != "" {
		ok(e, err)
	}
	return n
}

// load asks all the time, by both families, on connections that are kept and on new ones.
type load struct {
	quit chan struct{}
	wait sync.WaitGroup
	mu   sync.Mutex
	done [4]int
	bad  []error
}

func startLoad(t *testing.T, from *sandbox.NS, server *pod) *load {
	t.Helper()
	l := &load{quit: make(chan struct{})}
	for i := range l.done {
		tr := &http.Transport{DisableKeepAlives: i%2 == 1, DialContext: func(_ context.Context, network, addr string) (net.Conn, error) {
			return from.Dial(network, addr, soon)
		}}
		c := &http.Client{Transport: tr, Timeout: soon}
		url := "http://" + server.at(i/2, 80) + "/a"
		l.wait.Go(func() { // until it is stopped
			defer tr.CloseIdleConnections()
			for l.goesOn() {
				l.note(i, post(c, url))
				time.Sleep(2 * time.Millisecond) // as clients do
			}
		})
	}
	return l
}

func (l *load) goesOn() bool {
	select {
	case <-l.quit:
		return false
	default:
		return true
	}
}

func (l *load) note(i int, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.done[i]++
	if err != nil {
		l.bad = append(l.bad, fmt.Errorf("%v: %w", time.Now().Format(time.StampMilli), err))
	}
}

// stop asserts that every request was answered.
func (l *load) stop(t *testing.T) {
	t.Helper()
	close(l.quit)
	l.wait.Wait()
	t.Logf("requests by IPv4 kept, new, by IPv6 kept, new: %v", l.done)
	for i, err := range l.bad {
		if i == 10 {
			t.Errorf("and %d more", len(l.bad)-i)
			break
		}
		t.Error(err)
	}
}

// post is never sent again by the client itself: it has a body.
func post(c *http.Client, url string) error {
	req, err := http.NewRequest(http.MethodPost, url, io.NopCloser(strings.NewReader("body")))
	if err != nil {
		return err
	}
	resp, err := c.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if text, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%d %q, %v", resp.StatusCode, text, err)
	}
	return nil
}
