// SPDX-License-Identifier: Apache-2.0

//go:build cluster

package scale

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/klog/v2"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/weftmesh/weft/pkg/k8s"
	"github.com/weftmesh/weft/tests/apiserver"
	"github.com/weftmesh/weft/tests/level"
	"github.com/weftmesh/weft/tests/sandbox"
)

const (
	root      = "../.."
	account   = "system:serviceaccount:weft-system:weft-operator"
	namespace = "scale"
	deadline  = 3 * time.Minute // generous: the machine may be busy
)

// world is what all tests share: one API server with the CRDs, and the operator.
type world struct {
	dir    string
	server *apiserver.Server
	client client.Client // may do everything
}

var theWorld = &world{}

// TestMain runs everything on a host of its own, on which a real agent may attach its
// programs.
func TestMain(m *testing.M) {
	sandbox.Enter()
	klog.SetSlogLogger(slog.New(slog.DiscardHandler))
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
	if w.dir, err = os.MkdirTemp("", "weft-scale-test"); err != nil {
		return 1, err
	}
	defer os.RemoveAll(w.dir)
	if w.server, err = apiserver.Start(ctx, root, w.dir, account); err != nil {
		return 1, err
	}
	defer w.server.Stop()
	scheme, err := k8s.Scheme()
	if err != nil {
		return 1, err
	}
	if w.client, err = client.New(w.server.Config(apiserver.Admin), client.Options{Scheme: scheme}); err != nil {
		return 1, err
	}
	if err := apiserver.Install(ctx, w.client, root, root+"/tests/operator/testdata/rights.yaml"); err != nil {
		return 1, err
	}
	if err := w.client.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}); err != nil {
		return 1, err
	}
	stop, err := w.operate()
	if err != nil {
		return 1, err
	}
	defer stop()
	return m.Run(), nil
}

// operate starts the operator, which ends with stop, and at the latest with the host.
func (w *world) operate() (stop func(), err error) {
	bin, err := sandbox.BinDir()
	if err != nil {
		return nil, err
	}
	kubeconfig, err := w.server.Kubeconfig(account)
	if err != nil {
		return nil, err
	}
	config := filepath.Join(w.dir, "operator.yaml")
	text := fmt.Sprintf("kubernetes: {enabled: true, kubeconfig: %s}\nclusterCIDRs: [10.244.0.0/16, \"fd00:10:244::/48\"]\noperator: {metricsAddress: \"127.0.0.1:9466\"}\n", kubeconfig)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return nil, err
	}
	log, err := os.Create(filepath.Join(w.dir, "operator.log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd := exec.Command(filepath.Join(bin, "weft-operator"), "--config", config)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Env = append(os.Environ(), "POD_NAMESPACE=weft-system")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting the operator: %w", err)
	}
	return func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
	}, nil
}

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

// eventually waits until what is asked holds; the full numbers take their time.
func eventually(ctx context.Context, what string, ask func() error) error {
	within := deadline
	if level.Long() {
		within *= 10
	}
	return sandbox.Eventually(ctx, within, what, ask)
}
