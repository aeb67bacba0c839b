// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"strings"
	"testing"

	"github.com/weftmesh/weft/pkg/model"
)

func TestFilterKeeps(t *testing.T) {
	def := DefaultFilter()
	for key, want := range map[string]bool{
		"app": true, "app.kubernetes.io/name": true, "kubernetes.io/metadata.name": true,
		"pod-template-hash": false, "controller-revision-hash": false, "pod-template-generation": false,
		"statefulset.kubernetes.io/pod-name": false, "apps.kubernetes.io/pod-index": false,
		"batch.kubernetes.io/job-completion-index": false, "batch.kubernetes.io/controller-uid": false,
		"job-name": false, "controller-uid": false, "deployment.kubernetes.io/some-hash": false,
	} {
		if got := def.Keeps(key); got != want {
			t.Errorf("default filter: %s: got %v", key, got)
		}
	}
	for _, c := range []struct {
		include, exclude, keeps, drops string
	}{
		{"", "", "app a.b/c", ""},
		{"app", "", "app", "apps my-app"},
		{"app*", "apple*", "app apps app/x", "apple apple/x b"},
		{"*", "*/x", "a/y x", "a/x a/b/x"},
		{"a*b*c", "", "abc aXbYc abbc abcc", "ab acb xabc"},
		{"a*a", "", "aa aba", "a"},
	} {
		f, err := NewFilter(strings.Fields(c.include), strings.Fields(c.exclude))
		if err != nil {
			t.Fatal(err)
		}
		for _, key := range strings.Fields(c.keeps) {
			if !f.Keeps(key) {
				t.Errorf("include %q, exclude %q: drops %s", c.include, c.exclude, key)
			}
		}
		for _, key := range strings.Fields(c.drops) {
			if f.Keeps(key) {
				t.Errorf("include %q, exclude %q: keeps %s", c.include, c.exclude, key)
			}
		}
	}
}

func TestFilterRefusesWhatIsNoPattern(t *testing.T) {
	for _, bad := range []string{"", "a b", "^app$", "k8s:app", "[ab]", "app=x"} {
		_, err := NewFilter(nil, []string{"app", bad})
		if err == nil || !strings.Contains(err.Error(), "exclude: [1]: ") {
			t.Errorf("%q: got %v", bad, err)
		}
	}
}

func TestLabelsOf(t *testing.T) {
	pod := model.Pod{
		PodKey: model.PodKey{Namespace: "shop", Name: "web-0"},
		Labels: map[string]string{
			"app": "web", "pod-template-hash": "abc",
			"io.kubernetes.pod.namespace":           "kube-system",
			"io.cilium.k8s.namespace.labels.team":   "root",
			"io.cilium.k8s.policy.serviceaccount":   "admin",
			"io.cilium.k8s.policy.cluster":          "other",
			"io.cilium.k8s.namespace.labels-others": "kept",
		},
		ServiceAccount: "web",
	}
	ns := model.Namespace{Name: "shop", Labels: map[string]string{"team": "red", "kubernetes.io/metadata.name": "shop"}}
	want := strings.Join([]string{
		"k8s:app=web",
		"k8s:io.cilium.k8s.namespace.labels-others=kept",
		"k8s:io.cilium.k8s.namespace.labels.kubernetes.io/metadata.name=shop",
		"k8s:io.cilium.k8s.namespace.labels.team=red",
		"k8s:io.cilium.k8s.policy.cluster=east",
		"k8s:io.cilium.k8s.policy.serviceaccount=web",
		"k8s:io.kubernetes.pod.namespace=shop",
	}, "\n")
	if got := LabelsOf(pod, ns, "east", DefaultFilter()).Key(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	pod.ServiceAccount = ""
	got := LabelsOf(pod, ns, "", DefaultFilter())
	if v, _ := got.Get("k8s", model.LabelServiceAccount); v != "default" {
		t.Errorf("service account %q", v)
	}
	if _, ok := got.Get("k8s", model.LabelCluster); ok {
		t.Error("a cluster without a name has a label")
	}
}
