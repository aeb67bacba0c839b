// SPDX-License-Identifier: Apache-2.0

package k8s

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/weftmesh/weft/pkg/api/v1alpha1"
)

const kubeconfig = `{apiVersion: v1, kind: Config, current-context: c,
clusters: [{name: k, cluster: {server: "SERVER"}}],
contexts: [{name: c, context: {cluster: k}}]}`

func TestClientWritesStatusWhereItBelongs(t *testing.T) {
	var seen []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		seen = append(seen, r.Method+" "+r.URL.Path, r.Header.Get("User-Agent"), string(body))
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(body)
	}))
	defer server.Close()
	path := filepath.Join(t.TempDir(), "kubeconfig")
	if err := os.WriteFile(path, []byte(strings.Replace(kubeconfig, "SERVER", server.URL, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := Config(path, "weft-agent/test")
	if err != nil {
		t.Fatal(err)
	}
	c, err := NewClient(cfg)
	if err != nil {
		t.Fatal(err)
	}
	node := &v1alpha1.WeftNode{ObjectMeta: named("node-1"), Status: v1alpha1.NodeStatus{AgentVersion: "1.2.3"}}
	got, err := c.Nodes.UpdateStatus(t.Context(), node, metav1.UpdateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if got.Status.AgentVersion != "1.2.3" {
		t.Errorf("got %+v", got)
	}
	want := []string{"PUT /apis/weftmesh.io/v1alpha1/weftnodes/node-1/status", "weft-agent/test"}
	for i, w := range want {
		if seen[i] != w {
			t.Errorf("sent %q, want %q", seen[i], w)
		}
	}
	if !strings.Contains(seen[2], `"kind":"WeftNode"`) {
		t.Errorf("the body has no kind: %s", seen[2])
	}
}

func TestConfigSaysHowToReachTheServer(t *testing.T) {
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	if _, err := Config("", "x"); err == nil || !strings.Contains(err.Error(), "kubernetes.kubeconfig") {
		t.Errorf("outside of a pod: %v", err)
	}
	if _, err := Config("/nonexistent", "x"); err == nil || !strings.Contains(err.Error(), "/nonexistent") {
		t.Errorf("without the file: %v", err)
	}
}
