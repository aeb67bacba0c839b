// SPDX-License-Identifier: Apache-2.0

//go:build cluster

package operator

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/weftmesh/weft/pkg/api/v1alpha1"
	"github.com/weftmesh/weft/pkg/k8s"
	"github.com/weftmesh/weft/tests/apiserver"
)

const (
	root     = "../.."
	account  = "system:serviceaccount:weft-system:weft-operator"
	system   = "weft-system"
	deadline = 30 * time.Second // generous: the machine may be busy
)

// world is what all tests share: one API server with the CRDs and the operator's
// rights.
type world struct {
	dir, kubeconfig, binary string
	client                  client.Client // may do everything
	server                  *apiserver.Server
}

var theWorld = &world{}

func TestMain(m *testing.M) {
	code, err := setUp(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func setUp(m *testing.M) (int, error) {
	ctx := context.Background()
	w := theWorld
	var err error
	if w.dir, err = os.MkdirTemp("", "weft-operator-test"); err != nil {
		return 1, err
	}
	defer os.RemoveAll(w.dir)
	w.binary = filepath.Join(w.dir, "weft-operator")
	build := exec.Command("go", "build", "-o", w.binary, root+"/operator")
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		return 1, fmt.Errorf("building the operator: %w", err)
	}
	if w.server, err = apiserver.Start(ctx, root, w.dir, account); err != nil {
		return 1, err
	}
	defer w.server.Stop()
	if w.kubeconfig, err = w.server.Kubeconfig(account); err != nil {
		return 1, err
	}
	scheme, err := k8s.Scheme()
	if err != nil {
		return 1, err
	}
	if w.client, err = client.New(w.server.Config(apiserver.Admin), client.Options{Scheme: scheme}); err != nil {
		return 1, err
	}
	if err := w.install(ctx); err != nil {
		return 1, err
	}
	return m.Run(), nil
}

// install makes the CRDs as the chart has them, the namespace, and the rights.
func (w *world) install(ctx context.Context) error {
	files, err := filepath.Glob(root + "/daemonset/chart/crd/*.yaml")
	if err != nil || len(files) == 0 {
		return fmt.Errorf("looking for CRDs: %v, %w", files, err)
	}
	for _, f := range append(files, "testdata/rights.yaml") {
		text, err := os.ReadFile(f)
		if err != nil {
			return err
		}
		if err := w.create(ctx, string(text)); err != nil {
			return fmt.Errorf("%s: %w", f, err)
		}
	}
	admission, err := exec.Command(root+"/build/tools/helm", "template", "weft", root+"/daemonset/chart", "--show-only", "templates/policies.yaml").Output()
	if err != nil {
		return fmt.Errorf("rendering the chart's admission of policies (make helm builds helm): %w", err)
	}
	if err := w.create(ctx, string(admission)); err != nil {
		return fmt.Errorf("the chart's admission of policies: %w", err)
	}
	for end := time.Now().Add(deadline); ; time.Sleep(100 * time.Millisecond) {
		err := errors.Join(w.client.List(ctx, &v1alpha1.WeftIdentityList{}), w.client.List(ctx, &v1alpha1.WeftNodeList{}),
			w.client.List(ctx, &v1alpha1.WeftEndpointSliceList{}), w.client.List(ctx, &v1alpha1.WeftNetworkPolicyList{}),
			w.client.List(ctx, &v1alpha1.WeftClusterNetworkPolicyList{}))
		if err == nil || time.Now().After(end) {
			return err
		}
	}
}

// create makes the objects of a file.
func (w *world) create(ctx context.Context, text string) error {
	for _, doc := range strings.Split(strings.TrimPrefix(text, "---\n"), "\n---\n") {
		obj := &unstructured.Unstructured{}
		if err := yaml.Unmarshal([]byte(doc), &obj.Object); err != nil {
			return err
		}
		if err := w.client.Create(ctx, obj); err != nil {
			return err
		}
	}
	return nil
}

// clear removes what a test has made, and the Lease.
func (w *world) clear(t *testing.T) {
	ctx := context.Background()
	background := client.GracePeriodSeconds(0)
	var namespaces corev1.NamespaceList
	must(t, w.client.List(ctx, &namespaces))
	for i := range namespaces.Items {
		ns := client.InNamespace(namespaces.Items[i].Name)
		must(t, w.client.DeleteAllOf(ctx, &corev1.Pod{}, ns, background))
		must(t, w.client.DeleteAllOf(ctx, &v1alpha1.WeftNetworkPolicy{}, ns))
	}
	for _, o := range []client.Object{&corev1.Node{}, &v1alpha1.WeftNode{}, &v1alpha1.WeftEndpointSlice{},
		&v1alpha1.WeftIdentity{}, &v1alpha1.WeftClusterNetworkPolicy{}} {
		must(t, w.client.DeleteAllOf(ctx, o))
	}
	lease := &unstructured.Unstructured{}
	lease.SetAPIVersion("coordination.k8s.io/v1")
	lease.SetKind("Lease")
	lease.SetNamespace(system)
	lease.SetName("weft-operator")
	must(t, client.IgnoreNotFound(w.client.Delete(ctx, lease)))
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// process is an operator that runs.
type process struct {
	t    *testing.T
	cmd  *exec.Cmd
	url  string
	mu   sync.Mutex
	log  bytes.Buffer
	done chan struct{}
}

// operate starts an operator with settings beside those that all have. It ends
// with the test.
func operate(t *testing.T, settings string) *process {
	t.Helper()
	w := theWorld
	if !strings.Contains(settings, "clusterCIDRs") {
		settings += pools
	}
	config := filepath.Join(t.TempDir(), "config.yaml")
	address := "127.0.0.1:" + freePort(t)
	text := fmt.Sprintf("kubernetes:\n  enabled: true\n  kubeconfig: %s\noperator:\n  metricsAddress: %s\n%s", w.kubeconfig, address, settings)
	must(t, os.WriteFile(config, []byte(text), 0o600))
	p := &process{t: t, url: "http://" + address, done: make(chan struct{})}
	p.cmd = exec.Command(w.binary, "--config", config)
	p.cmd.Env = append(os.Environ(), "POD_NAMESPACE="+system)
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := p.cmd.StderrPipe()
	must(t, err)
	must(t, p.cmd.Start())
	go p.read(out)
	t.Cleanup(func() {
		_ = p.cmd.Process.Signal(syscall.SIGCONT)
		p.end(syscall.SIGTERM)
		if t.Failed() {
			p.mu.Lock()
			defer p.mu.Unlock()
			t.Logf("log of the operator:\n%s", p.log.String())
		}
	})
	return p
}

func (p *process) read(out io.Reader) {
	defer close(p.done)
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		p.mu.Lock()
		p.log.WriteString(lines.Text() + "\n")
		p.mu.Unlock()
	}
}

// end sends a signal and waits for the process.
func (p *process) end(s syscall.Signal) {
	_ = p.cmd.Process.Signal(s)
	kill := time.AfterFunc(deadline, func() { _ = p.cmd.Process.Kill() })
	defer kill.Stop()
	<-p.done
	_ = p.cmd.Wait()
}

func (p *process) said(text string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Contains(p.log.String(), text)
}

// page is the body that a path of the operator has.
func (p *process) page(path string) (string, error) {
	resp, err := http.Get(p.url + path)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s: %s", path, resp.Status, body)
	}
	return string(body), err
}

// leads waits until this operator leads.
func (p *process) leads() *process {
	p.t.Helper()
	eventually(p.t, "the operator leads", func() error { return p.has("weft_operator_leader 1") })
	return p
}

// has tells whether a line of /metrics is there.
func (p *process) has(line string) error {
	body, err := p.page("/metrics")
	if err == nil && !strings.Contains(body, line+"\n") {
		err = fmt.Errorf("no metric %s", line)
	}
	return err
}

// eventually waits until what is asked holds.
func eventually(t *testing.T, what string, ask func() error) {
	t.Helper()
	var err error
	for end := time.Now().Add(deadline); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if err = ask(); err == nil {
			return
		}
	}
	t.Fatalf("%s: %v", what, err)
}

// throughout fails if what is asked stops to hold within a time.
func throughout(t *testing.T, d time.Duration, what string, ask func() error) {
	t.Helper()
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if err := ask(); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
}

// namespace makes one for a test.
func namespace(t *testing.T, name string, labels map[string]string) {
	t.Helper()
	err := theWorld.client.Create(context.Background(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}})
	must(t, err)
}

func pod(ns, name string, labels map[string]string) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name, Labels: labels},
		Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "none"}}}}
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	must(t, err)
	return port
}
